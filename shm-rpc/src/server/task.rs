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

/// Looks at the ring before other tasks of the thread get a turn, also those that find nothing: a caller that sends one more whenever
/// the ring is empty must not keep them from it.
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
            let is_over = loop {
                if taken == BATCH {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                taken += 1;
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;
    use crate::{CallOptions, Client, End, Geometry};

    /// Pending once, and due again at once.
    async fn later() {
        let mut is_due = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_due, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn one_more_call_whenever_the_ring_is_empty_does_not_keep_other_tasks_waiting() {
        let geometry = Geometry::new(64, 4096).unwrap();
        let (caller, callee) = End::pair(geometry, geometry).unwrap();
        let (client, mut server) = (Rc::new(Client::new(caller)), Server::new(callee));
        let (under_way, taken) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
        let more = || client.start(1, &CallOptions::NONE, ()).unwrap();
        *under_way.borrow_mut() = Some(more());
        let handler = |call: Call<'static>| {
            let (client, under_way, taken) = (Rc::clone(&client), Rc::clone(&under_way), Rc::clone(&taken));
            taken.set(taken.get() + 1);
            async move {
                // Long enough for the server to find its ring empty.
                later().await;
                call.reply(());
                let answered = under_way.borrow_mut().take();
                drop(answered);
                if taken.get() < 10 * BATCH {
                    *under_way.borrow_mut() = Some(client.start(1, &CallOptions::NONE, ()).unwrap());
                }
            }
        };
        let mut serving = std::pin::pin!(server.serve_async(handler));
        let turn = poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx).is_pending())).await;
        assert!(turn, "the channel goes on");
        assert!((2..=BATCH).contains(&taken.get()), "{} in one turn", taken.get());
    }
}
