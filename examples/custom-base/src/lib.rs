//! A rate limiter as a service of the base: one place that knows what all workers of all modules together have let through.

mod buckets;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use buckets::Buckets;

/// The longest key.
pub const KEY_MOST: usize = 256;

/// Says how often something may be done.
#[module_runtime::service(name = "limiter", error = LimiterError)]
pub trait Limiter {
    /// Takes a token of the bucket `key`, if there is one. A bucket that nobody has asked for is full.
    fn take(&self, key: String, rate: Rate) -> Result<Taken, LimiterError>;
}

/// How large a bucket is, and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Tokens that it holds at most.
    pub burst: u32,
    /// Tokens that come per second.
    pub per_second: f64,
}

/// What became of a wish for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taken {
    /// There was one.
    Yes {
        /// Whole tokens that are left.
        left: u32,
    },
    /// There was none.
    No {
        /// When there will be one, if nobody takes it before.
        retry_after_ms: u64,
    },
}

/// Why there is no answer to a wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimiterError {
    /// The key is empty or longer than [`KEY_MOST`] bytes.
    Key {
        /// Its length.
        len: u64,
    },
    /// A bucket without room, or one that never fills.
    Rate,
}

impl std::fmt::Display for LimiterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key { len } => write!(f, "a key of {len} bytes; 1 to {KEY_MOST} are allowed"),
            Self::Rate => f.write_str("a rate needs a burst of at least 1 and more than 0 tokens per second"),
        }
    }
}

impl std::error::Error for LimiterError {}

/// The service as the base holds it.
#[derive(Debug)]
pub struct SharedBuckets(Mutex<Buckets>);

impl SharedBuckets {
    /// At most so many keys at once.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self(Mutex::new(Buckets::new(keys)))
    }

    /// How many buckets are not full.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether all buckets are full.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Buckets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limiter for std::sync::Arc<SharedBuckets> {
    fn take(&self, key: String, rate: Rate) -> Result<Taken, LimiterError> {
        if !(1..=KEY_MOST).contains(&key.len()) {
            return Err(LimiterError::Key { len: key.len() as u64 });
        }
        let fills = rate.per_second.is_finite() && rate.per_second > 0.0;
        if rate.burst == 0 || !fills {
            return Err(LimiterError::Rate);
        }
        Ok(self.lock().take(&key, rate, Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use module_runtime::testing::Harness;

    use super::*;

    #[tokio::test]
    async fn modules_share_the_buckets_and_wrong_wishes_are_refused() {
        let running = Harness::new("base").start().unwrap();
        let buckets = Arc::new(SharedBuckets::new(10));
        running.serve(LimiterServer::new(Arc::clone(&buckets))).unwrap();
        let limiter: LimiterClient = running.worker().client();
        let rate = Rate { burst: 2, per_second: 0.001 };
        assert_eq!(limiter.take("a".into(), rate).await, Ok(Taken::Yes { left: 1 }));
        assert_eq!(limiter.take("a".into(), rate).await, Ok(Taken::Yes { left: 0 }));
        assert!(matches!(limiter.take("a".into(), rate).await, Ok(Taken::No { retry_after_ms: 1.. })));
        assert_eq!(limiter.take("b".into(), rate).await, Ok(Taken::Yes { left: 1 }));
        assert_eq!(buckets.len(), 2);
        let key = limiter.take("x".repeat(KEY_MOST + 1), rate).await.unwrap_err();
        assert_eq!(key.module(), Some(&LimiterError::Key { len: KEY_MOST as u64 + 1 }));
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = limiter.take("a".into(), Rate { burst: 1, per_second }).await.unwrap_err();
            assert_eq!(error.module(), Some(&LimiterError::Rate));
        }
    }
}
