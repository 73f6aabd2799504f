//! When `step` wants to be reminded of what.

use std::collections::{BTreeSet, HashMap};

use crate::lifecycle::{Mono, Timer};

/// All timers that are set, by time and by name.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Mono, Timer)>,
    by_name: HashMap<Timer, Mono>,
}

impl Timers {
    /// Sets a timer; one of the same name is moved.
    pub fn set(&mut self, timer: Timer, at: Mono) {
        if let Some(before) = self.by_name.insert(timer.clone(), at) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the earliest that is due.
    pub fn due(&mut self, now: Mono) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_name.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use mortise_control::WorkerId;

    use super::*;

    fn ready(slot: u32) -> Timer {
        Timer::Ready(WorkerId { slot, generation: 1 })
    }

    #[test]
    fn they_come_in_the_order_of_their_times_and_each_once() {
        let mut timers = Timers::default();
        timers.set(ready(2), Mono(20));
        timers.set(ready(1), Mono(10));
        assert_eq!(timers.next(), Some(Mono(10)));
        assert_eq!(timers.due(Mono(9)), None);
        assert_eq!(timers.due(Mono(30)), Some(ready(1)));
        assert_eq!(timers.due(Mono(30)), Some(ready(2)));
        assert_eq!((timers.due(Mono(30)), timers.next()), (None, None));
    }

    #[test]
    fn setting_one_again_moves_it() {
        let mut timers = Timers::default();
        timers.set(ready(1), Mono(10));
        timers.set(ready(1), Mono(50));
        assert_eq!(timers.due(Mono(49)), None);
        assert_eq!(timers.due(Mono(50)), Some(ready(1)));
        timers.set(ready(1), Mono(60));
        timers.set(ready(1), Mono(5));
        assert_eq!(timers.due(Mono(5)), Some(ready(1)));
        assert_eq!(timers.due(Mono(100)), None, "the later one is gone");
    }
}
