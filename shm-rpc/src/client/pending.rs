//! A call under way.

use super::hand::Hand;
use super::{Answer, Shared, Ticket};
use crate::sync::Arc;
use crate::{CallError, Deadline, Reply};

/// A call that was sent and is not answered yet: wait for it in a thread, or await it in a tokio task.
///
/// Dropped before that, the callee is asked to cancel it; its buffers stay in quarantine until the callee has answered or is
/// gone.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Pending {
    shared: Arc<Shared>,
    /// None: its outcome was handed out.
    ticket: Option<Ticket>,
    deadline: Option<Deadline>,
    #[cfg(feature = "tokio")]
    timer: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl Pending {
    pub(super) const fn new(shared: Arc<Shared>, ticket: Ticket, deadline: Option<Deadline>) -> Self {
        Self {
            shared,
            ticket: Some(ticket),
            deadline,
            #[cfg(feature = "tokio")]
            timer: None,
        }
    }

    /// The outcome if it is there, or the call as it was.
    ///
    /// # Errors
    /// The call itself, while it is not answered. The inner error is that of [`Pending::wait`].
    pub fn try_wait(mut self) -> Result<Result<Reply, CallError>, Self> {
        let Some(ticket) = self.ticket else { return Err(self) };
        let mut calls = self.shared.lock();
        calls.drain(&self.shared.port);
        let outcome = calls.collect(ticket);
        self.shared.unlock(calls);
        let Some(outcome) = outcome else { return Err(self) };
        self.ticket = None;
        Ok(outcome.and_then(|answer| Reply::new(&self.shared, answer)))
    }

    /// Waits in this thread for the answer.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub fn wait(mut self) -> Result<Reply, CallError> {
        let ticket = self.ticket.take().ok_or_else(|| CallError::Internal("this call was awaited already".into()))?;
        let mut answer = Answer::EMPTY;
        Hand::new(&self.shared).wait(ticket, self.deadline, &mut answer)?;
        Reply::new(&self.shared, answer)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.abandon(ticket);
        }
    }
}

#[cfg(feature = "tokio")]
mod tasks {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use super::Pending;
    use crate::client::{Shared, Waiter};
    use crate::sync::Arc;
    use crate::{CallError, Reply};

    impl Future for Pending {
        type Output = Result<Reply, CallError>;

        /// # Panics
        /// Outside of a tokio runtime with I/O and time, or after it was ready.
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            let ticket = self.ticket.expect("polled after it was ready");
            let this = &mut *self;
            let mut calls = this.shared.lock();
            calls.drain(&this.shared.port);
            let mut outcome = calls.collect(ticket);
            if outcome.is_none() {
                calls.register(ticket, Waiter::Task(cx.waker().clone()));
                this.shared.arm_bell(&mut calls);
                // Arming takes what has come meanwhile.
                outcome = calls.collect(ticket);
            }
            this.shared.unlock(calls);
            if let Some(outcome) = outcome {
                this.ticket = None;
                return Poll::Ready(outcome.and_then(|answer| Reply::new(&this.shared, answer)));
            }
            if let Err(error) = Shared::ensure_driver(&this.shared) {
                this.ticket = None;
                this.shared.abandon(ticket);
                return Poll::Ready(Err(error));
            }
            let Some(deadline) = this.deadline else { return Poll::Pending };
            let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline.remaining())));
            ready!(timer.as_mut().poll(cx));
            this.ticket = None;
            let started = this.shared.abandon(ticket).unwrap_or(true);
            Poll::Ready(Err(CallError::Deadline { started }))
        }
    }

    impl Shared {
        /// Ready when no call is under way.
        pub(in crate::client) fn poll_idle(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
            let mut calls = self.lock();
            calls.drain(&self.port);
            if calls.outstanding() > 0 {
                calls.register_idle(Waiter::Task(cx.waker().clone()));
                self.arm_bell(&mut calls);
            }
            let is_idle = calls.outstanding() == 0;
            self.unlock(calls);
            if is_idle {
                return Poll::Ready(Ok(()));
            }
            match Self::ensure_driver(self) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        }
    }
}
