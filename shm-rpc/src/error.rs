//! What can go wrong with a call, and who is to blame.

use std::time::Duration;

/// Why a call has no result. Every variant says whether the callee may have started: see [`CallError::started`].
///
/// The typed error of a module's own method is no `CallError`: it is a result, see [`crate::Reply::decode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request was not understood: unknown method, or a body that is not what the method takes. The caller is to blame.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The message is larger than the channel carries.
    #[error("a message of {len} bytes, where {limit} are possible")]
    TooLarge {
        /// Its length as far as it is known.
        len: u64,
        /// What would have been possible.
        limit: u64,
    },
    /// Nobody answers this service.
    #[error("no such service")]
    NoService,
    /// The caller is not allowed to do this.
    #[error("not allowed")]
    Denied,
    /// The callee ended before it took the request: it can be sent to another.
    #[error("the callee ended before it took the request")]
    NotStarted,
    /// The callee was closing and has not taken the request: it can be sent to another.
    #[error("the callee is draining and did not take the request")]
    Draining,
    /// The callee ended after it had taken the request: nobody knows how far it got.
    #[error("the callee ended with the request in its hands; it may have been executed")]
    MaybeExecuted,
    /// The deadline passed.
    #[error("deadline passed {}", if *.started { "after the call had been taken" } else { "before the call started" })]
    Deadline {
        /// Whether the callee had taken the request.
        started: bool,
    },
    /// The call was cancelled.
    #[error("cancelled {}", if *.started { "after the call had been taken" } else { "before the call started" })]
    Cancelled {
        /// Whether the callee had taken the request.
        started: bool,
    },
    /// A queue is full: nothing was sent, or nothing was started.
    #[error("overloaded; try again in {retry_after:?}")]
    Overloaded {
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// The peer wrote what no honest peer writes. The channel is dead.
    #[error("protocol violation by the peer: {0}")]
    ProtocolViolation(Violation),
    /// A fault of the callee, or of this process, that is none of the above.
    #[error("internal error: {0}")]
    Internal(String),
}

/// Whether a failed call has had an effect at the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// Certainly not: it can be repeated.
    No,
    /// It may have run, in part or in whole.
    Maybe,
    /// The callee's code ran and answered with this error.
    Yes,
}

/// An error on its way to who called. One word, so that what goes well is told in a register: a result as large as a [`CallError`]
/// is stored and read again wherever it is passed on.
#[derive(Debug)]
pub(crate) struct Refused(Box<CallError>);

impl From<CallError> for Refused {
    #[cold]
    fn from(error: CallError) -> Self {
        Self(Box::new(error))
    }
}

impl From<Refused> for CallError {
    #[cold]
    fn from(refused: Refused) -> Self {
        *refused.0
    }
}

impl CallError {
    /// Whether the callee may have executed anything. An error that a handler has chosen itself is not told apart from
    /// one that arose before it, except where the variant says so: only [`Started::No`] permits an automatic retry.
    #[must_use]
    pub const fn started(&self) -> Started {
        match self {
            Self::TooLarge { .. }
            | Self::NoService
            | Self::Denied
            | Self::NotStarted
            | Self::Draining
            | Self::Deadline { started: false }
            | Self::Cancelled { started: false }
            | Self::Overloaded { .. } => Started::No,
            Self::MaybeExecuted
            | Self::Deadline { started: true }
            | Self::Cancelled { started: true }
            | Self::ProtocolViolation(_) => Started::Maybe,
            Self::Invalid(_) | Self::Internal(_) => Started::Yes,
        }
    }
}

/// What a peer wrote that no honest peer writes. Whoever reads it is innocent; the writer of the segment is guilty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The sequence word of a slot is neither of the last lap nor of this one.
    #[error("slot {slot} has sequence {found}, where {expected} or {previous} is possible")]
    Sequence {
        /// Which slot.
        slot: u32,
        /// What it held.
        found: u32,
        /// The next message's sequence.
        expected: u32,
        /// What was there before.
        previous: u32,
    },
    /// A message of a kind that this side never gets.
    #[error("message kind {found} is not for this side")]
    Kind {
        /// The kind.
        found: u8,
    },
    /// Flags that are unknown or do not go together.
    #[error("message flags {found:#04x} are not valid here")]
    Flags {
        /// The flags.
        found: u8,
    },
    /// An inline message longer than its slot.
    #[error("an inline message of {found} bytes, where {limit} fit")]
    InlineLength {
        /// The claimed length.
        found: u16,
        /// What fits.
        limit: u16,
    },
    /// A payload that does not lie in the arena.
    #[error("a payload at {offset}+{len}, outside the arena of {arena} bytes")]
    Payload {
        /// Its claimed offset in the arena.
        offset: u32,
        /// Its claimed length.
        len: u32,
        /// The arena's length.
        arena: u32,
    },
    /// A payload in pages of the arena that were never written: reading them would be charged to the reader.
    #[error("a payload at {offset}+{len}, where nothing was ever written")]
    Hole {
        /// Its offset in the arena.
        offset: u32,
        /// Its length.
        len: u32,
    },
    /// A place to tell a release at that does not exist.
    #[error("release place {found} does not exist")]
    ReleasePlace {
        /// The place.
        found: u16,
    },
    /// A reply to a call that is not under way.
    #[error("a reply to call {id:#010x}, which is not under way")]
    UnknownCall {
        /// The id in the reply.
        id: u32,
    },
    /// A progress count beyond what was sent, or behind what was told before.
    #[error("taken_through = {found}, where {low}..={high} is possible")]
    TakenThrough {
        /// The claim.
        found: u32,
        /// The least possible.
        low: u32,
        /// The most possible.
        high: u32,
    },
    /// A close position beyond what was sent, or behind what was taken.
    #[error("closed at {found}, where {low}..={high} is possible")]
    ClosedAt {
        /// The claim.
        found: u32,
        /// The least possible.
        low: u32,
        /// The most possible.
        high: u32,
    },
    /// More requests under way than the channel allows.
    #[error("more than {limit} requests under way")]
    TooMany {
        /// What the channel allows.
        limit: u32,
    },
    /// Trace or tags without a call after them, or malformed.
    #[error("a context message that is malformed or has no call after it")]
    Context,
    /// A blob that is none, or that is not what its message says.
    #[error("{reason}")]
    Blob {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An error reply with an unknown code or a malformed body.
    #[error("an error reply with code {code} that is unknown or malformed")]
    ErrorReply {
        /// The code.
        code: u16,
    },
}
