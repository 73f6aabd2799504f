//! The clocks and the dice: the only place where the engine asks for time and chance.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::lifecycle::{Mono, Now};

/// CLOCK_MONOTONIC.
pub(super) fn mono() -> Mono {
    // It has been there since Linux 2.6, and there is no deciding without it.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or_else(|errno| panic!("CLOCK_MONOTONIC: {errno}"));
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    Mono(seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0))
}

/// The moment of an event, with fresh bytes of the kernel's random generator.
pub(super) fn now() -> Now {
    Now { mono: mono(), wall: Timestamp::now(), seed: random() }
}

/// Fresh bytes of the kernel's random generator. A token that somebody can guess would be worse than no supervisor.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("the kernel's random generator: {error}"));
    bytes
}
