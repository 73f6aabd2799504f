//! Deadlines: absolute moments of CLOCK_MONOTONIC, the same number in every process of the machine.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The moment after which a call must not start and its caller no longer waits: CLOCK_MONOTONIC in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(now().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// From CLOCK_MONOTONIC nanoseconds, as another process has given them.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// CLOCK_MONOTONIC nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(self) -> bool {
        now() >= self.0
    }

    /// Whether it has passed, at less than the price of a look at the clock while it is far away from `lately`: a time of a moment
    /// ago, or of the coarse clock, which lags by a tick or two. (A moment is longer only while the thread does not run, which can
    /// as well happen between any look at a clock and what follows it.)
    #[inline(always)]
    pub(crate) fn has_passed_since(self, lately: u64) -> bool {
        const FAR: u64 = 100_000_000;
        self.0 < lately.saturating_add(FAR) && self.has_passed()
    }

    /// How long it is until then; zero if it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now()))
    }
}

impl std::fmt::Debug for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let now = now();
        if self.0 >= now {
            write!(f, "Deadline(in {:?})", Duration::from_nanos(self.0 - now))
        } else {
            write!(f, "Deadline({:?} ago)", Duration::from_nanos(now - self.0))
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
#[inline]
pub(crate) fn now() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// The same as of the last tick of the kernel, at half the price.
#[inline]
pub(crate) fn coarse() -> u64 {
    read(ClockId::CLOCK_MONOTONIC_COARSE)
}

#[inline]
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("Linux has these clocks");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}
