//! Spinning before sleeping: when it can pay, and for how long.

use std::time::Duration;

use nix::sched::sched_getcpu;

use crate::memory::{OwnMemory, PeerMemory};
use crate::{Deadline, clock, control};

/// How long a thread spins for an answer that may come from another CPU: less than half of what one wake costs there.
const BUDGET: Duration = Duration::from_micros(20);

/// Polls between looks at the clock.
const POLLS: u32 = 32;

/// One wait's spinning.
#[derive(Debug)]
pub(crate) struct Spin {
    polls: u32,
    until: Option<u64>,
    budget: u64,
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

impl Spin {
    /// Tells the peer where this side runs, and compares.
    #[inline]
    pub(crate) fn new(own: &OwnMemory, peer: &PeerMemory, deadline: Option<Deadline>) -> Self {
        let here = sched_getcpu().ok().and_then(|it| u32::try_from(it).ok());
        if let Some(here) = here {
            control::store_cpu(own, here);
        }
        // On one CPU the peer cannot answer while this side spins.
        let same = here.is_some() && control::peer_cpu(peer) == here;
        let budget = if same { 0 } else { BUDGET.as_nanos() as u64 };
        Self { polls: 0, until: None, budget, deadline: deadline.map_or(u64::MAX, Deadline::as_nanos) }
    }

    /// Waits a moment.
    #[inline]
    pub(crate) fn turn(&mut self) -> Turn {
        if self.budget == 0 {
            return Turn::Sleep;
        }
        std::hint::spin_loop();
        self.polls += 1;
        if !self.polls.is_multiple_of(POLLS) {
            return Turn::Again;
        }
        let now = clock::now();
        let until = *self.until.get_or_insert(now.saturating_add(self.budget).min(self.deadline));
        if now >= until { Turn::Sleep } else { Turn::Again }
    }
}
