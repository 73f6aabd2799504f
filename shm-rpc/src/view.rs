//! A message as its receiver sees it: inline bytes that are private already, a payload that lies in the peer's memory, or a blob.

use std::io;
use std::os::fd::AsFd;

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use crate::blob::Frozen;
use crate::layout::arena_offset;
use crate::mapped::PeerSegment;
use crate::memory::PeerMemory;
use crate::message::{Place, Slot};

/// How deep a serde value may be nested.
const MAX_DEPTH: usize = 128;

/// A received message, to be read by copying. It lies where the sender wrote it, and a sender that lies can change it at
/// any time: whoever reads a part twice may see two different things. Unless [`View::as_slice`] has it: then nobody can.
#[derive(Clone, Copy, Debug)]
pub struct View<'a>(Content<'a>);

#[derive(Clone, Copy, Debug)]
enum Content<'a> {
    /// Nobody can change them; perhaps they are a blob's.
    Private(&'a [u8], Option<&'a Frozen>),
    Peer {
        memory: &'a PeerMemory,
        at: usize,
        len: usize,
    },
}

/// Why a message is not what was expected. The sender is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not as long as the plain-old-data type.
    #[error("a message of {found} bytes, where {expected} are expected")]
    Length {
        /// The message's length.
        found: usize,
        /// The type's size.
        expected: usize,
    },
    /// Not the encoding of the expected type.
    #[error("not the expected type: {0}")]
    Encoding(String),
}

impl<'a> View<'a> {
    /// The body of an answer that was checked and lies in its slot.
    #[inline(always)]
    pub(crate) fn in_slot(slot: &'a Slot) -> Self {
        Self(Content::Private(slot.answer_body(), None))
    }

    /// A blob.
    #[cold]
    pub(crate) fn of_blob(frozen: &'a Frozen) -> Self {
        Self(Content::Private(frozen, Some(frozen)))
    }

    /// The body of a slot that was checked. `blob` is looked at if it is that.
    #[inline(always)]
    pub(crate) fn new(peer: &'a PeerSegment, slot: &'a Slot, blob: &'a Option<Frozen>) -> Self {
        Self(match slot.place() {
            Place::Inline { len } => Content::Private(slot.body(len), None),
            Place::Blob { .. } => return blob.as_ref().map_or(Self(Content::Private(&[], None)), Self::of_blob),
            Place::Arena { offset, len } => {
                let at = arena_offset(peer.geometry.slots()) + offset as usize;
                Content::Peer { memory: &peer.memory, at, len: len as usize }
            }
        })
    }

    /// Its length in bytes.
    #[must_use]
    #[inline(always)]
    pub const fn len(&self) -> usize {
        match self.0 {
            Content::Private(bytes, _) => bytes.len(),
            Content::Peer { len, .. } => len,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes themselves, if nobody can change them: those of a blob, and those that travelled in the slot. None: they lie in an
    /// arena that the peer can write.
    #[must_use]
    #[inline(always)]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        match self.0 {
            Content::Private(bytes, _) => Some(bytes),
            Content::Peer { .. } => None,
        }
    }

    /// The blob that it is, to be kept (cloned) for longer than the call. None: it was sent as something else.
    #[must_use]
    pub const fn frozen(&self) -> Option<&'a Frozen> {
        match self.0 {
            Content::Private(_, frozen) => frozen,
            Content::Peer { .. } => None,
        }
    }

    /// Copies the bytes from `offset` on into `target` and returns how many there were.
    pub fn copy_to(&self, offset: usize, target: &mut [u8]) -> usize {
        let count = self.len().saturating_sub(offset).min(target.len());
        if count == 0 {
            return 0;
        }
        let target = &mut target[..count];
        match self.0 {
            Content::Private(bytes, _) => target.copy_from_slice(&bytes[offset..offset + count]),
            Content::Peer { memory, at, .. } => memory.copy_to(at + offset, target),
        }
        count
    }

    /// A private copy of the whole message.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        match self.0 {
            Content::Private(bytes, _) => bytes.to_vec(),
            Content::Peer { memory, at, len } => {
                let mut bytes = Vec::new();
                memory.append_to(at, len, &mut bytes);
                bytes
            }
        }
    }

    /// Reads the whole message once, in place, 64 bytes at a time as little-endian words, the last block filled up with zeros. The
    /// way to compute over a large payload without copying it first.
    #[inline(always)]
    pub fn fold<A>(&self, start: A, mut step: impl FnMut(A, [u64; 8]) -> A) -> A {
        let mut state = start;
        let whole = self.len() / 64 * 64;
        match self.0 {
            Content::Private(bytes, _) => {
                state = bytes.as_chunks().0.iter().fold(state, |state, block| step(state, words(block)));
            }
            Content::Peer { memory, at, len } => {
                state = memory.fold_blocks(at, len / 64, state, &mut step);
            }
        }
        let mut rest = [0; 64];
        if self.copy_to(whole, &mut rest) == 0 {
            return state;
        }
        step(state, words(&rest))
    }

    /// Writes the bytes from `offset` on to `fd`, without copying them through this process, and returns how many the kernel took.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn write_to(&self, offset: usize, fd: impl AsFd) -> io::Result<usize> {
        let offset = offset.min(self.len());
        match self.0 {
            Content::Private(bytes, _) => Ok(nix::unistd::write(fd, &bytes[offset..])?),
            Content::Peer { memory, at, len } => memory.write_to(at + offset, len - offset, fd),
        }
    }

    /// The message as a plain-old-data value.
    ///
    /// # Errors
    /// [`DecodeError::Length`] if it is not exactly as long as the type.
    #[inline(always)]
    pub fn pod<T: FromBytes>(&self) -> Result<T, DecodeError> {
        let value = match self.0 {
            Content::Private(bytes, _) => T::read_from_bytes(bytes).ok(),
            Content::Peer { len, .. } if len != size_of::<T>() => None,
            Content::Peer { .. } => T::read_from_bytes(&self.to_vec()).ok(),
        };
        value.ok_or(DecodeError::Length { found: self.len(), expected: size_of::<T>() })
    }

    /// The message as a serde value, in whichever of the two encodings it has (both decode from either). It is copied once, and
    /// then decoded from the private copy, nested at most 128 deep.
    ///
    /// # Errors
    /// [`DecodeError::Encoding`] if it is no encoding of `T`.
    #[inline(always)]
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match self.0 {
            Content::Private(bytes, _) => from_slice(bytes),
            Content::Peer { .. } => from_slice(&self.to_vec()),
        }
    }
}

#[inline(always)]
fn words(block: &[u8; 64]) -> [u64; 8] {
    std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|b| block[i * 8 + b])))
}

#[inline(always)]
fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut decoder).map_err(|error| DecodeError::Encoding(error.to_string()))?;
    Ok(value)
}
