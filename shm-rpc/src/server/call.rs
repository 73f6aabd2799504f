//! A call as its handler has it.

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use super::Shared;
use crate::message::{CallHeader, Kind};
use crate::options::{Tags, Trace};
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Release};
use crate::sync::{Arc, lock};
use crate::{CallError, CallOptions, Deadline, DecodeError, Loan, Payload, View};

/// A call to be answered: by [`Call::reply`], [`Call::fault`] or [`Call::fail`], now or later, from any thread, in any
/// order. Dropped without that, it answers `Internal`, or `Cancelled` if its caller has lost interest.
#[derive(Debug)]
#[must_use = "dropping it answers with an error"]
pub struct Call<'a> {
    owner: Owner<'a>,
    header: CallHeader,
    trace: Option<Trace>,
    tags: Tags,
    interest: Option<Arc<Interest>>,
    is_answered: bool,
}

/// A call that is answered in the server's own loop needs no share of its own in the server.
#[derive(Debug)]
enum Owner<'a> {
    Borrowed(&'a Arc<Shared>),
    Shared(Arc<Shared>),
}

/// Whether the caller still waits for a call that has left the server's loop.
#[derive(Debug, Default)]
pub(super) struct Interest {
    is_lost: AtomicBool,
    #[cfg(feature = "tokio")]
    pub(super) waker: futures_util::task::AtomicWaker,
}

impl Interest {
    pub(super) fn lose(&self) {
        self.is_lost.store(true, Release);
        #[cfg(feature = "tokio")]
        self.waker.wake();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Acquire)
    }
}

impl<'a> Call<'a> {
    #[inline]
    pub(super) fn new(shared: &'a Arc<Shared>, header: CallHeader, (trace, tags): (Option<Trace>, Tags)) -> Self {
        Self { owner: Owner::Borrowed(shared), header, trace, tags, interest: None, is_answered: false }
    }

    #[inline]
    fn shared(&self) -> &Arc<Shared> {
        match &self.owner {
            Owner::Borrowed(shared) => shared,
            Owner::Shared(shared) => shared,
        }
    }

    /// Which method.
    #[must_use]
    #[inline]
    pub const fn method(&self) -> u32 {
        self.header.method
    }

    /// When its caller stops waiting.
    #[must_use]
    pub const fn deadline(&self) -> Option<Deadline> {
        self.header.deadline
    }

    /// Deadline, trace and tags, to be given to the calls that are made on its behalf.
    #[must_use]
    pub const fn options(&self) -> CallOptions {
        CallOptions { deadline: self.header.deadline, trace: self.trace, tags: self.tags }
    }

    /// The message, where the caller wrote it.
    #[must_use]
    #[inline]
    pub fn view(&self) -> View<'_> {
        let peer = &self.shared().port.peer;
        View::new(&peer.memory, peer.geometry.slots(), &self.header.body)
    }

    /// The message as a serde value.
    ///
    /// # Errors
    /// `Invalid`, to be sent back by [`Call::fail`].
    #[inline]
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        self.view().decode().map_err(blame_caller)
    }

    /// The message as a plain-old-data value.
    ///
    /// # Errors
    /// `Invalid`, to be sent back by [`Call::fail`].
    #[inline]
    pub fn pod<T: FromBytes>(&self) -> Result<T, CallError> {
        self.view().pod().map_err(blame_caller)
    }

    /// Whether the caller has lost interest. Only a [detached](Call::detach) call finds out; the others keep the ring from being read.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.interest.as_ref().is_some_and(|it| it.is_lost())
    }

    /// A block of `len` bytes of the own arena, to be filled in place and sent as the answer.
    ///
    /// # Errors
    /// `TooLarge` if the arena could never hold it, `Overloaded` if it does not now.
    pub fn loan(&self, len: usize) -> Result<Loan, CallError> {
        self.shared().reclaim();
        Loan::new(&self.shared().port.outbox, len)
    }

    /// Answers with the result. If it cannot be encoded or does not fit now, the caller gets `Internal` instead.
    #[inline]
    pub fn reply(mut self, payload: impl Payload) {
        self.is_answered = true;
        self.shared().answer(Kind::Reply, self.header.id, payload);
    }

    /// Answers with the method's own typed error.
    pub fn fault(mut self, payload: impl Payload) {
        self.is_answered = true;
        self.shared().answer(Kind::Fault, self.header.id, payload);
    }

    /// Answers with an error.
    pub fn fail(mut self, error: &CallError) {
        self.is_answered = true;
        self.shared().fail(self.header.id, error);
    }

    /// Makes it independent of the server's loop, so that another thread or task can answer it while the loop goes on, and so
    /// that it can be cancelled.
    pub fn detach(mut self) -> Call<'static> {
        let shared = Arc::clone(self.shared());
        let interest = self.interest.take().unwrap_or_else(|| {
            let interest = Arc::new(Interest::default());
            lock(&shared.replies).watch(self.header.id, &interest);
            interest
        });
        self.is_answered = true;
        Call {
            owner: Owner::Shared(shared),
            header: self.header,
            trace: self.trace,
            tags: self.tags,
            interest: Some(interest),
            is_answered: false,
        }
    }

    #[cfg(feature = "tokio")]
    pub(super) fn interest(&self) -> Option<Arc<Interest>> {
        self.interest.clone()
    }
}

#[cold]
fn blame_caller(error: DecodeError) -> CallError {
    CallError::Invalid(error.to_string())
}

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let error = if self.is_cancelled() {
            CallError::Cancelled { started: true }
        } else {
            CallError::Internal("the handler dropped the call without an answer".into())
        };
        self.shared().fail(self.header.id, &error);
    }
}
