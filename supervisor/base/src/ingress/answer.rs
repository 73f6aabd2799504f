//! What goes to the client, and what is held until the last byte of it has gone.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::admission::Admitted;
use super::connection::WorkerConnection;
use super::gate::Ticket;
use super::upstream::Lease;
use crate::BoxError;

/// An answer's body together with everything that lasts as long as the answer.
pub(crate) struct Answer {
    body: Kind,
    /// Some until the end.
    held: Option<Held>,
}

/// What lasts until an answer has gone or was given up.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its end tells the gate that the client's time to ask again begins.
    pub(crate) _ticket: Ticket,
    pub(crate) admitted: Option<Admitted>,
}

enum Kind {
    Own(Full<Bytes>),
    Handler(UnsyncBoxBody<Bytes, BoxError>),
    Worker(Download),
}

impl Answer {
    pub(crate) fn own(body: Full<Bytes>, held: Held) -> Self {
        Self { body: Kind::Own(body), held: Some(held) }
    }

    pub(crate) fn handler(body: UnsyncBoxBody<Bytes, BoxError>, held: Held) -> Self {
        Self { body: Kind::Handler(body), held: Some(held) }
    }

    pub(crate) fn worker(body: Download, held: Held) -> Self {
        Self { body: Kind::Worker(body), held: Some(held) }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(match &mut this.body {
            Kind::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Kind::Handler(body) => Pin::new(body).poll_frame(cx),
            Kind::Worker(body) => Pin::new(body).poll_frame(cx),
        });
        match &frame {
            Some(Ok(_)) => {}
            None => this.held = None,
            Some(Err(_)) => {
                if let Some(mut admitted) = this.held.take().and_then(|it| it.admitted) {
                    admitted.failed();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kind::Own(body) => body.is_end_stream(),
            Kind::Handler(body) => body.is_end_stream(),
            Kind::Worker(body) => body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Own(body) => body.size_hint(),
            Kind::Handler(body) => body.size_hint(),
            Kind::Worker(body) => body.body.size_hint(),
        }
    }
}

/// The body of a worker's answer. At its end the connection can carry another request.
pub(crate) struct Download {
    body: Incoming,
    /// Some until the end.
    from: Option<(WorkerConnection, Lease)>,
    stall: Pin<Box<Sleep>>,
    stall_time: Duration,
    waiting: bool,
}

impl Download {
    pub(crate) fn new(body: Incoming, connection: WorkerConnection, lease: Lease, stall_time: Duration) -> Self {
        let stall = Box::pin(tokio::time::sleep(stall_time));
        Self { body, from: Some((connection, lease)), stall, stall_time, waiting: false }
    }

    fn end(&mut self) {
        if let Some((connection, lease)) = self.from.take() {
            connection.give_back(lease.upstream());
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        if !self.waiting {
            self.stall.as_mut().reset(Instant::now() + self.stall_time);
            self.waiting = true;
        }
        ready!(self.stall.as_mut().poll(cx));
        Poll::Ready("the worker's answer stands still".into())
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let error = ready!(this.poll_late(cx));
                this.from = None;
                return Poll::Ready(Some(Err(error)));
            }
        };
        this.waiting = false;
        match frame {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            None => {
                this.end();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                if let Some((_, lease)) = this.from.take() {
                    let upstream = lease.upstream();
                    tracing::warn!(module = %upstream.module, worker = %upstream.worker, %error, "an answer broke off");
                }
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }
}

/// A body of known length is not polled to its end, and one without bytes not at all.
impl Drop for Download {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.end();
        }
    }
}
