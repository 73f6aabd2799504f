//! How much may be said.

use std::time::{Duration, Instant};

/// A bucket that `rate` units a second flow into, up to `most`.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    most: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    pub fn full(rate: u32, most: u32, now: Instant) -> Self {
        Self { rate: rate.into(), most: most.into(), level: most.into(), at: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.most);
        self.at = self.at.max(now);
    }

    /// Units a second.
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes them if they are there.
    pub fn take(&mut self, units: usize, now: Instant) -> bool {
        self.fill(now);
        let there = self.holds(units as f64);
        if there {
            self.level -= units as f64;
        }
        there
    }

    fn holds(&self, units: f64) -> bool {
        self.level >= units
    }

    /// Takes them in any case; how long it takes until the debt is paid.
    pub fn owe(&mut self, units: usize, now: Instant) -> Duration {
        self.fill(now);
        self.level -= units as f64;
        if self.level >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.level / self.rate) }
    }
}

/// Lines and bytes that one worker may have in the log.
#[derive(Debug)]
pub(super) struct RateLimit {
    lines: Bucket,
    bytes: Bucket,
}

impl RateLimit {
    /// 1000 lines and 512 KiB a second, and four seconds' worth of both at once.
    pub fn new(now: Instant) -> Self {
        Self { lines: Bucket::full(1000, 4000, now), bytes: Bucket::full(512 << 10, 2 << 20, now) }
    }

    /// Whether a line of so many bytes is within the limit; if so, it counts.
    pub fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        self.lines.fill(now);
        self.bytes.fill(now);
        let bytes = bytes as f64;
        let within = self.lines.holds(1.0) && self.bytes.holds(bytes);
        if within {
            self.lines.level -= 1.0;
            self.bytes.level -= bytes;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_a_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        let admitted = |limit: &mut RateLimit, bytes, now| (0..100_000).filter(|_| limit.admit(bytes, now)).count();
        assert_eq!(admitted(&mut limit, 10, start), 4000);
        assert_eq!(admitted(&mut limit, 10, start + Duration::from_secs(1)), 1000);
        assert_eq!(admitted(&mut limit, 10, start), 0, "a clock that goes back gives nothing");
        assert_eq!(admitted(&mut limit, 10, start + Duration::from_secs(3600)), 4000, "it does not overflow");
        let mut limit = RateLimit::new(start);
        assert_eq!(admitted(&mut limit, 8192, start), 256, "long lines use it up by their bytes");
    }

    #[test]
    fn a_debt_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::full(1000, 500, start);
        assert_eq!(bucket.owe(500, start), Duration::ZERO);
        assert_eq!(bucket.owe(250, start), Duration::from_millis(250));
        assert_eq!(bucket.owe(0, start + Duration::from_millis(250)), Duration::ZERO);
    }
}
