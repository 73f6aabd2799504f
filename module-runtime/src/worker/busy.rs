//! Whether anything is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

use tokio::sync::Notify;

/// Counts what must end before a drain is done: channels that are served, HTTP connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicUsize,
    ended: Notify,
}

/// One thing under way.
#[derive(Debug)]
pub(crate) struct Token(Arc<Inner>);

impl Busy {
    pub(crate) fn begin(&self) -> Token {
        self.0.count.fetch_add(1, AcqRel);
        Token(Arc::clone(&self.0))
    }

    /// Resolves when nothing is under way.
    pub(crate) async fn idle(&self) {
        loop {
            // Made before it looks: it hears every end from here on, awaited or not.
            let ended = self.0.ended.notified();
            if self.0.count.load(Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}
