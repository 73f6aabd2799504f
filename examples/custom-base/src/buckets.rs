//! Token buckets by key, in bounded memory. Pure: time is given.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::{Rate, Taken};

/// Buckets that are not full. A full one is as good as one that nobody has asked for, so it is forgotten.
#[derive(Debug)]
pub struct Buckets {
    buckets: HashMap<Box<str>, Bucket>,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
    rate: Rate,
}

impl Bucket {
    fn tokens(&self, rate: Rate, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        (self.tokens + gained).min(f64::from(rate.burst))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.tokens(self.rate, now) >= f64::from(self.rate.burst)
    }
}

impl Buckets {
    /// At most `most` keys at once (at least 1).
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { buckets: HashMap::new(), most: most.max(1) }
    }

    /// How many buckets are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Takes a token. When there are too many keys, full buckets are forgotten, and then the ones that were used least recently: their
    /// clients gain a burst, nobody loses one.
    pub fn take(&mut self, key: &str, rate: Rate, now: Instant) -> Taken {
        let bucket = match self.buckets.get_mut(key) {
            Some(bucket) => bucket,
            None => {
                self.make_room(now);
                let full = Bucket { tokens: f64::from(rate.burst), at: now, rate };
                self.buckets.entry(key.into()).or_insert(full)
            }
        };
        let tokens = bucket.tokens(rate, now);
        if tokens < 1.0 {
            *bucket = Bucket { tokens, at: now, rate };
            let wait = Duration::try_from_secs_f64((1.0 - tokens) / rate.per_second).unwrap_or(Duration::MAX);
            return Taken::No { retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1) };
        }
        *bucket = Bucket { tokens: tokens - 1.0, at: now, rate };
        Taken::Yes { left: (tokens - 1.0) as u32 }
    }

    fn make_room(&mut self, now: Instant) {
        if self.buckets.len() < self.most {
            return;
        }
        self.buckets.retain(|_, it| !it.is_full(now));
        if self.buckets.len() < self.most {
            return;
        }
        // A quarter at once, so that a flood of keys does not sort them for each.
        let mut ages: Vec<Instant> = self.buckets.values().map(|it| it.at).collect();
        let (_, newest_to_go, _) = ages.select_nth_unstable(self.most / 4);
        let newest_to_go = *newest_to_go;
        self.buckets.retain(|_, it| it.at > newest_to_go);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, per_second: 2.0 };

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (mut buckets, start) = (Buckets::new(10), Instant::now());
        for left in [2, 1, 0] {
            assert_eq!(buckets.take("a", RATE, start), Taken::Yes { left });
        }
        assert_eq!(buckets.take("a", RATE, after(start, 100)), Taken::No { retry_after_ms: 401 });
        assert_eq!(buckets.take("a", RATE, after(start, 501)), Taken::Yes { left: 0 });
        assert!(matches!(buckets.take("a", RATE, after(start, 502)), Taken::No { .. }));
        assert_eq!(buckets.take("a", RATE, after(start, 60_000)), Taken::Yes { left: 2 }, "no more than the burst");
        assert_eq!(buckets.take("b", RATE, start), Taken::Yes { left: 2 }, "another key");
    }

    #[test]
    fn over_a_long_time_exactly_the_rate_passes() {
        let (mut buckets, start) = (Buckets::new(10), Instant::now());
        let passed =
            (0..100_000).filter(|it| matches!(buckets.take("a", RATE, after(start, *it)), Taken::Yes { .. })).count();
        assert!((200 + 3 - 1..=200 + 3).contains(&passed), "{passed} in 100 s");
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let (mut buckets, start) = (Buckets::new(10), Instant::now());
        for _ in 0..3 {
            let _ = buckets.take("a", RATE, after(start, 10_000));
        }
        assert!(matches!(buckets.take("a", RATE, start), Taken::No { .. }));
    }

    #[test]
    fn keys_are_bounded_and_full_buckets_go_first() {
        let (mut buckets, start) = (Buckets::new(100), Instant::now());
        let slow = Rate { burst: 1, per_second: 0.001 };
        let _ = buckets.take("kept", slow, start);
        for number in 0..99 {
            let _ = buckets.take(&number.to_string(), RATE, start);
        }
        assert_eq!(buckets.len(), 100);
        let _ = buckets.take("new", slow, after(start, 5_000));
        assert_eq!(buckets.len(), 2);
        assert!(matches!(buckets.take("kept", slow, after(start, 5_000)), Taken::No { .. }));
        for number in 0..10_000 {
            let _ = buckets.take(&number.to_string(), slow, after(start, 5_001 + number));
            assert!(buckets.len() <= 100);
        }
    }
}
