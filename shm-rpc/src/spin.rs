//! Spinning before sleeping: where it can pay, and for how long.
//!
//! Waking a sleeper on another CPU costs tens of microseconds, on the same CPU a few. So a thread whose peer runs elsewhere spins
//! for a while first, and one whose peer runs here gives way to it. How long spinning has lately paid decides how long it is tried:
//!
//! ```text
//!                four waits in a row that spinning did not cover
//!   Long (20 µs) ────────────────────────────────────────────────▶ Short (3 µs; now and then, ever more rarely, 120 µs)
//!                ◀────────────────────────────────────────────────
//!                one that it did cover
//! ```
//! The rare long try is what lets two sides find each other again that have both fallen into sleeping: it covers the wake of the
//! peer, whose short spin then covers the next message.

use std::time::Duration;

use nix::sched::sched_getcpu;

use crate::memory::{OwnMemory, PeerMemory};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::{Deadline, clock, control};

const LONG: u64 = 20_000;
const SHORT: u64 = 3_000;
const TRY: u64 = 120_000;
/// For those who have a CPU to spare.
const DEDICATED: u64 = 1_000_000;
/// Waits in a row that are not covered, before spinning becomes short.
const PATIENT_FOR: u32 = 4;
/// Waits between two long tries, at first and at most.
const TRY_EVERY: u32 = 32;
const TRY_AT_LEAST_EVERY: u32 = 4096;
/// How often a thread gives way to a peer on its own CPU before it sleeps.
const YIELDS: u32 = 2;
/// A yield that takes longer ran into somebody else's time slice: none for fifty times as long.
const YIELD_TOO_LONG: Duration = Duration::from_micros(100);
/// Polls between looks at the clock.
const POLLS: u32 = 32;

/// How a thread waits for its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patience {
    /// Spins for as long as that has lately paid, at most 20 µs, then sleeps.
    #[default]
    Adaptive,
    /// Sleeps at once: for those who would rather wait than burn.
    Park,
    /// Spins for up to a millisecond, then sleeps: for those who have a CPU to spare, and whose peer takes longer to get ready than
    /// spinning pays for (filling a large payload, say), but must not wait for a wake then.
    Spin,
}

/// What an end has learned about waiting. Several threads may teach it at once; a lost lesson is no harm.
#[derive(Debug)]
pub(crate) struct Learned {
    patience: Patience,
    /// The CPU that the peer was told last, plus one.
    told_cpu: AtomicU32,
    uncovered: AtomicU32,
    next_try: AtomicU32,
    try_every: AtomicU32,
    no_yield_until: AtomicU64,
}

impl Learned {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            told_cpu: AtomicU32::new(0),
            uncovered: AtomicU32::new(0),
            next_try: AtomicU32::new(0),
            try_every: AtomicU32::new(TRY_EVERY),
            no_yield_until: AtomicU64::new(0),
        }
    }

    /// Whether it may spin at all.
    pub(crate) fn may_spin(&self) -> bool {
        self.patience != Patience::Park
    }

    /// Tells the peer where this side runs: `here` is the CPU's number plus one.
    #[inline]
    pub(crate) fn tell_cpu(&self, own: &OwnMemory, here: u32) {
        if self.told_cpu.load(Relaxed) != here {
            self.told_cpu.store(here, Relaxed);
            control::store_cpu(own, here);
        }
    }

    /// How long the next wait should spin.
    #[inline]
    pub(crate) fn budget(&self) -> u64 {
        if self.patience == Patience::Spin {
            return DEDICATED;
        }
        if self.uncovered.load(Relaxed) < PATIENT_FOR {
            return LONG;
        }
        let left = self.next_try.load(Relaxed);
        if left > 0 {
            self.next_try.store(left - 1, Relaxed);
            return SHORT;
        }
        let every = self.try_every.load(Relaxed);
        self.next_try.store(every, Relaxed);
        self.try_every.store((every * 2).min(TRY_AT_LEAST_EVERY), Relaxed);
        TRY
    }

    /// What was waited for came while it was spun for.
    #[inline]
    pub(crate) fn covered(&self) {
        if self.uncovered.load(Relaxed) != 0 {
            self.uncovered.store(0, Relaxed);
            self.try_every.store(TRY_EVERY, Relaxed);
        }
    }

    /// It did not.
    pub(crate) fn not_covered(&self) {
        let uncovered = self.uncovered.load(Relaxed);
        if uncovered < PATIENT_FOR {
            self.uncovered.store(uncovered + 1, Relaxed);
            self.next_try.store(self.try_every.load(Relaxed), Relaxed);
        }
    }
}

/// The number of the CPU that this thread runs on, plus one; 0: unknown.
#[inline]
pub(crate) fn current_cpu() -> u32 {
    sched_getcpu().map_or(0, |it| it as u32 + 1)
}

/// What a wait does before it sleeps.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Poll { budget: u64 },
    Yield { left: u32 },
    Nothing,
}

/// One wait's spinning. Dropped, it teaches what it has learned.
#[derive(Debug)]
pub(crate) struct Spin<'a> {
    learned: &'a Learned,
    plan: Plan,
    polls: u32,
    until: Option<u64>,
    looked: Option<u64>,
    deadline: u64,
}

/// What to do after a look that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turn {
    /// Look again.
    Again,
    /// Spinning does not pay any more.
    Sleep,
}

impl<'a> Spin<'a> {
    /// Tells the peer where this side runs, and compares.
    #[inline]
    pub(crate) fn new(learned: &'a Learned, own: &OwnMemory, peer: &PeerMemory, deadline: Option<Deadline>) -> Self {
        let here = current_cpu();
        learned.tell_cpu(own, here);
        let plan = match learned.patience {
            Patience::Park => Plan::Nothing,
            Patience::Adaptive | Patience::Spin if here != 0 && control::load_cpu(peer) == here => {
                Plan::Yield { left: YIELDS }
            }
            Patience::Adaptive | Patience::Spin => Plan::Poll { budget: learned.budget() },
        };
        Self {
            learned,
            plan,
            polls: 0,
            until: None,
            looked: None,
            deadline: deadline.map_or(u64::MAX, Deadline::as_nanos),
        }
    }

    /// What was waited for is there.
    #[inline]
    pub(crate) fn found(&self) {
        if let Plan::Poll { .. } = self.plan {
            self.learned.covered();
        }
    }

    /// The time at the last look at the clock, if there was one: at most [`POLLS`] polls ago.
    #[inline]
    pub(crate) const fn last_look(&self) -> Option<u64> {
        self.looked
    }

    /// Waits a moment.
    #[inline]
    pub(crate) fn turn(&mut self) -> Turn {
        match self.plan {
            Plan::Poll { budget } => {
                std::hint::spin_loop();
                self.polls += 1;
                if self.polls.is_multiple_of(POLLS) { self.look_at_clock(budget) } else { Turn::Again }
            }
            Plan::Yield { left } => self.give_way(left),
            Plan::Nothing => Turn::Sleep,
        }
    }

    #[cold]
    fn look_at_clock(&mut self, budget: u64) -> Turn {
        let now = clock::now();
        self.looked = Some(now);
        let until = *self.until.get_or_insert(now.saturating_add(budget).min(self.deadline));
        if now < until {
            return Turn::Again;
        }
        self.learned.not_covered();
        Turn::Sleep
    }

    #[cold]
    fn give_way(&mut self, left: u32) -> Turn {
        let before = clock::now();
        if left == 0 || before < self.learned.no_yield_until.load(Relaxed) {
            return Turn::Sleep;
        }
        std::thread::yield_now();
        let now = clock::now();
        let took = now - before;
        if took > YIELD_TOO_LONG.as_nanos() as u64 {
            self.learned.no_yield_until.store(now + 50 * took, Relaxed);
        }
        self.plan = Plan::Yield { left: left - 1 };
        Turn::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_cpu_to_spare_goes_on_spinning_when_it_does_not_pay() {
        let learned = Learned::new(Patience::Spin);
        for _ in 0..10 * PATIENT_FOR {
            assert_eq!(learned.budget(), DEDICATED);
            learned.not_covered();
        }
        assert!(learned.may_spin() && !Learned::new(Patience::Park).may_spin());
    }

    #[test]
    fn spinning_that_does_not_pay_becomes_short_and_is_tried_ever_more_rarely() {
        let learned = Learned::new(Patience::Adaptive);
        for _ in 0..PATIENT_FOR {
            assert_eq!(learned.budget(), LONG);
            learned.not_covered();
        }
        let mut gaps = Vec::new();
        let mut gap = 0;
        for _ in 0..20_000 {
            match learned.budget() {
                SHORT => gap += 1,
                TRY => gaps.push(std::mem::take(&mut gap)),
                other => panic!("{other}"),
            }
            learned.not_covered();
        }
        assert_eq!(gaps[..3], [TRY_EVERY, TRY_EVERY, 2 * TRY_EVERY]);
        assert_eq!(gaps.last(), Some(&TRY_AT_LEAST_EVERY));
        learned.covered();
        assert_eq!(learned.budget(), LONG);
    }
}
