//! What a message is made of: bytes, plain-old-data, serde values, blocks on loan, blobs. One trait, so that calls and replies
//! take any of them.

use std::io;

use serde::Serialize;
use zerocopy::{Immutable, IntoBytes};

use crate::CallError;
use crate::arena::{Block, Kept, Loan, Outbox};
use crate::blob::Blob;
use crate::message::{ARENA, BLOB, Kind, Slot};
use crate::sync::Arc;

/// How serde values are laid out in a message. Both ends of a channel must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// rmp-serde's array form: smallest and fastest, for two ends that know the same schema.
    Positional,
    /// rmp-serde's map form: unknown fields are ignored and missing ones defaulted, for two ends that do not.
    ByName,
}

/// Something that can be sent: it writes itself straight into the message.
pub trait Payload {
    /// Writes the message.
    ///
    /// # Errors
    /// `TooLarge` and `Overloaded` from the writer, `Invalid` if the value cannot be encoded.
    fn write(self, out: &mut Writer<'_>) -> Result<(), CallError>;
}

/// Where a [`Payload`] writes to: the slot, and when that is full the arena. There is no buffer in between that grows with
/// the message.
#[derive(Debug)]
pub struct Writer<'a> {
    outbox: &'a Arc<Outbox>,
    slot: &'a mut Slot,
    /// The bytes that the slot has room for.
    room: usize,
    len: usize,
    body: Body<'a>,
    failed: Option<CallError>,
}

/// Where the bytes written so far are.
#[derive(Debug)]
enum Body<'a> {
    Slot,
    Arena(Loan<'a>),
    /// They are all of this blob.
    Blob(Blob),
}

/// What a message has beside its slot. As with a block, giving it back is its owner's duty: so it is plain data, and a message that
/// has nothing of it pays nothing for it.
#[derive(Debug)]
pub(crate) enum Attached {
    /// A block of the own arena, to be kept until nobody reads it.
    Block(Block),
    /// A blob in the outbox, whose descriptor goes before the message.
    Blob(Kept),
}

/// The first loan of a message whose length is not known.
const FIRST_SPILL: usize = 1024;

impl<'a> Writer<'a> {
    #[inline(always)]
    pub(crate) fn new(outbox: &'a Arc<Outbox>, slot: &'a mut Slot, room: usize) -> Self {
        Self { outbox, slot, room, len: 0, body: Body::Slot, failed: None }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// `TooLarge` if the message can never fit into the arena, `Overloaded` if it does not fit now.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        if matches!(self.body, Body::Slot) && bytes.len() <= self.room - self.len {
            self.slot.body_mut()[self.len..][..bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
            return Ok(());
        }
        self.put_in_arena(bytes)
    }

    #[cold]
    fn put_in_arena(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        let len = self.len.saturating_add(bytes.len());
        match &mut self.body {
            Body::Slot => {
                // A known length is loaned exactly; one that grows gets room ahead, which is given back at the end.
                let ahead = if self.len == 0 { len } else { len.max(FIRST_SPILL).min(self.arena_len().max(len)) };
                let mut loan = Loan::borrowed(self.outbox, ahead)?;
                loan[..self.len].copy_from_slice(self.slot.body(self.len));
                self.body = Body::Arena(loan);
            }
            Body::Arena(loan) if loan.len() < len => {
                let doubled = loan.len().saturating_mul(2).min(self.outbox.geometry.arena() as usize);
                if loan.extend_to(doubled.max(len)).is_err() {
                    loan.extend_to(len)?;
                }
            }
            Body::Arena(_) => {}
            // More follows it: then it is bytes like others.
            Body::Blob(blob) => {
                let blob = blob.clone();
                (self.body, self.len) = (Body::Slot, 0);
                self.put(&blob)?;
                return self.put(bytes);
            }
        }
        if let Body::Arena(loan) = &mut self.body {
            loan[self.len..len].copy_from_slice(bytes);
            self.len = len;
        }
        Ok(())
    }

    fn arena_len(&self) -> usize {
        self.outbox.geometry.arena() as usize
    }

    /// Completes the slot, all but method or code and id, and gives what holds the body.
    #[inline(always)]
    pub(crate) fn finish(self, kind: Kind, flags: u8) -> Option<Attached> {
        match self.body {
            Body::Slot => {
                self.slot.set_head(kind, flags, self.len as u16);
                None
            }
            Body::Arena(loan) => Some(Attached::Block(finish_in_arena(loan, self.len, self.slot, kind, flags))),
            Body::Blob(blob) => Some(Attached::Blob(finish_as_blob(self.outbox, blob, self.slot, kind, flags))),
        }
    }
}

#[cold]
fn finish_as_blob(outbox: &Outbox, blob: Blob, slot: &mut Slot, kind: Kind, flags: u8) -> Kept {
    slot.set_head(kind, flags | BLOB, 0);
    slot.set_blob(blob.len() as u32);
    outbox.keep(blob)
}

#[cold]
fn finish_in_arena(mut loan: Loan<'_>, len: usize, slot: &mut Slot, kind: Kind, flags: u8) -> Block {
    loan.truncate(len);
    let (block, len) = loan.into_block();
    slot.set_head(kind, flags | ARENA, 0);
    slot.set_place(block.offset, len);
    block
}

impl io::Write for Writer<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline(always)]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes).map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::OutOfMemory.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An empty message.
impl Payload for () {
    #[inline(always)]
    fn write(self, _: &mut Writer<'_>) -> Result<(), CallError> {
        Ok(())
    }
}

impl Payload for &[u8] {
    #[inline(always)]
    fn write(self, out: &mut Writer<'_>) -> Result<(), CallError> {
        out.put(self)
    }
}

/// A plain-old-data value: its bytes are the message, no codec is involved.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a, T: ?Sized>(pub &'a T);

impl<T: IntoBytes + Immutable + ?Sized> Payload for Pod<'_, T> {
    #[inline(always)]
    fn write(self, out: &mut Writer<'_>) -> Result<(), CallError> {
        out.put(self.0.as_bytes())
    }
}

/// A serde value, encoded by rmp-serde.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a, T: ?Sized>(pub Encoding, pub &'a T);

impl<T: Serialize + ?Sized> Payload for Encoded<'_, T> {
    #[inline(always)]
    fn write(self, out: &mut Writer<'_>) -> Result<(), CallError> {
        let result = match self.0 {
            Encoding::Positional => self.1.serialize(&mut rmp_serde::Serializer::new(&mut *out)),
            Encoding::ByName => self.1.serialize(&mut rmp_serde::Serializer::new(&mut *out).with_struct_map()),
        };
        result.map_err(|error| out.failed.take().unwrap_or_else(|| CallError::Invalid(format!("encoding: {error}"))))
    }
}

/// A block that was filled in place. It must come from the same end of the same channel.
impl Payload for Loan<'_> {
    fn write(self, out: &mut Writer<'_>) -> Result<(), CallError> {
        if !self.is_of(out.outbox) {
            return Err(CallError::Invalid("a loan of another channel".into()));
        }
        if out.len != 0 {
            return out.put(&self);
        }
        out.len = self.len();
        out.body = Body::Arena(self.handed_to(out.outbox));
        Ok(())
    }
}

/// A blob: its bytes stay where they are, and the receiver may keep them ([`crate::View::frozen`]).
impl Payload for &Blob {
    fn write(self, out: &mut Writer<'_>) -> Result<(), CallError> {
        if out.len != 0 || self.is_empty() {
            return out.put(self);
        }
        out.len = self.len();
        out.body = Body::Blob(self.clone());
        Ok(())
    }
}

/// A message that a closure writes.
#[derive(Clone, Copy, Debug)]
pub struct With<F>(pub F);

impl<F: FnOnce(&mut Writer<'_>) -> Result<(), CallError>> Payload for With<F> {
    #[inline(always)]
    fn write(self, out: &mut Writer<'_>) -> Result<(), CallError> {
        (self.0)(out)
    }
}
