//! Knowing when a channel's memory is unmapped: the last of its users tells whoever waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Deadline;

#[derive(Debug, Default)]
struct State {
    released: bool,
    wakers: Vec<Waker>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Held, as its last field, by everything that maps memory of one end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Last>);

/// The last clone of a [`Held`] drops it.
#[derive(Debug, Default)]
struct Last(Arc<Shared>);

impl Held {
    pub(crate) fn released(&self) -> Released {
        Released(Arc::clone(&self.0.0))
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.released = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.0.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Waits until an end of a channel and everything made of it (clones, pending calls, replies, calls, loans) is gone and both
/// segments are unmapped in this process. It keeps neither alive. A future, or [`Released::wait`] for threads.
#[derive(Clone, Debug)]
#[must_use = "it only waits when it is waited for"]
pub struct Released(Arc<Shared>);

impl Released {
    /// Waits in this thread. False if the deadline came first.
    #[must_use]
    pub fn wait(&self, deadline: Option<Deadline>) -> bool {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.released {
            let remaining = deadline.map_or(Duration::MAX, Deadline::remaining);
            if remaining.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(state, remaining.min(Duration::from_secs(3600)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Future for Released {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.released {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|it| it.will_wake(cx.waker())) {
            state.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
