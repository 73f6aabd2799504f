//! A call as its handler has it.

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use super::{Server, Shared};
use crate::blob::Frozen;
use crate::message::{Kind, Slot};
use crate::options::Context;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Release};
use crate::sync::{Arc, lock};
use crate::{CallError, CallOptions, Deadline, DecodeError, Loan, Payload, View};

/// A call to be answered: by [`Call::reply`], [`Call::fault`] or [`Call::fail`], now or later, from any thread, in any
/// order. Dropped without that, it answers `Internal`, or `Cancelled` if its caller has lost interest.
#[derive(Debug)]
#[must_use = "dropping it answers with an error"]
pub struct Call<'a> {
    hold: Hold<'a>,
}

/// A call that is answered in the server's own loop is read where the loop has put it, and needs no share in the server.
#[derive(Debug)]
enum Hold<'a> {
    Here(&'a mut Server),
    Away(Box<Away>),
    Answered,
}

/// A call that has left the server's loop.
#[derive(Debug)]
struct Away {
    shared: Arc<Shared>,
    slot: Slot,
    context: Option<Box<Context>>,
    blob: Option<Frozen>,
    interest: Arc<Interest>,
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
    #[inline(always)]
    pub(super) fn new(server: &'a mut Server) -> Self {
        Self { hold: Hold::Here(server) }
    }

    #[inline(always)]
    fn shared(&self) -> &Arc<Shared> {
        match &self.hold {
            Hold::Here(server) => &server.shared,
            Hold::Away(away) => &away.shared,
            Hold::Answered => answered(),
        }
    }

    #[inline(always)]
    fn slot(&self) -> &Slot {
        match &self.hold {
            Hold::Here(server) => &server.intake.slot,
            Hold::Away(away) => &away.slot,
            Hold::Answered => answered(),
        }
    }

    fn context(&self) -> Option<&Context> {
        match &self.hold {
            Hold::Here(server) => server.intake.context.as_deref(),
            Hold::Away(away) => away.context.as_deref(),
            Hold::Answered => answered(),
        }
    }

    #[inline(always)]
    fn blob(&self) -> &Option<Frozen> {
        match &self.hold {
            Hold::Here(server) => &server.intake.blob,
            Hold::Away(away) => &away.blob,
            Hold::Answered => answered(),
        }
    }

    /// Which method.
    #[must_use]
    #[inline(always)]
    pub fn method(&self) -> u32 {
        self.slot().low()
    }

    /// When its caller stops waiting.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.slot().deadline()
    }

    /// Deadline, trace, tags and mark, to be given to the calls that are made on its behalf.
    #[must_use]
    pub fn options(&self) -> CallOptions {
        let context = self.context().copied().unwrap_or_default();
        CallOptions { deadline: self.deadline(), trace: context.trace, tags: context.tags, shadow: context.shadow }
    }

    /// Whether it is a copy, whose answer nobody uses.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.context().is_some_and(|it| it.shadow)
    }

    /// The message, where the caller wrote it.
    #[must_use]
    #[inline(always)]
    pub fn view(&self) -> View<'_> {
        View::new(&self.shared().port.peer, self.slot(), self.blob())
    }

    /// The message as a serde value.
    ///
    /// # Errors
    /// `Invalid`, to be sent back by [`Call::fail`].
    #[inline(always)]
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        self.view().decode().map_err(blame_caller)
    }

    /// The message as a plain-old-data value.
    ///
    /// # Errors
    /// `Invalid`, to be sent back by [`Call::fail`].
    #[inline(always)]
    pub fn pod<T: FromBytes>(&self) -> Result<T, CallError> {
        self.view().pod().map_err(blame_caller)
    }

    /// Whether the caller has lost interest. Only a [detached](Call::detach) call finds out; the others keep the ring from being read.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(&self.hold, Hold::Away(away) if away.interest.is_lost())
    }

    /// A block of `len` bytes of the own arena, to be filled in place and sent as the answer.
    ///
    /// # Errors
    /// `TooLarge` if the arena could never hold it, `Overloaded` if it does not now.
    pub fn loan(&self, len: usize) -> Result<Loan<'static>, CallError> {
        self.shared().reclaim();
        Loan::new(&self.shared().port.outbox, len)
    }

    /// Answers with the result. If it cannot be encoded or does not fit now, the caller gets `Internal` instead.
    #[inline(always)]
    pub fn reply(mut self, payload: impl Payload) {
        self.answer(Kind::Reply, payload);
    }

    /// Answers with the method's own typed error.
    pub fn fault(mut self, payload: impl Payload) {
        self.answer(Kind::Fault, payload);
    }

    #[inline(always)]
    fn answer(&mut self, kind: Kind, payload: impl Payload) {
        // It counts as answered afterwards: a payload that panics is answered for by the drop.
        match &mut self.hold {
            Hold::Here(server) => server.shared.answer_here(&mut server.home, &server.intake, kind, payload),
            Hold::Away(away) => away.shared.answer_away(kind, away.slot.id(), payload),
            Hold::Answered => {}
        }
        self.hold = Hold::Answered;
    }

    /// Answers with an error.
    pub fn fail(mut self, error: &CallError) {
        self.answer_with(error);
    }

    #[cold]
    fn answer_with(&mut self, error: &CallError) {
        match &mut self.hold {
            Hold::Here(server) => server.shared.fail_here(&mut server.home, &server.intake, error),
            Hold::Away(away) => away.shared.fail_away(away.slot.id(), error),
            Hold::Answered => {}
        }
        self.hold = Hold::Answered;
    }

    /// Makes it independent of the server's loop, so that another thread or task can answer it while the loop goes on, and so
    /// that it can be cancelled.
    pub fn detach(mut self) -> Call<'static> {
        let hold = match std::mem::replace(&mut self.hold, Hold::Answered) {
            Hold::Away(away) => Hold::Away(away),
            Hold::Here(Server { shared, intake, home, .. }) => {
                home.let_go(shared);
                let interest = Arc::new(Interest::default());
                lock(&shared.interests).insert(intake.slot.id(), Arc::clone(&interest));
                let (context, blob) = (intake.context.clone(), intake.blob.take());
                Hold::Away(Box::new(Away { shared: Arc::clone(shared), slot: intake.slot, context, blob, interest }))
            }
            Hold::Answered => answered(),
        };
        Call { hold }
    }

    #[cfg(feature = "tokio")]
    pub(super) fn interest(&self) -> Option<Arc<Interest>> {
        match &self.hold {
            Hold::Away(away) => Some(Arc::clone(&away.interest)),
            Hold::Here(_) | Hold::Answered => None,
        }
    }
}

#[cold]
fn blame_caller(error: DecodeError) -> CallError {
    CallError::Invalid(error.to_string())
}

/// Whatever answers a call consumes it.
#[cold]
fn answered() -> ! {
    unreachable!("an answered call has no owner")
}

impl Drop for Call<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if !matches!(self.hold, Hold::Answered) {
            self.answer_for_the_handler();
        }
    }
}

impl Call<'_> {
    /// The handler has not answered.
    #[cold]
    fn answer_for_the_handler(&mut self) {
        let error = if self.is_cancelled() {
            CallError::Cancelled { started: true }
        } else {
            CallError::Internal("the handler dropped the call without an answer".into())
        };
        self.answer_with(&error);
    }
}
