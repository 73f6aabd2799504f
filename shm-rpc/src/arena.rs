//! The payload arena of the own segment: which bytes are free, and blocks on loan.
#![allow(unsafe_code, reason = "a loan hands out a mutable slice of the arena")]

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::blob::Blob;
use crate::geometry::PAGE;
use crate::layout::arena_offset;
use crate::memory::OwnMemory;
use crate::payload::Attached;
use crate::release::Held;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{AcqRel, Relaxed};
use crate::sync::{Arc, Mutex, lock};
use crate::{CallError, Geometry, OwnSegment};

/// Blocks begin at and are multiples of a cache line.
const GRAIN: u32 = 64;

/// A stretch of the arena that somebody owns. Giving it back is the owner's duty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// The free stretches of an arena, ascending, never empty, never touching each other.
#[derive(Debug)]
pub(crate) struct Extents {
    free: Vec<Block>,
}

impl Extents {
    pub(crate) fn new(len: u32) -> Self {
        Self { free: if len == 0 { Vec::new() } else { vec![Block { offset: 0, len }] } }
    }

    /// The first stretch that has room for `len` bytes: low addresses are used again and again, so they stay in the cache and
    /// the others are never touched.
    pub(crate) fn take(&mut self, len: u32) -> Option<Block> {
        let len = len.max(1).checked_next_multiple_of(GRAIN)?;
        let index = self.free.iter().position(|it| it.len >= len)?;
        let found = &mut self.free[index];
        let block = Block { offset: found.offset, len };
        found.offset += len;
        found.len -= len;
        if found.len == 0 {
            self.free.remove(index);
        }
        Some(block)
    }

    /// Makes `block` longer in place, if what follows it is free.
    pub(crate) fn grow(&mut self, block: &mut Block, len: u32) -> bool {
        let Some(len) = len.checked_next_multiple_of(GRAIN) else { return false };
        let Some(more) = len.checked_sub(block.len) else { return true };
        let end = block.offset + block.len;
        let Some(index) = self.free.iter().position(|it| it.offset == end && it.len >= more) else { return more == 0 };
        let found = &mut self.free[index];
        found.offset += more;
        found.len -= more;
        block.len = len;
        if found.len == 0 {
            self.free.remove(index);
        }
        true
    }

    /// Takes back what a block has beyond `len` bytes.
    pub(crate) fn shrink(&mut self, block: &mut Block, len: u32) {
        let len = len.max(1).next_multiple_of(GRAIN);
        if len < block.len {
            self.give(Block { offset: block.offset + len, len: block.len - len });
            block.len = len;
        }
    }

    /// Takes a block back.
    pub(crate) fn give(&mut self, block: Block) {
        let index = self.free.partition_point(|it| it.offset < block.offset);
        let joins_next = self.free.get(index).is_some_and(|it| block.offset + block.len == it.offset);
        let joins_previous = index > 0 && self.free[index - 1].offset + self.free[index - 1].len == block.offset;
        match (joins_previous, joins_next) {
            (true, true) => {
                self.free[index - 1].len += block.len + self.free[index].len;
                self.free.remove(index);
            }
            (true, false) => self.free[index - 1].len += block.len,
            (false, true) => {
                self.free[index].offset = block.offset;
                self.free[index].len += block.len;
            }
            (false, false) => self.free.insert(index, block),
        }
    }
}

/// What is free, and how far the arena has been touched: a multiple of a page.
#[derive(Debug)]
struct Arena {
    extents: Extents,
    filled: u32,
}

/// A blob that the outbox keeps until its message is sent. Taking it out is the owner's duty.
#[derive(Debug)]
pub(crate) struct Kept(u64);

/// The own segment as several threads share it: words for whoever holds the ring, blocks for whoever loans them.
pub(crate) struct Outbox {
    pub(crate) memory: OwnMemory,
    pub(crate) geometry: Geometry,
    arena: Mutex<Arena>,
    /// A block that came back and waits for a loan of its size, offset in the low half: a call after the other with payloads
    /// of one size goes around the lock. 0: none.
    spare: AtomicU64,
    blobs: Mutex<Blobs>,
    /// Last: the memory above is unmapped when it tells.
    _held: Held,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({:?})", self.geometry)
    }
}

impl Outbox {
    pub(crate) fn new(segment: OwnSegment, held: Held) -> Arc<Self> {
        let OwnSegment { memory, geometry } = segment;
        let arena = Mutex::new(Arena { extents: Extents::new(geometry.arena()), filled: 0 });
        Arc::new(Self { memory, geometry, arena, spare: AtomicU64::new(0), blobs: Mutex::default(), _held: held })
    }

    /// A block of at least `len` bytes.
    ///
    /// # Errors
    /// `TooLarge` if the arena could never hold it, `Overloaded` if it cannot now.
    pub(crate) fn take(&self, len: usize) -> Result<Block, CallError> {
        let arena = self.geometry.arena();
        let too_large = || CallError::TooLarge { len: len as u64, limit: u64::from(arena) };
        let wanted = u32::try_from(len).ok().filter(|it| *it <= arena && arena > 0).ok_or_else(too_large)?;
        let spare = self.take_spare();
        if let Some(block) = spare {
            if block.len == wanted.max(1).next_multiple_of(GRAIN) {
                return Ok(block);
            }
            lock(&self.arena).extents.give(block);
        }
        let mut arena = lock(&self.arena);
        let block = arena.extents.take(wanted).ok_or(CallError::Overloaded { retry_after: crate::RETRY_AFTER })?;
        self.fill(&mut arena, &block);
        Ok(block)
    }

    /// Touches every page that `block` has and that lies before it: its reader does not read holes, which he would be charged for.
    fn fill(&self, arena: &mut Arena, block: &Block) {
        while arena.filled < block.offset + block.len {
            // Nothing from here on has ever been lent.
            self.memory.store(arena_offset(self.geometry.slots()) + arena.filled as usize, 0, Relaxed);
            arena.filled += PAGE as u32;
        }
    }

    fn take_spare(&self) -> Option<Block> {
        if self.spare.load(Relaxed) == 0 {
            return None;
        }
        let word = self.spare.swap(0, AcqRel);
        (word != 0).then_some(Block { offset: word as u32, len: (word >> 32) as u32 })
    }

    /// Takes a block back: nobody reads it any more.
    pub(crate) fn give(&self, block: Block) {
        let word = u64::from(block.offset) | u64::from(block.len) << 32;
        if self.spare.compare_exchange(0, word, AcqRel, Relaxed).is_err() {
            lock(&self.arena).extents.give(block);
        }
    }

    /// Keeps a blob whose message is under way to the ring.
    pub(crate) fn keep(&self, blob: Blob) -> Kept {
        let mut blobs = lock(&self.blobs);
        blobs.next += 1;
        let key = blobs.next;
        blobs.kept.insert(key, blob);
        Kept(key)
    }

    /// The blob that was kept.
    pub(crate) fn take_kept(&self, kept: Kept) -> Option<Blob> {
        lock(&self.blobs).kept.remove(&kept.0)
    }

    /// Takes back what a message has that is not sent.
    pub(crate) fn give_attached(&self, attached: Attached) {
        match attached {
            Attached::Block(block) => self.give(block),
            Attached::Blob(kept) => drop(self.take_kept(kept)),
        }
    }

    fn grow(&self, block: &mut Block, len: usize) -> bool {
        // What follows it may be the spare block.
        if let Some(spare) = self.take_spare() {
            lock(&self.arena).extents.give(spare);
        }
        let Ok(len) = u32::try_from(len) else { return false };
        let mut arena = lock(&self.arena);
        let has_grown = arena.extents.grow(block, len);
        self.fill(&mut arena, block);
        has_grown
    }

    fn shrink(&self, block: &mut Block, len: u32) {
        if len.max(1).next_multiple_of(GRAIN) < block.len {
            lock(&self.arena).extents.shrink(block, len);
        }
    }
}

/// Blobs whose messages are on their way to the ring.
#[derive(Default)]
struct Blobs {
    next: u64,
    kept: HashMap<u64, Blob>,
}

/// A block of the sender's own arena, to be filled in place and then sent: nothing is copied. Dropped unsent, it goes back.
///
/// It starts with whatever an earlier message of this channel has left there.
pub struct Loan<'a> {
    outbox: Hold<'a>,
    block: Option<Block>,
    len: usize,
}

/// A share in the arena, or the use of somebody's: whoever makes a loan and sends it at once needs none.
enum Hold<'a> {
    Own(Arc<Outbox>),
    Borrowed(&'a Arc<Outbox>),
}

impl Deref for Hold<'_> {
    type Target = Arc<Outbox>;

    #[inline(always)]
    fn deref(&self) -> &Arc<Outbox> {
        match self {
            Self::Own(outbox) => outbox,
            Self::Borrowed(outbox) => outbox,
        }
    }
}

impl Loan<'static> {
    pub(crate) fn new(outbox: &Arc<Outbox>, len: usize) -> Result<Self, CallError> {
        let block = outbox.take(len)?;
        Ok(Self { outbox: Hold::Own(Arc::clone(outbox)), block: Some(block), len })
    }
}

impl<'a> Loan<'a> {
    /// A loan that cannot outlive this end.
    pub(crate) fn borrowed(outbox: &'a Arc<Outbox>, len: usize) -> Result<Self, CallError> {
        let block = outbox.take(len)?;
        Ok(Self { outbox: Hold::Borrowed(outbox), block: Some(block), len })
    }

    /// The same loan, held by another hand.
    pub(crate) fn handed_to(mut self, outbox: &Arc<Outbox>) -> Loan<'_> {
        Loan { outbox: Hold::Borrowed(outbox), block: self.block.take(), len: self.len }
    }

    /// Shortens it to `len` bytes. Has no effect if it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `len` bytes, keeping what is there, at another place if need be.
    pub(crate) fn extend_to(&mut self, len: usize) -> Result<(), CallError> {
        if let Some(block) = &mut self.block
            && (block.len as usize >= len || self.outbox.grow(block, len))
        {
            self.len = len;
            return Ok(());
        }
        let block = self.outbox.take(len)?;
        let mut larger = Loan { outbox: Hold::Borrowed(&self.outbox), block: Some(block), len };
        larger[..self.len].copy_from_slice(self);
        let block = larger.block.take();
        drop(larger);
        if let Some(smaller) = std::mem::replace(&mut self.block, block) {
            self.outbox.give(smaller);
        }
        self.len = len;
        Ok(())
    }

    pub(crate) fn is_of(&self, outbox: &Arc<Outbox>) -> bool {
        Arc::ptr_eq(&*self.outbox, outbox)
    }

    /// The block, to be kept until the reader is done with it, and the length of the message.
    pub(crate) fn into_block(mut self) -> (Block, u32) {
        let len = self.len as u32;
        let mut block = self.block.take().expect("a loan has its block until it is taken from it");
        self.outbox.shrink(&mut block, len);
        (block, len)
    }

    fn place(&self) -> usize {
        let offset = self.block.as_ref().map_or(0, |it| it.offset);
        arena_offset(self.outbox.geometry.slots()) + offset as usize
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.outbox.give(block);
        }
    }
}

impl Deref for Loan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block belongs to this loan alone until it is given back (`Extents` never hands out a byte twice), and
        // `&self` excludes the `&mut self` of `deref_mut`. The peer has no writable mapping of this segment.
        unsafe { self.outbox.memory.bytes_mut(self.place(), self.len) }
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` excludes every other slice of this block.
        unsafe { self.outbox.memory.bytes_mut(self.place(), self.len) }
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loan({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(u32),
        Give(usize),
        Grow(usize, u32),
        Shrink(usize, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3000_u32).prop_map(Step::Take),
            any::<usize>().prop_map(Step::Give),
            (any::<usize>(), 0..4000_u32).prop_map(|(i, n)| Step::Grow(i, n)),
            (any::<usize>(), 0..3000_u32).prop_map(|(i, n)| Step::Shrink(i, n)),
        ]
    }

    proptest! {
        #[test]
        fn no_byte_is_lent_twice_and_none_is_lost(steps in proptest::collection::vec(step(), 0..200)) {
            const ARENA: u32 = 16 * 1024;
            let mut extents = Extents::new(ARENA);
            let mut lent: Vec<Block> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(len) => {
                        if let Some(block) = extents.take(len) {
                            prop_assert!(block.len >= len);
                            lent.push(block);
                        } else {
                            let longest = extents.free.iter().map(|it| it.len).max().unwrap_or(0);
                            prop_assert!(longest < len.max(1).next_multiple_of(GRAIN));
                        }
                    }
                    Step::Give(index) if !lent.is_empty() => {
                        let block = lent.swap_remove(index % lent.len());
                        extents.give(block);
                    }
                    Step::Grow(index, len) if !lent.is_empty() => {
                        let index = index % lent.len();
                        let before = lent[index].len;
                        if extents.grow(&mut lent[index], len) {
                            prop_assert!(lent[index].len >= len.max(before));
                        } else {
                            prop_assert_eq!(lent[index].len, before);
                        }
                    }
                    Step::Shrink(index, len) if !lent.is_empty() => {
                        let index = index % lent.len();
                        extents.shrink(&mut lent[index], len);
                        prop_assert!(lent[index].len >= GRAIN);
                    }
                    Step::Give(_) | Step::Grow(..) | Step::Shrink(..) => {}
                }
                let mut owners = vec![0_u8; (ARENA / GRAIN) as usize];
                for block in lent.iter().chain(&extents.free) {
                    for grain in block.offset / GRAIN..(block.offset + block.len) / GRAIN {
                        owners[grain as usize] += 1;
                    }
                }
                prop_assert!(owners.iter().all(|it| *it == 1), "{:?}", owners);
                prop_assert!(extents.free.windows(2).all(|it| it[0].offset + it[0].len < it[1].offset));
            }
        }
    }
}
