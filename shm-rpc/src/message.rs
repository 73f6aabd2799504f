//! A message as it lies in a slot: one word that says that it is there and what it is, and seven words of content.
//!
//! ```text
//!  word 0   sequence:32 │ kind:8 │ flags:8 │ length:16     published last, by a swap
//!  call     method:32 │ id:32    [deadline:64]  body: 48 bytes, 40 with a deadline
//!  answer   code:16 │ release place:16 │ id:32                   body: 48 bytes
//!  context  trace id:128 │ span id:64 │ trace flags:8 │ has trace:8 │ tags length:8 │ 0:8 │ tags: 28 bytes
//! ```
//! A body is the message itself, or, with the flag [`ARENA`], one word: its offset (low half) and length in the arena.

use crate::control::RELEASE_PLACES;
use crate::layout::SLOT_WORDS;
use crate::options::{Tags, Trace};
use crate::{CallOptions, Deadline, Violation};

/// The words of a slot behind the first.
pub(crate) const CONTENT: usize = SLOT_WORDS - 1;
/// The words of a body without, and with, a deadline before it.
pub(crate) const BODY_WORDS: usize = CONTENT - 1;
/// The bytes of the largest inline body.
pub(crate) const BODY: usize = BODY_WORDS * 8;
/// The bytes of the largest inline body of a call with a deadline.
pub(crate) const BODY_WITH_DEADLINE: usize = BODY - 8;

const _: () = assert!(BODY == 48 && BODY_WITH_DEADLINE == 40);

/// The word before the method holds a deadline.
pub(crate) const DEADLINE: u8 = 1;
/// The body lies in the arena.
pub(crate) const ARENA: u8 = 2;
/// A context message lies before this call.
pub(crate) const CONTEXT: u8 = 4;

/// What a message is. Below 16: from the caller; from 16 on: from the callee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A request that is answered by exactly one of `Reply`, `Fault`, `Error`.
    Call = 1,
    /// The caller is no longer interested in a call.
    Cancel = 2,
    /// Trace and tags of the call that follows.
    Context = 3,
    /// The caller sends nothing more.
    End = 4,
    /// The result of a call.
    Reply = 16,
    /// The module's own typed error as the result of a call.
    Fault = 17,
    /// A [`crate::CallError`] as the result of a call; `code` says which.
    Error = 18,
    /// The callee has closed the caller's ring; `code` is the first position that it will not take.
    Closed = 19,
}

impl Kind {
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

/// A message to be published: everything but its sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) length: u16,
    pub(crate) content: [u64; CONTENT],
    /// How many words of the content count.
    pub(crate) words: u8,
}

/// A body as it is sent: in the slot, or in a block of the own arena.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SentBody {
    Inline { words: [u64; BODY_WORDS], len: u16 },
    Arena { offset: u32, len: u32 },
}

/// Where a received body is: copied out of the slot, or in the peer's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceivedBody {
    Inline { words: [u64; BODY_WORDS], len: u16 },
    Arena { offset: u32, len: u32 },
}

impl Message {
    #[inline]
    fn new(kind: Kind, low: u32, id: u32) -> Self {
        let mut content = [0; CONTENT];
        content[0] = u64::from(low) | u64::from(id) << 32;
        Self { kind, flags: 0, length: 0, content, words: 1 }
    }

    #[inline]
    fn with_body(mut self, body: &SentBody) -> Self {
        let at = usize::from(self.words);
        match *body {
            SentBody::Inline { words, len } => {
                self.length = len;
                let room = CONTENT - at;
                self.content[at..].copy_from_slice(&words[..room]);
                self.words += len.div_ceil(8) as u8;
            }
            SentBody::Arena { offset, len } => {
                self.flags |= ARENA;
                self.content[at] = u64::from(offset) | u64::from(len) << 32;
                self.words += 1;
            }
        }
        self
    }

    /// A request.
    #[inline]
    pub(crate) fn call(method: u32, id: u32, options: &CallOptions, body: &SentBody) -> Self {
        let mut message = Self::new(Kind::Call, method, id);
        if let Some(deadline) = options.deadline {
            message.flags |= DEADLINE;
            message.content[1] = deadline.as_nanos();
            message.words = 2;
        }
        if options.has_context() {
            message.flags |= CONTEXT;
        }
        message.with_body(body)
    }

    /// A message about the call `id`, with a body: `Reply`, `Fault` or `Error`. `release` is the place where the end of
    /// its payload's use is to be told, if it has one.
    #[inline]
    pub(crate) fn answer(kind: Kind, code: u16, release: u16, id: u32, body: &SentBody) -> Self {
        Self::new(kind, u32::from(code) | u32::from(release) << 16, id).with_body(body)
    }

    /// A message of one word: `Cancel`, `End` or `Closed`.
    pub(crate) fn short(kind: Kind, low: u32, id: u32) -> Self {
        Self::new(kind, low, id)
    }

    /// Trace and tags for the call that follows.
    pub(crate) fn context(options: &CallOptions) -> Self {
        let mut bytes = [0; CONTENT * 8];
        if let Some(trace) = options.trace {
            bytes[..16].copy_from_slice(&trace.trace_id);
            bytes[16..24].copy_from_slice(&trace.span_id);
            bytes[24] = trace.flags;
            bytes[25] = 1;
        }
        let tags = options.tags.as_bytes();
        bytes[26] = tags.len() as u8;
        bytes[28..28 + tags.len()].copy_from_slice(tags);
        let content = std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|b| bytes[i * 8 + b])));
        Self { kind: Kind::Context, flags: 0, length: 0, content, words: CONTENT as u8 }
    }

    /// The first word, with its sequence.
    #[inline]
    pub(crate) fn word(&self, sequence: u32) -> u64 {
        u64::from(sequence)
            | u64::from(self.kind as u8) << 32
            | u64::from(self.flags) << 40
            | u64::from(self.length) << 48
    }
}

/// A message as it was read: private, not yet believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub(crate) word: u64,
    pub(crate) content: [u64; CONTENT],
}

/// A request, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallHeader {
    pub(crate) method: u32,
    pub(crate) id: u32,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) has_context: bool,
    pub(crate) body: ReceivedBody,
}

/// What a callee receives, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Call(CallHeader),
    Cancel { id: u32 },
    Context { trace: Option<Trace>, tags: Tags },
    End,
}

/// What a caller receives, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Response {
    /// `Reply`, `Fault` or `Error`.
    Answer {
        kind: Kind,
        code: u16,
        release: u16,
        id: u32,
        body: ReceivedBody,
    },
    Closed {
        at: u32,
    },
}

impl Raw {
    #[inline]
    fn kind(&self) -> Result<Kind, Violation> {
        let found = (self.word >> 32) as u8;
        Kind::from_byte(found).ok_or(Violation::Kind { found })
    }

    #[inline]
    fn flags(&self, allowed: u8) -> Result<u8, Violation> {
        let found = (self.word >> 40) as u8;
        if found & !allowed == 0 { Ok(found) } else { Err(Violation::Flags { found }) }
    }

    #[inline]
    fn low(&self) -> u32 {
        self.content[0] as u32
    }

    #[inline]
    fn id(&self) -> u32 {
        (self.content[0] >> 32) as u32
    }

    /// The body that begins at content word `at`, checked against the slot and the peer's arena.
    #[inline]
    fn body(&self, at: usize, flags: u8, arena: u32) -> Result<ReceivedBody, Violation> {
        if flags & ARENA != 0 {
            let (offset, len) = (self.content[at] as u32, (self.content[at] >> 32) as u32);
            return match offset.checked_add(len) {
                Some(end) if end <= arena => Ok(ReceivedBody::Arena { offset, len }),
                _ => Err(Violation::Payload { offset, len, arena }),
            };
        }
        let (found, limit) = ((self.word >> 48) as u16, ((CONTENT - at) * 8) as u16);
        if found > limit {
            return Err(Violation::InlineLength { found, limit });
        }
        let mut words = [0; BODY_WORDS];
        words[..CONTENT - at].copy_from_slice(&self.content[at..]);
        Ok(ReceivedBody::Inline { words, len: found })
    }

    /// Checks it as a message from a caller whose arena has `arena` bytes.
    #[inline]
    pub(crate) fn request(&self, arena: u32) -> Result<Request, Violation> {
        match self.kind()? {
            Kind::Call => {
                let flags = self.flags(DEADLINE | ARENA | CONTEXT)?;
                let has_deadline = flags & DEADLINE != 0;
                let at = if has_deadline { 2 } else { 1 };
                Ok(Request::Call(CallHeader {
                    method: self.low(),
                    id: self.id(),
                    deadline: has_deadline.then(|| Deadline::from_nanos(self.content[1])),
                    has_context: flags & CONTEXT != 0,
                    body: self.body(at, flags, arena)?,
                }))
            }
            Kind::Cancel => self.flags(0).map(|_| Request::Cancel { id: self.id() }),
            Kind::End => self.flags(0).map(|_| Request::End),
            Kind::Context => {
                self.flags(0)?;
                self.context()
            }
            kind @ (Kind::Reply | Kind::Fault | Kind::Error | Kind::Closed) => {
                Err(Violation::Kind { found: kind as u8 })
            }
        }
    }

    fn context(&self) -> Result<Request, Violation> {
        let mut bytes = [0; CONTENT * 8];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.content) {
            *chunk = word.to_le_bytes();
        }
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
        Ok(Request::Context { trace, tags })
    }

    /// Checks it as a message from a callee whose arena has `arena` bytes.
    #[inline]
    pub(crate) fn response(&self, arena: u32) -> Result<Response, Violation> {
        match self.kind()? {
            kind @ (Kind::Reply | Kind::Fault | Kind::Error) => {
                let body = self.body(1, self.flags(ARENA)?, arena)?;
                let (code, release) = (self.low() as u16, (self.low() >> 16) as u16);
                if release >= RELEASE_PLACES {
                    return Err(Violation::ReleasePlace { found: release });
                }
                Ok(Response::Answer { kind, code, release, id: self.id(), body })
            }
            Kind::Closed => self.flags(0).map(|_| Response::Closed { at: self.low() }),
            kind @ (Kind::Call | Kind::Cancel | Kind::Context | Kind::End) => {
                Err(Violation::Kind { found: kind as u8 })
            }
        }
    }
}
