//! A message as it lies in a slot: one word that says that it is there and what it is, and seven words of content.
//!
//! ```text
//!  word 0   sequence:32 │ kind:8 │ flags:8 │ length:16     published last
//!  call     method:32 │ id:32    body: 48 bytes, or 40 and a deadline:64
//!  answer   code:16 │ release place:16 │ id:32  body: 48 bytes
//!  context  trace id:128 │ span id:64 │ trace flags:8 │ has trace:8 │ tags length:8 │ marks:8 │ tags: 28 bytes
//!  closed   position:32
//! ```
//! A body is the message itself, or one word: with the flag [`ARENA`] its offset (low half) and length in the arena, with the flag
//! [`BLOB`] its length; the blob's descriptor came beside the ring.

use zerocopy::IntoBytes;

use crate::control::RELEASE_PLACES;
use crate::filled::Filled;
use crate::layout::{LINE, SLOT_WORDS};
use crate::options::{Context, Tags, Trace};
use crate::{CallOptions, Deadline, Violation};

/// Where a body begins in its slot: with or without a deadline, so that it is read by the same loads.
pub(crate) const BODY_AT: usize = 16;
/// The bytes of the largest inline body, without and with a deadline behind it.
pub(crate) const BODY: usize = LINE - BODY_AT;
pub(crate) const BODY_BEFORE_DEADLINE: usize = BODY - 8;
/// The word that is a call's deadline.
const DEADLINE_WORD: usize = SLOT_WORDS - 1;

/// The longest blob.
pub(crate) const BLOB_MAX: u64 = 1 << 30;

const _: () = assert!(BODY == 48 && BODY_BEFORE_DEADLINE == 40 && DEADLINE_WORD * 8 == BODY_AT + BODY_BEFORE_DEADLINE);

/// A deadline lies behind the body, in the last word.
pub(crate) const DEADLINE: u8 = 1;
/// The body lies in the arena.
pub(crate) const ARENA: u8 = 2;
/// A context message lies before this call.
pub(crate) const CONTEXT: u8 = 4;
/// The body is a blob.
pub(crate) const BLOB: u8 = 8;

/// The mark of a context message: its call is a copy. Other marks are nobody's yet and say nothing.
const SHADOW: u8 = 1;

/// What a message is. Below 16: from the caller; from 16 on: from the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A request that is answered by exactly one of `Reply`, `Fault`, `Error`.
    Call = 1,
    /// The caller is no longer interested in a call.
    Cancel = 2,
    /// Trace, tags and mark of the call that follows.
    Context = 3,
    /// The caller sends nothing more.
    End = 4,
    /// The result of a call.
    Reply = 16,
    /// The module's own typed error as the result of a call.
    Fault = 17,
    /// A [`crate::CallError`] as the result of a call; `code` says which.
    Error = 18,
    /// The callee has closed the caller's ring, and says at which position.
    Closed = 19,
}

impl Kind {
    #[inline(always)]
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Call),
            2 => Some(Self::Cancel),
            3 => Some(Self::Context),
            4 => Some(Self::End),
            16 => Some(Self::Reply),
            17 => Some(Self::Fault),
            18 => Some(Self::Error),
            19 => Some(Self::Closed),
            _ => None,
        }
    }
}

/// The eight words of a slot, in private memory: to be published, or as they were read and not yet believed.
///
/// It stays in one place from the slot to the handler and is looked at there, word by word: moving it about would cost more than
/// the rest of a call.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(crate) struct Slot(pub(crate) [u64; SLOT_WORDS]);

/// Where a body is, once it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the slot.
    Inline { len: usize },
    /// In the arena.
    Arena { offset: u32, len: u32 },
    /// In a memfd of its own.
    Blob { len: u32 },
}

impl Slot {
    pub(crate) const EMPTY: Self = Self([0; SLOT_WORDS]);

    /// A message of one word: `Cancel`, `End` or `Closed`.
    pub(crate) fn short(kind: Kind, low: u32, id: u32) -> Self {
        let mut slot = Self::EMPTY;
        slot.set_head(kind, 0, 0);
        slot.set_low_and_id(low, id);
        slot
    }

    /// Trace, tags and mark for the call that follows.
    pub(crate) fn context(options: &CallOptions) -> Self {
        let mut slot = Self::EMPTY;
        slot.set_head(Kind::Context, 0, 0);
        let bytes = &mut slot.0.as_mut_bytes()[8..];
        if let Some(trace) = options.trace {
            bytes[..16].copy_from_slice(&trace.trace_id);
            bytes[16..24].copy_from_slice(&trace.span_id);
            bytes[24] = trace.flags;
            bytes[25] = 1;
        }
        let tags = options.tags.as_bytes();
        bytes[26] = tags.len() as u8;
        bytes[27] = if options.shadow { SHADOW } else { 0 };
        bytes[28..28 + tags.len()].copy_from_slice(tags);
        slot
    }

    /// Everything of the first word but the sequence, which is the ring's.
    #[inline(always)]
    pub(crate) fn set_head(&mut self, kind: Kind, flags: u8, length: u16) {
        self.0[0] = u64::from(kind as u8) << 32 | u64::from(flags) << 40 | u64::from(length) << 48;
    }

    /// The first word with a sequence as its low half.
    #[inline(always)]
    pub(crate) const fn first(&self, sequence: u32) -> u64 {
        self.0[0] | sequence as u64
    }

    #[inline(always)]
    pub(crate) fn set_low_and_id(&mut self, low: u32, id: u32) {
        self.0[1] = u64::from(low) | u64::from(id) << 32;
    }

    #[inline(always)]
    pub(crate) fn set_deadline(&mut self, deadline: Deadline) {
        self.0[DEADLINE_WORD] = deadline.as_nanos();
    }

    /// The place of a body, to be filled.
    #[inline(always)]
    pub(crate) fn body_mut(&mut self) -> &mut [u8; BODY] {
        let body = self.0.as_mut_bytes().last_chunk_mut();
        body.expect("a slot is longer than a body")
    }

    /// The first `len` bytes of the body in the slot.
    #[inline(always)]
    pub(crate) fn body(&self, len: usize) -> &[u8] {
        &self.0.as_bytes()[BODY_AT..][..len]
    }

    /// Says where in the arena the body lies.
    pub(crate) fn set_place(&mut self, offset: u32, len: u32) {
        self.0[BODY_AT / 8] = u64::from(offset) | u64::from(len) << 32;
    }

    /// Says how long the blob is that is the body.
    pub(crate) fn set_blob(&mut self, len: u32) {
        self.0[BODY_AT / 8] = u64::from(len);
    }

    /// Whether a slot with this first word claims to hold a call.
    #[inline(always)]
    pub(crate) const fn is_call(first: u64) -> bool {
        (first >> 32) as u8 == Kind::Call as u8
    }

    #[inline(always)]
    fn kind(&self) -> Result<Kind, Violation> {
        let found = (self.0[0] >> 32) as u8;
        Kind::from_byte(found).ok_or(Violation::Kind { found })
    }

    #[inline(always)]
    fn flags(&self) -> u8 {
        (self.0[0] >> 40) as u8
    }

    #[inline(always)]
    fn only_flags(&self, allowed: u8) -> Result<u8, Violation> {
        let found = self.flags();
        if found & !allowed == 0 { Ok(found) } else { Err(Violation::Flags { found }) }
    }

    /// Method, code and release place, or position, depending on the kind.
    #[inline(always)]
    pub(crate) fn low(&self) -> u32 {
        self.0[1] as u32
    }

    #[inline(always)]
    pub(crate) fn id(&self) -> u32 {
        (self.0[1] >> 32) as u32
    }

    /// An answer's code.
    #[inline(always)]
    pub(crate) fn code(&self) -> u16 {
        self.low() as u16
    }

    /// An answer's place to tell the release of its payload at.
    #[inline(always)]
    pub(crate) fn release_place(&self) -> u16 {
        (self.low() >> 16) as u16
    }

    /// Names that place in an answer whose code is set.
    pub(crate) fn set_release_place(&mut self, place: u16) {
        self.0[1] |= u64::from(place) << 16;
    }

    /// Whether a call has anything that does not lie in its slot or the arena.
    #[inline(always)]
    pub(crate) fn has_more(&self) -> bool {
        self.flags() & (CONTEXT | BLOB) != 0
    }

    #[inline(always)]
    pub(crate) fn has_context(&self) -> bool {
        self.flags() & CONTEXT != 0
    }

    /// Whether the body of a checked call or answer is a blob.
    #[inline(always)]
    pub(crate) fn is_blob(&self) -> bool {
        self.flags() & BLOB != 0
    }

    /// A call's deadline.
    #[inline(always)]
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        (self.flags() & DEADLINE != 0).then(|| Deadline::from_nanos(self.0[DEADLINE_WORD]))
    }

    /// Where the body of a checked call or answer is.
    #[inline(always)]
    pub(crate) fn place(&self) -> Place {
        if self.flags() & (ARENA | BLOB) != 0 {
            let word = self.0[BODY_AT / 8];
            if self.is_blob() {
                return Place::Blob { len: word as u32 };
            }
            return Place::Arena { offset: word as u32, len: (word >> 32) as u32 };
        }
        Place::Inline { len: usize::from((self.0[0] >> 48) as u16) }
    }

    /// Checks the body against the slot and the peer's arena.
    #[inline(always)]
    fn check_body(&self, arena: &Filled) -> Result<(), Violation> {
        match self.place() {
            Place::Inline { len } => {
                let limit = if self.flags() & DEADLINE != 0 { BODY_BEFORE_DEADLINE } else { BODY };
                if len <= limit {
                    return Ok(());
                }
                Err(Violation::InlineLength { found: len as u16, limit: limit as u16 })
            }
            Place::Arena { offset, len } => match offset.checked_add(len) {
                Some(end) if arena.covers(end) => Ok(()),
                Some(end) if end <= arena.len() => Err(Violation::Hole { offset, len }),
                _ => Err(Violation::Payload { offset, len, arena: arena.len() }),
            },
            Place::Blob { .. } => self.check_blob(),
        }
    }

    /// Checks the word of a blob.
    #[cold]
    fn check_blob(&self) -> Result<(), Violation> {
        if self.flags() & ARENA != 0 {
            return Err(Violation::Flags { found: self.flags() });
        }
        match self.0[BODY_AT / 8] {
            1..=BLOB_MAX => Ok(()),
            _ => Err(Violation::Blob { reason: "a blob without bytes, or longer than blobs are" }),
        }
    }

    /// Checks it as a message from a caller whose arena this is, and says what it is.
    #[inline(always)]
    pub(crate) fn check_request(&self, arena: &Filled) -> Result<Kind, Violation> {
        match self.kind()? {
            Kind::Call => {
                self.only_flags(DEADLINE | ARENA | CONTEXT | BLOB)?;
                self.check_body(arena)?;
                Ok(Kind::Call)
            }
            kind @ (Kind::Cancel | Kind::End | Kind::Context) => self.only_flags(0).map(|_| kind),
            kind @ (Kind::Reply | Kind::Fault | Kind::Error | Kind::Closed) => {
                Err(Violation::Kind { found: kind as u8 })
            }
        }
    }

    /// Checks it as a message from a callee whose arena this is, and says what it is.
    #[inline(always)]
    pub(crate) fn check_response(&self, arena: &Filled) -> Result<Kind, Violation> {
        match self.kind()? {
            kind @ (Kind::Reply | Kind::Fault | Kind::Error) => {
                self.only_flags(ARENA | BLOB)?;
                self.check_body(arena)?;
                let found = self.release_place();
                if found < RELEASE_PLACES { Ok(kind) } else { Err(Violation::ReleasePlace { found }) }
            }
            Kind::Closed => self.only_flags(0).map(|_| Kind::Closed),
            kind @ (Kind::Call | Kind::Cancel | Kind::Context | Kind::End) => {
                Err(Violation::Kind { found: kind as u8 })
            }
        }
    }

    /// The kind of an answer that was checked.
    #[inline(always)]
    pub(crate) fn answer_kind(&self) -> Kind {
        self.kind().unwrap_or(Kind::Error)
    }

    /// Whether it is an answer that was checked, a result, and all in its slot.
    #[inline(always)]
    pub(crate) fn is_plain_reply(&self) -> bool {
        (self.0[0] >> 32) as u16 == Kind::Reply as u16
    }

    /// The body of an answer that lies in its slot.
    #[inline(always)]
    pub(crate) fn answer_body(&self) -> &[u8] {
        self.body(usize::from((self.0[0] >> 48) as u16))
    }

    /// Trace, tags and mark out of a context message.
    #[cold]
    pub(crate) fn read_context(&self) -> Result<Context, Violation> {
        let bytes = &self.0.as_bytes()[8..];
        let trace = match bytes[25] {
            0 => None,
            1 => Some(Trace {
                trace_id: std::array::from_fn(|i| bytes[i]),
                span_id: std::array::from_fn(|i| bytes[16 + i]),
                flags: bytes[24],
            }),
            _ => return Err(Violation::Context),
        };
        let tags = bytes[28..].get(..usize::from(bytes[26])).ok_or(Violation::Context)?;
        let tags = Tags::new(tags).map_err(|_| Violation::Context)?;
        Ok(Context { trace, tags, shadow: bytes[27] & SHADOW != 0 })
    }
}
