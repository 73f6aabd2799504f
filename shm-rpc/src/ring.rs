//! The ring: one writer, one reader, a slot of one cache line per message.
//!
//! ```text
//!   Sender                                   Receiver
//!   position (private)                       position (private)
//!   content: relaxed stores
//!   word 0:  store, Release    ── [P] ──▶    word 0: load, Acquire; its sequence must be position + 1
//!                                            content: copied into private memory
//! ```
//!
//! Position p lies in slot p mod n and is there when the slot's sequence is p + 1; before, it is p + 1 − n. Positions
//! wrap at 2^32; a slot's old sequence never equals the new one because n is far less.
//!
//! Stores leave a core in order, and a slot's wait until its line has come from the reader. Where many messages are sent in a row it
//! is the stores *between* two slots that decide how many lines are on their way at once: with 0, 8, 16 and 30 of them a bare ring of
//! 64-byte messages takes 8, 12, 20 and 36 ns a message each way (two near cores; by a program that is not kept). So what runs between publications keeps its state
//! in registers, and passes errors by one word. To ask for the lines ahead makes it slower.
//!
//! A full fence must follow the publication: what the sender looks at next (is the reader parked, has it closed?) cannot be older
//! than it. Both belong to the caller of [`Sender::publish`], so that several publications can share them.

use crate::Violation;
use crate::layout::slot_offset;
use crate::memory::{OwnMemory, PeerMemory};
use crate::message::Slot;
use crate::sync::atomic::Ordering::{Acquire, SeqCst};
use crate::sync::atomic::fence;

/// How many slots ahead the reader asks for a line. Where messages come in a row, lines that are on their way overlap, where waiting
/// for one after the other would cost the distance to the other core each time (far apart: 27 ns a message instead of 65). A line
/// that is not written yet is in the reader's cache already, from a lap before. The same for the writer's lines gains nothing.
const AHEAD: u32 = 4;

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

    /// Publishes a message in the next slot, which the caller knows to be free, and returns its position. A fence belongs
    /// between this, or the last of several of these, and the look at the reader.
    #[inline(always)]
    pub(crate) fn publish(&mut self, own: &OwnMemory, slot: &Slot) -> u32 {
        let position = self.position;
        self.position = position.wrapping_add(1);
        // [P] Publishes the content, which is stored before, and everything in the arena. A plain store, so that it commits
        // together with the content: a locked one would lose the line to the polling reader in between, and fetch it twice.
        own.store_slot(slot_offset(position & (self.slots - 1)), slot.first(self.position), &slot.0);
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

/// What a sender does between its publications and its looks at the reader (does it sleep, has it closed?).
#[inline(always)]
pub(crate) fn fence_before_looks() {
    fence(SeqCst);
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

    /// Looks at the first word only: what the parker does after it has told that it will sleep.
    pub(crate) fn peek(&self, peer: &PeerMemory) -> Result<Peek, Violation> {
        self.judge(peer.load(self.offset(), Acquire))
    }

    /// Whether a slot's first word is that of the next message.
    #[inline(always)]
    pub(crate) const fn is_next(&self, word: u64) -> bool {
        word as u32 == self.expected()
    }

    #[inline(always)]
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
    #[inline(always)]
    pub(crate) fn take(&mut self, peer: &PeerMemory, slot: &mut Slot) -> Result<Peek, Violation> {
        let base = self.offset();
        // [P] Sees the content and the arena as they were published.
        let word = peer.load(base, Acquire);
        if self.judge(word)? == Peek::Empty {
            return Ok(Peek::Empty);
        }
        // The first word is the one that was judged, not what a liar has made of it since.
        peer.load_slot(base, word, &mut slot.0);
        peer.prefetch(slot_offset(self.position.wrapping_add(AHEAD) & (self.slots - 1)));
        self.position = self.position.wrapping_add(1);
        Ok(Peek::There)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::Ordering::Relaxed;

    use proptest::prelude::*;

    use super::*;
    use crate::message::Kind;
    use crate::{End, Geometry};

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Publish(u32),
        Take,
        LearnProgress,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![any::<u32>().prop_map(Step::Publish), Just(Step::Take), Just(Step::LearnProgress)]
    }

    proptest! {
        /// Positions begin shortly before they wrap.
        #[test]
        fn a_ring_is_a_bounded_queue(steps in proptest::collection::vec(step(), 0..300), before in 0..40_u32) {
            let geometry = Geometry::new(8, 0).unwrap();
            let (writer, reader) = End::pair(geometry, geometry).unwrap();
            let start = 0_u32.wrapping_sub(before);
            let mut sender = Sender { slots: 8, position: start, taken: start };
            let mut receiver = Receiver { slots: 8, position: start };
            for ahead in 0..8 {
                let position = start.wrapping_add(ahead);
                writer.own.memory.store(sender.offset_of(position), u64::from(position.wrapping_sub(7)), Relaxed);
            }
            let mut model = VecDeque::new();
            let mut unknown = 0;
            let mut slot = Slot::EMPTY;
            for step in steps {
                match step {
                    Step::Publish(number) if sender.free() > 0 => {
                        let position = sender.publish(&writer.own.memory, &Slot::short(Kind::Call, number, !number));
                        prop_assert!(sender.has_published(position) && !sender.has_published(sender.position()));
                        model.push_back(number);
                    }
                    Step::Publish(_) => prop_assert_eq!(model.len() + unknown, 8),
                    Step::Take => {
                        let found = receiver.take(&reader.peer.memory, &mut slot).unwrap();
                        prop_assert_eq!(found == Peek::There, !model.is_empty());
                        if let Some(number) = model.pop_front() {
                            prop_assert_eq!((slot.low(), slot.id()), (number, !number));
                            unknown += 1;
                        }
                    }
                    Step::LearnProgress => {
                        sender.check_taken(receiver.position()).unwrap();
                        unknown = 0;
                        prop_assert!(sender.check_taken(receiver.position().wrapping_sub(1)).is_err());
                        prop_assert!(sender.check_taken(sender.position().wrapping_add(1)).is_err());
                    }
                }
                prop_assert_eq!(sender.free() as usize, 8 - model.len() - unknown);
            }
        }
    }
}
