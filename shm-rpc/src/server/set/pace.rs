//! What time it is, at a price that a call of 100 ns can bear: the clock is read once per so many turns, as many as lately took
//! about 4 µs.

use crate::clock;
use crate::spin::current_cpu;

/// How long the clock may stand still, as far as turns are alike.
const TICK: u64 = 4_000;
/// The most turns between two looks at the clock.
const TURNS: u32 = 32;
/// How long a channel that rings waits at most while others are served, beside the turns that are under way.
const LOOK_EVERY: u64 = 20_000;

/// The serving thread's clock.
#[derive(Debug)]
pub(super) struct Pace {
    now: u64,
    /// How often the clock was read.
    ticks: u32,
    left: u32,
    turns: u32,
    looked: u64,
    cpu: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { now: clock::now(), ticks: 0, left: 1, turns: 1, looked: 0, cpu: current_cpu() }
    }

    /// The time of the last look at the clock, and its number.
    pub(super) const fn time(&self) -> (u64, u32) {
        (self.now, self.ticks)
    }

    /// The CPU that the thread runs on, plus one.
    pub(super) const fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Some turns have passed: calls served, or rings found empty.
    #[inline]
    pub(super) fn spend(&mut self, turns: u32) {
        if self.left > turns {
            self.left -= turns;
        } else {
            self.tick(clock::now());
        }
    }

    #[cold]
    fn tick(&mut self, now: u64) {
        let took = now.saturating_sub(self.now).max(1);
        self.turns = (u64::from(self.turns) * TICK / took).clamp(1, u64::from(TURNS)) as u32;
        self.left = self.turns;
        self.now = now;
        self.ticks = self.ticks.wrapping_add(1);
        self.cpu = current_cpu();
    }

    /// Whether it is time to ask who has rung.
    #[inline]
    pub(super) fn is_look_due(&self) -> bool {
        self.now.saturating_sub(self.looked) >= LOOK_EVERY
    }

    /// That was asked now, perhaps after a long sleep.
    pub(super) fn looked(&mut self) {
        self.tick(clock::now());
        self.looked = self.now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read_as_often_as_turns_are_long() {
        let mut pace = Pace { now: 0, ticks: 0, left: 1, turns: 1, looked: 0, cpu: 0 };
        let mut now = 0;
        let mut run = |pace: &mut Pace, turn: u64, count: u32| {
            for _ in 0..count {
                now += turn;
                if pace.left > 1 {
                    pace.left -= 1;
                } else {
                    pace.tick(now);
                }
            }
            pace.turns
        };
        assert_eq!(run(&mut pace, 100, 200), 32);
        assert_eq!(run(&mut pace, 1_000, 200), 4);
        assert_eq!(run(&mut pace, 1_000_000, 8), 1);
        assert_eq!(run(&mut pace, 1_000, 200), 4);
        assert!(pace.is_look_due());
        pace.looked = now;
        assert!(!pace.is_look_due());
    }
}
