//! The ring: one writer, one reader, a slot of one cache line per message.
//!
//! ```text
//!   Sender                                   Receiver
//!   position (private)                       position (private)
//!   content: relaxed stores
//!   word 0:  swap, SeqCst      ── [P] ──▶    word 0: load, Acquire; its sequence must be position + 1
//!                                            content: relaxed loads, into private memory
//! ```
//!
//! Position p lies in slot p mod n and is there when the slot's sequence is p + 1; before, it is p + 1 − n. Positions
//! wrap at 2^32; a slot's old sequence never equals the new one because n is far less.
//!
//! The swap is a full barrier: what the sender looks at next (is the reader parked, has it closed?) cannot be older than
//! the publication. That look belongs to the caller of [`Sender::publish`].

use crate::Violation;
use crate::layout::{SLOT_WORDS, slot_offset};
use crate::memory::{OwnMemory, PeerMemory};
use crate::message::{CONTENT, Message, Raw};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::handshake_fence;

/// The writing end of the ring in the own segment.
#[derive(Debug)]
pub(crate) struct Sender {
    slots: u32,
    /// Where the next message goes.
    position: u32,
    /// What is known of the reader's progress: never ahead of it.
    taken: u32,
}

impl Sender {
    pub(crate) const fn new(slots: u32) -> Self {
        Self { slots, position: 0, taken: 0 }
    }

    /// Where the next message goes.
    pub(crate) const fn position(&self) -> u32 {
        self.position
    }

    /// What is known of the reader's progress.
    pub(crate) const fn taken(&self) -> u32 {
        self.taken
    }

    /// How many slots are free as far as is known.
    pub(crate) const fn free(&self) -> u32 {
        self.slots - self.position.wrapping_sub(self.taken)
    }

    /// Notes that the reader has taken everything before `taken`. Old news is no harm.
    pub(crate) const fn note_taken(&mut self, taken: u32) {
        let progress = taken.wrapping_sub(self.taken);
        if progress <= self.position.wrapping_sub(self.taken) {
            self.taken = taken;
        }
    }

    /// Checks the progress that the reader tells, and notes it.
    pub(crate) const fn check_taken(&mut self, found: u32) -> Result<u32, Violation> {
        if found.wrapping_sub(self.taken) > self.position.wrapping_sub(self.taken) {
            return Err(Violation::TakenThrough { found, low: self.taken, high: self.position });
        }
        self.taken = found;
        Ok(found)
    }

    /// Publishes a message in the next slot, which the caller knows to be free, and returns its position.
    #[inline]
    pub(crate) fn publish(&mut self, own: &OwnMemory, message: &Message) -> u32 {
        let position = self.position;
        let base = slot_offset(position & (self.slots - 1));
        for (index, word) in message.content[..usize::from(message.words)].iter().enumerate() {
            own.store(base + 8 + index * 8, *word, Relaxed);
        }
        // [P] Publishes the content above and everything in the arena.
        own.swap(base, message.word(position.wrapping_add(1)), SeqCst);
        handshake_fence();
        self.position = position.wrapping_add(1);
        position
    }

    /// Whether the message at `position`, which is not further away than the ring is long, has been published.
    pub(crate) const fn has_published(&self, position: u32) -> bool {
        (position.wrapping_sub(self.position) as i32) < 0
    }

    /// Where the slot of `position` lies: the reader may sleep on it.
    pub(crate) const fn offset_of(&self, position: u32) -> usize {
        slot_offset(position & (self.slots - 1))
    }
}

/// The reading end of the ring in the peer's segment.
#[derive(Debug)]
pub(crate) struct Receiver {
    slots: u32,
    position: u32,
}

/// Whether the next message is there, judging by the first word of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Peek {
    Empty,
    There,
}

impl Receiver {
    pub(crate) const fn new(slots: u32) -> Self {
        Self { slots, position: 0 }
    }

    /// The position of the next message.
    pub(crate) const fn position(&self) -> u32 {
        self.position
    }

    const fn expected(&self) -> u32 {
        self.position.wrapping_add(1)
    }

    /// The sequence that the next slot has while it is empty.
    pub(crate) const fn previous(&self) -> u32 {
        self.expected().wrapping_sub(self.slots)
    }

    /// Where the next slot lies.
    pub(crate) const fn offset(&self) -> usize {
        slot_offset(self.position & (self.slots - 1))
    }

    /// Looks at the first word only, after a `fence` of the parker or closer.
    pub(crate) fn peek_seqcst(&self, peer: &PeerMemory) -> Result<Peek, Violation> {
        handshake_fence();
        self.judge(peer.load(self.offset(), SeqCst))
    }

    #[inline]
    fn judge(&self, word: u64) -> Result<Peek, Violation> {
        let found = word as u32;
        if found == self.previous() {
            return Ok(Peek::Empty);
        }
        if found == self.expected() {
            return Ok(Peek::There);
        }
        Err(Violation::Sequence {
            slot: self.position & (self.slots - 1),
            found,
            expected: self.expected(),
            previous: self.previous(),
        })
    }

    /// Copies the next message into private memory, if it is there, and moves on.
    #[inline]
    pub(crate) fn take(&mut self, peer: &PeerMemory) -> Result<Option<Raw>, Violation> {
        let base = self.offset();
        // [P] Sees the content and the arena as they were published.
        let word = peer.load(base, Acquire);
        if self.judge(word)? == Peek::Empty {
            return Ok(None);
        }
        let mut content = [0; CONTENT];
        for (index, target) in content.iter_mut().enumerate() {
            *target = peer.load(base + 8 + index * 8, Relaxed);
        }
        self.position = self.position.wrapping_add(1);
        Ok(Some(Raw { word, content }))
    }
}

const _: () = assert!(CONTENT + 1 == SLOT_WORDS);
