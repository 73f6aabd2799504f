//! Serving in a tokio task.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::call::Interest;
use super::intake::Next;
use super::{Call, Ended, ServeError, Served, Server};
use crate::bell::Bell;
use crate::control::SOCKET;
use crate::port::Heard;
use crate::sync::Arc;

/// Requests taken, and sleeps that came to nothing, before other tasks of the thread get a turn. A caller that sends one more
/// whenever the ring is empty must not keep them from it.
const BATCH: u32 = 32;

/// A handler at work: gone as soon as its caller loses interest.
struct Running<F> {
    interest: Option<Arc<Interest>>,
    handler: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for Running<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(interest) = &self.interest {
            interest.waker.register(cx.waker());
            if interest.is_lost() {
                return Poll::Ready(());
            }
        }
        // The panic hook has reported a panic, and the call answers as it is dropped.
        AssertUnwindSafe(&mut self.handler).catch_unwind().poll_unpin(cx).map(|_| ())
    }
}

impl Server {
    /// Serves in this task until the channel ends. Handlers run concurrently inside the task. Each is polled once at once, so
    /// that one which is ready answers without a detour; one whose call is cancelled is dropped; one that panics has answered
    /// `Internal`. When the caller is gone those that still run are dropped.
    ///
    /// # Errors
    /// [`ServeError::Violation`] for what no honest caller writes; [`ServeError::Bell`] if there is no descriptor left.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub async fn serve_async<F>(&mut self, mut handler: impl FnMut(Call<'static>) -> F) -> Result<Served, ServeError>
    where
        F: Future<Output = ()>,
    {
        let bell = Bell::new(&self.shared.port)?;
        let mut running = FuturesUnordered::new();
        poll_fn(|cx| self.poll_serve(cx, &bell, &mut running, &mut handler)).await
    }

    fn poll_serve<F: Future<Output = ()>>(
        &mut self,
        cx: &mut Context<'_>,
        bell: &Bell,
        running: &mut FuturesUnordered<Running<F>>,
        handler: &mut impl FnMut(Call<'static>) -> F,
    ) -> Poll<Result<Served, ServeError>> {
        self.shared.stop.task.register(cx.waker());
        let mut taken = 0;
        loop {
            if taken >= BATCH {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            taken += 1;
            let is_over = loop {
                match self.intake.next(&self.shared, &mut self.home)? {
                    Next::Call => {
                        let call = Call::new(self).detach();
                        self.intake.forget_context();
                        let interest = call.interest();
                        running.push(Running { interest, handler: Box::pin(handler(call)) });
                        while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
                    }
                    Next::PassedOver => {}
                    Next::Empty => break false,
                    Next::Over => break true,
                }
                taken += 1;
                if taken >= BATCH {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            };
            while let Poll::Ready(Some(())) = running.poll_next_unpin(cx) {}
            if self.shared.stop.is_gone() {
                running.clear();
                return Poll::Ready(Ok(self.ended(Ended::CallerGone)));
            }
            if is_over {
                self.shared.stop.begin_drain();
                if self.shared.in_flight() == 0 {
                    return Poll::Ready(Ok(self.ended(self.why_over())));
                }
            } else if self.shared.stop.close_wanted()
                || (!self.intake.parked.is_set(SOCKET) && !self.intake.arm(&self.shared, SOCKET)?)
                || !self.intake.is_empty(&self.shared)?
            {
                continue;
            }
            match bell.poll_heard(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(heard) => {
                    self.intake.parked.clear(&self.shared.port.outbox.memory, SOCKET);
                    if heard? == Heard::PeerGone {
                        self.shared.stop.note_gone();
                    }
                }
            }
        }
    }
}
