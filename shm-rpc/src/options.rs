//! What travels with a call beside its message: deadline, trace, tags, and whether it is a copy. Nested calls inherit all of it.

use crate::{CallError, Deadline};

/// A W3C trace context (`traceparent`): which trace a call belongs to and which span it was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span that the call is made in.
    pub span_id: [u8; 8],
    /// The trace flags; bit 0: sampled.
    pub flags: u8,
}

/// Up to [`Tags::MAX`] bytes that follow a call through every nested call. What they mean is not this crate's business.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tags {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Tags {
    /// The most bytes of tags.
    pub const MAX: usize = 28;

    /// Takes a copy of `bytes`.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] if there are more than [`Self::MAX`].
    pub fn new(bytes: &[u8]) -> Result<Self, CallError> {
        let too_large = CallError::TooLarge { len: bytes.len() as u64, limit: Self::MAX as u64 };
        let mut tags = Self { len: u8::try_from(bytes.len()).map_err(|_| too_large.clone())?, bytes: [0; Self::MAX] };
        tags.bytes.get_mut(..bytes.len()).ok_or(too_large)?.copy_from_slice(bytes);
        Ok(tags)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tags({:?})", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// What a call has of these, if it has any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context {
    pub(crate) trace: Option<Trace>,
    pub(crate) tags: Tags,
    pub(crate) shadow: bool,
}

/// How a call is to be made. Trace, tags and mark cost a second cache line, only when there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// When the call must have started, and until when its caller waits. None: as long as the channel lives.
    pub deadline: Option<Deadline>,
    /// The trace it belongs to.
    pub trace: Option<Trace>,
    /// Bytes that follow it.
    pub tags: Tags,
    /// It is a copy of a call, made to compare the answers: nobody uses its own.
    pub shadow: bool,
}

impl CallOptions {
    /// No deadline, no trace, no tags, and no copy.
    pub const NONE: Self =
        Self { deadline: None, trace: None, tags: Tags { len: 0, bytes: [0; Tags::MAX] }, shadow: false };

    /// Only a deadline.
    #[must_use]
    pub const fn with_deadline(deadline: Deadline) -> Self {
        Self { deadline: Some(deadline), ..Self::NONE }
    }

    /// These options for a nested call: the deadline is the earlier of the two.
    #[must_use]
    pub fn until(mut self, own: Deadline) -> Self {
        self.deadline = Some(self.deadline.map_or(own, |parent| parent.min(own)));
        self
    }

    #[inline]
    pub(crate) const fn has_context(&self) -> bool {
        self.trace.is_some() || !self.tags.is_empty() || self.shadow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_call_never_has_more_time_than_its_parent() {
        let (early, late) = (Deadline::from_nanos(1), Deadline::from_nanos(2));
        assert_eq!(CallOptions::NONE.until(late).deadline, Some(late));
        assert_eq!(CallOptions::with_deadline(early).until(late).deadline, Some(early));
        assert_eq!(CallOptions::with_deadline(late).until(early).deadline, Some(early));
    }

    #[test]
    fn tags_are_bounded() {
        assert_eq!(Tags::new(&[7; Tags::MAX]).unwrap().as_bytes(), [7; Tags::MAX]);
        assert!(Tags::new(&[7; Tags::MAX + 1]).is_err());
        assert!(Tags::new(&[7; 300]).is_err());
    }
}
