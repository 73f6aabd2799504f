//! The answer to a call.

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use super::Shared;
use super::calls::{Answer, release};
use crate::message::Kind;
use crate::sync::Arc;
use crate::{CallError, DecodeError, View, wire_error};

/// The answer to a call: the method's result, or its own typed error. A payload stays where the callee wrote it, and is the
/// callee's again when this is dropped.
#[derive(Debug)]
pub struct Reply {
    shared: Arc<Shared>,
    answer: Answer,
}

impl Reply {
    /// Takes an answer; one that is a [`CallError`] becomes one.
    #[inline(always)]
    pub(super) fn new(shared: &Arc<Shared>, answer: Answer) -> Result<Self, CallError> {
        let reply = Self { shared: Arc::clone(shared), answer };
        if reply.answer.slot.answer_kind() != Kind::Error {
            return Ok(reply);
        }
        Err(reply.into_error())
    }

    #[cold]
    fn into_error(self) -> CallError {
        let error = wire_error::decode(self.answer.slot.code(), self.view());
        error.unwrap_or_else(|violation| self.shared.accuse(violation))
    }

    /// The message.
    #[must_use]
    #[inline(always)]
    pub fn view(&self) -> View<'_> {
        View::new(&self.shared.port.peer, &self.answer.slot)
    }

    /// Whether it is the method's own typed error.
    #[must_use]
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
        release(&self.shared.port, &self.answer);
    }
}
