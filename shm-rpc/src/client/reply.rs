//! The answer to a call.

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use super::calls::release;
use super::{Answer, Shared};
use crate::blob::Frozen;
use crate::error::Refused;
use crate::message::{Kind, Place};
use crate::sync::Arc;
use crate::{CallError, DecodeError, View, wire_error};

/// The answer to a call: the method's result, or its own typed error. A payload stays where the callee wrote it, and is the
/// callee's again when this is dropped.
#[derive(Debug)]
pub struct Reply {
    pub(super) answer: Answer,
    payload: Payload,
}

/// Where the message of an answer is.
#[derive(Debug)]
enum Payload {
    /// In the slot.
    None,
    /// In the arena of this end's peer.
    Arena(Arc<Shared>),
    /// In a blob.
    Blob(Frozen),
}

impl Reply {
    /// A place for an answer.
    pub(super) const EMPTY: Self = Self { answer: Answer::EMPTY, payload: Payload::None };

    /// Looks at what was taken: an answer that is a [`CallError`] becomes one.
    #[inline(always)]
    pub(super) fn check(&mut self, shared: &Arc<Shared>) -> Result<(), Refused> {
        if self.answer.slot.is_plain_reply() { Ok(()) } else { self.check_another_kind(shared) }
    }

    #[cold]
    fn check_another_kind(&mut self, shared: &Arc<Shared>) -> Result<(), Refused> {
        match self.answer.slot.place() {
            Place::Inline { .. } => {}
            Place::Arena { .. } => self.payload = Payload::Arena(Arc::clone(shared)),
            Place::Blob { .. } => match shared.port.carriage.collect(self.answer.position) {
                Some(Ok(frozen)) => self.payload = Payload::Blob(frozen),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(CallError::Internal("the blob of an answer is gone".into()).into()),
            },
        }
        if self.answer.slot.answer_kind() != Kind::Error {
            return Ok(());
        }
        let error = wire_error::decode(self.answer.slot.code(), self.view());
        self.release();
        Err(error.unwrap_or_else(|violation| shared.accuse(violation)).into())
    }

    /// An answer that was taken.
    #[inline(always)]
    pub(super) fn new(shared: &Arc<Shared>, answer: Answer) -> Result<Self, CallError> {
        let mut reply = Self { answer, payload: Payload::None };
        reply.check(shared)?;
        Ok(reply)
    }

    /// Lets the callee have its payload back.
    #[inline(always)]
    pub(super) fn release(&mut self) {
        if !matches!(self.payload, Payload::None) {
            self.release_payload();
        }
    }

    #[cold]
    fn release_payload(&mut self) {
        if let Payload::Arena(shared) = std::mem::replace(&mut self.payload, Payload::None) {
            release(&shared.port, &self.answer);
        }
    }

    /// The message.
    #[must_use]
    #[inline(always)]
    pub fn view(&self) -> View<'_> {
        match &self.payload {
            Payload::None => View::in_slot(&self.answer.slot),
            Payload::Arena(shared) => View::new(&shared.port.peer, &self.answer.slot, &None),
            Payload::Blob(frozen) => View::of_blob(frozen),
        }
    }

    /// Whether it is the method's own typed error.
    #[must_use]
    #[inline(always)]
    pub fn is_fault(&self) -> bool {
        self.answer.slot.answer_kind() == Kind::Fault
    }

    /// The result as a serde value, or the method's own typed error as one.
    ///
    /// # Errors
    /// `Internal` if it is no encoding of the type: the callee's fault.
    #[inline(always)]
    pub fn decode<T: DeserializeOwned, E: DeserializeOwned>(&self) -> Result<Result<T, E>, CallError> {
        if self.is_fault() {
            return self.view().decode().map(Err).map_err(blame_callee);
        }
        self.view().decode().map(Ok).map_err(blame_callee)
    }

    /// The result as a plain-old-data value.
    ///
    /// # Errors
    /// `Internal` if it is not exactly as long as the type, or is a typed error: the callee's fault.
    #[inline(always)]
    pub fn pod<T: FromBytes>(&self) -> Result<T, CallError> {
        if self.is_fault() {
            return Err(CallError::Internal("the callee answered with a typed error where none is expected".into()));
        }
        self.view().pod().map_err(blame_callee)
    }
}

#[cold]
fn blame_callee(error: DecodeError) -> CallError {
    CallError::Internal(format!("the callee's answer: {error}"))
}

impl Drop for Reply {
    #[inline(always)]
    fn drop(&mut self) {
        self.release();
    }
}
