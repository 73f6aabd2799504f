//! A message as its receiver sees it: inline bytes that are private already, or a payload that lies in the peer's memory.

use std::io;
use std::os::fd::AsFd;

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use crate::layout::arena_offset;
use crate::memory::PeerMemory;
use crate::message::{BODY, BODY_WORDS, ReceivedBody};

/// How deep a serde value may be nested.
const MAX_DEPTH: usize = 128;

/// A received message, to be read by copying. It lies where the sender wrote it, and a sender that lies can change it at
/// any time: whoever reads a part twice may see two different things.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    peer: &'a PeerMemory,
    slots: u32,
    body: &'a ReceivedBody,
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
    /// The bit pattern is no value of the type.
    #[error("bytes that are no value of the expected type")]
    Pattern,
}

impl<'a> View<'a> {
    #[inline]
    pub(crate) const fn new(peer: &'a PeerMemory, slots: u32, body: &'a ReceivedBody) -> Self {
        Self { peer, slots, body }
    }

    /// Its length in bytes.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        match *self.body {
            ReceivedBody::Inline { len, .. } => len as usize,
            ReceivedBody::Arena { len, .. } => len as usize,
        }
    }

    /// Whether it has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into `target` and returns how many there were.
    #[inline]
    pub fn copy_to(&self, offset: usize, target: &mut [u8]) -> usize {
        let count = self.len().saturating_sub(offset).min(target.len());
        let target = &mut target[..count];
        match self.body {
            ReceivedBody::Inline { words, .. } => {
                if count > 0 {
                    target.copy_from_slice(&inline_bytes(words)[offset..offset + count]);
                }
            }
            ReceivedBody::Arena { offset: base, .. } => {
                self.peer.copy_to(arena_offset(self.slots) + *base as usize + offset, target);
            }
        }
        count
    }

    /// A private copy of the whole message.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.body {
            ReceivedBody::Inline { words, .. } => bytes.extend_from_slice(&inline_bytes(words)[..self.len()]),
            ReceivedBody::Arena { offset, len } => {
                self.peer.append_to(arena_offset(self.slots) + *offset as usize, *len as usize, &mut bytes);
            }
        }
        bytes
    }

    /// Reads the whole message once, in place, 64 bytes at a time as little-endian words, the last block filled up with zeros. The
    /// way to compute over a large payload without copying it first.
    #[inline]
    pub fn fold<A>(&self, start: A, mut step: impl FnMut(A, [u64; 8]) -> A) -> A {
        let mut state = start;
        let whole = match self.body {
            ReceivedBody::Inline { .. } => 0,
            ReceivedBody::Arena { offset, len } => {
                let base = arena_offset(self.slots) + *offset as usize;
                let whole = *len as usize / 64 * 64;
                for at in (0..whole).step_by(64) {
                    state = step(state, self.peer.block(base + at));
                }
                whole
            }
        };
        let mut rest = [0; 64];
        if self.copy_to(whole, &mut rest) == 0 {
            return state;
        }
        step(state, std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|b| rest[i * 8 + b]))))
    }

    /// Writes the bytes from `offset` on to `fd`, without copying them through this process, and returns how many the kernel took.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn write_to(&self, offset: usize, fd: impl AsFd) -> io::Result<usize> {
        let offset = offset.min(self.len());
        match self.body {
            ReceivedBody::Inline { words, .. } => Ok(nix::unistd::write(fd, &inline_bytes(words)[offset..self.len()])?),
            ReceivedBody::Arena { offset: base, .. } => {
                let start = arena_offset(self.slots) + *base as usize + offset;
                self.peer.write_to(start, self.len() - offset, fd)
            }
        }
    }

    /// The message as a plain-old-data value.
    ///
    /// # Errors
    /// [`DecodeError::Length`] if it is not exactly as long as the type.
    #[inline]
    pub fn pod<T: FromBytes>(&self) -> Result<T, DecodeError> {
        let wrong_length = DecodeError::Length { found: self.len(), expected: size_of::<T>() };
        if self.len() != size_of::<T>() {
            return Err(wrong_length);
        }
        match self.body {
            ReceivedBody::Inline { words, .. } => {
                T::read_from_bytes(&inline_bytes(words)[..self.len()]).map_err(|_| wrong_length)
            }
            ReceivedBody::Arena { .. } => T::read_from_bytes(&self.to_vec()).map_err(|_| wrong_length),
        }
    }

    /// The message as a serde value, in whichever of the two encodings it has (both decode from either). It is copied once, and
    /// then decoded from the private copy, nested at most 128 deep.
    ///
    /// # Errors
    /// [`DecodeError::Encoding`] if it is no encoding of `T`.
    #[inline]
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        match self.body {
            ReceivedBody::Inline { words, .. } => from_slice(&inline_bytes(words)[..self.len()]),
            ReceivedBody::Arena { .. } => from_slice(&self.to_vec()),
        }
    }
}

/// The bytes of an inline body.
#[inline]
fn inline_bytes(words: &[u64; BODY_WORDS]) -> [u8; BODY] {
    std::array::from_fn(|i| (words[i / 8] >> (8 * (i % 8))) as u8)
}

#[inline]
fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut decoder).map_err(|error| DecodeError::Encoding(error.to_string()))?;
    Ok(value)
}
