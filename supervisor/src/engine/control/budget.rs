//! How often a worker may make the supervisor do something: a bucket of tokens that refills by time.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket: `most` at once, then one per `every`.
#[derive(Debug)]
pub(super) struct Budget {
    most: u32,
    every: Duration,
    left: u32,
    counted: Instant,
}

impl Budget {
    pub fn new(most: u32, every: Duration, now: Instant) -> Self {
        Self { most, every, left: most, counted: now }
    }

    /// Returns when there is a token. Takes none, so it may be dropped.
    pub async fn available(&mut self) {
        if let Err(later) = self.look(Instant::now()) {
            tokio::time::sleep_until(later).await;
        }
    }

    /// Takes a token.
    pub fn spend(&mut self, now: Instant) {
        let _ = self.look(now);
        self.left = self.left.saturating_sub(1);
    }

    /// Whether there is a token, or when there will be one.
    fn look(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(self.counted).as_nanos() / self.every.as_nanos().max(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if self.left.saturating_add(passed) >= self.most {
            (self.left, self.counted) = (self.most, now);
        } else {
            self.left += passed;
            self.counted += self.every * passed;
        }
        if self.left == 0 { Err(self.counted + self.every) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_each_costs_its_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = Budget::new(3, Duration::from_millis(10), start);
        for _ in 0..3 {
            assert_eq!(budget.look(start), Ok(()));
            budget.spend(start);
        }
        assert_eq!(budget.look(at(4)), Err(at(10)));
        assert_eq!(budget.look(at(10)), Ok(()));
        budget.spend(at(10));
        assert_eq!(budget.look(at(15)), Err(at(20)), "time that has passed is not lost");
        // Who is quiet gets the burst back, and no more than that.
        for _ in 0..3 {
            assert_eq!(budget.look(at(60_000)), Ok(()));
            budget.spend(at(60_000));
        }
        assert!(budget.look(at(60_000)).is_err());
    }
}
