//! The clocks and the dice: the only place where the engine asks for time and chance.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::lifecycle::{Mono, Now};

/// CLOCK_MONOTONIC.
pub(super) fn mono() -> Mono {
    // It has been there since Linux 2.6, and there is no deciding without it.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or_else(|errno| panic!("CLOCK_MONOTONIC: {errno}"));
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    Mono(seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0))
}

/// The wall clock's time of a moment that /proc gives in clock ticks since boot.
pub(super) fn of_ticks(ticks: u64) -> Timestamp {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from).unwrap_or_default();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|it| u64::try_from(it).ok()).unwrap_or(100);
    let then = std::time::Duration::from_millis(ticks.saturating_mul(1000) / per_second.max(1));
    let (now, age) = (Timestamp::now(), since_boot.saturating_sub(then));
    now.checked_sub(age).unwrap_or(now)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_since_boot_are_a_time_of_day() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let ticks = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        let (started, now) = (of_ticks(ticks), Timestamp::now());
        assert!(started <= now, "{started} {now}");
        // Whoever runs this has started this process within the day.
        assert!(started.as_second() > now.as_second() - 86_400, "{started} {now}");
        assert!(of_ticks(ticks + 100) > started);
    }
}
