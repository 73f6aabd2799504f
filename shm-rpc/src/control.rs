//! The control page: what each side tells the other beside its messages.
//!
//! Every word has one writer, the owner of the segment. What is written here is never read back: the truth lies in private
//! memory.

use crate::geometry::PAGE;
use crate::layout::{AT_CLOSED, AT_CPU, AT_PARKED, AT_RELEASED, AT_TAKEN_THROUGH};
use crate::memory::{OwnMemory, PeerMemory};
use crate::ring::{Sender, fence_before_looks};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::atomic::fence;

/// How the reader of a ring sleeps, and therefore how it is woken: bits of the `parked` word.
pub(crate) const FUTEX: u64 = 1;
pub(crate) const SOCKET: u64 = 2;

/// Which fence stands between a sleeper's flag and its last look at the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// Its own: the sender makes one between its publication and its look at the flag.
    Own,
    /// Its own and the sender's, which has left it out.
    Everyones,
}

/// Who makes the fence between a publication and the look whether the reader sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// The sender itself.
    Ours,
    /// The reader, should it go to sleep: it makes [`Barrier::Everyones`].
    Readers,
}

impl Fence {
    #[inline(always)]
    pub(crate) fn make(self) {
        match self {
            Self::Ours => fence_before_looks(),
            // [K] Its other end makes this a full fence, at a price that only the other end pays.
            #[cfg(not(loom))]
            Self::Readers => std::sync::atomic::compiler_fence(SeqCst),
            // What the two ends are together, by membarrier(2): a full fence on each side.
            #[cfg(loom)]
            Self::Readers => fence(SeqCst),
        }
    }
}

/// A full fence here, and in every [`Fence::Readers`] that is being passed.
fn everyones_barrier() {
    #[cfg(not(loom))]
    crate::futex::everyones_barrier();
    #[cfg(loom)]
    fence(SeqCst);
}

/// The `parked` word as its owner writes it: how its sleepers sleep (low half), and the position of the message that they
/// sleep for (high half), so that the peer wakes them when it publishes that one, and only then.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    bits: u64,
    position: u32,
}

impl Parked {
    fn word(&self) -> u64 {
        self.bits | u64::from(self.position) << 32
    }

    /// A sleeper of the kind `bit` is about to sleep for the message at `position`. After this it must look at the ring once
    /// more.
    pub(crate) fn set(&mut self, own: &OwnMemory, bit: u64, position: u32, barrier: Barrier) {
        self.bits |= bit;
        self.position = position;
        // [K] Before the look at the ring that follows; the sender looks here after it has published.
        own.store(AT_PARKED, self.word(), Relaxed);
        match barrier {
            Barrier::Own => fence(SeqCst),
            Barrier::Everyones => everyones_barrier(),
        }
    }

    /// That sleeper is awake. Only the sleeper's side ever clears the flag: a waker that did could eat a later sleep.
    pub(crate) fn clear(&mut self, own: &OwnMemory, bit: u64) {
        if self.is_set(bit) {
            self.bits &= !bit;
            own.store(AT_PARKED, self.word(), Relaxed);
        }
    }

    pub(crate) const fn is_set(&self, bit: u64) -> bool {
        self.bits & bit != 0
    }
}

/// What a sender remembers of the reader's sleeps: the last `parked` word that it has acted on.
///
/// A look may come late, when the message that it follows has long been taken and the reader sleeps for a later one. That sleep
/// belongs to whoever publishes that later message, so such a look must neither wake nor remember.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    last: u64,
}

impl Woken {
    /// Who must be woken now, after a publication: each sleep once.
    #[inline]
    pub(crate) fn look(&mut self, peer: &PeerMemory, sender: &Sender) -> Wake {
        // [K] After the fence behind the publication.
        let word = peer.load(AT_PARKED, Relaxed);
        let bits = word & (FUTEX | SOCKET);
        if bits == 0 { Wake::NOBODY } else { self.whom(word, bits, sender) }
    }

    #[cold]
    fn whom(&mut self, word: u64, bits: u64, sender: &Sender) -> Wake {
        let position = (word >> 32) as u32;
        if word == self.last || !sender.has_published(position) {
            return Wake::NOBODY;
        }
        self.last = word;
        Wake { bits, offset: sender.offset_of(position) }
    }
}

/// Sleepers of the peer that are to be woken, once no lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Wake {
    /// Of which kinds.
    pub(crate) bits: u64,
    /// The slot that they may sleep on.
    pub(crate) offset: usize,
}

impl Wake {
    pub(crate) const NOBODY: Self = Self { bits: 0, offset: 0 };
}

/// Tells that everything before `position` of the peer's ring has been taken.
#[inline]
pub(crate) fn store_taken_through(own: &OwnMemory, position: u32) {
    // [T] What was read from those slots was read before.
    own.store(AT_TAKEN_THROUGH, u64::from(position), Release);
}

/// The peer's claim of what it has taken.
pub(crate) fn load_taken_through(peer: &PeerMemory) -> u32 {
    // [T]
    peer.load(AT_TAKEN_THROUGH, Acquire) as u32
}

/// Begins to close the peer's ring: from its next look on, its sender knows. Where the ring ends is told by a `Closed`
/// message, in order with the answers.
pub(crate) fn set_closed(own: &OwnMemory) {
    // [C] Before the looks at the ring that find its end; the sender looks here after it has published.
    own.store(AT_CLOSED, 1, Relaxed);
    fence(SeqCst);
}

/// Whether the peer has begun to close our ring. To be looked at after a publication.
#[inline]
pub(crate) fn is_closed(peer: &PeerMemory) -> bool {
    // [C] After the fence behind the publication.
    peer.load(AT_CLOSED, Relaxed) != 0
}

/// The CPU that the peer says it runs on, plus one; 0 while it has not.
#[inline]
pub(crate) fn load_cpu(peer: &PeerMemory) -> u32 {
    peer.load(AT_CPU, Relaxed) as u32
}

/// Tells the CPU that this side runs on, plus one.
pub(crate) fn store_cpu(own: &OwnMemory, cpu: u32) {
    own.store(AT_CPU, u64::from(cpu), Relaxed);
}

/// Where the peer tells that it no longer reads the payload with the release place `place`.
const fn released_offset(place: u16) -> usize {
    AT_RELEASED + 4 * place as usize
}

/// How many payloads can be unreleased at a time.
pub(crate) const RELEASE_PLACES: u16 = ((PAGE - AT_RELEASED) / 4) as u16;

/// Tells that the payload of the peer's message at `position`, which came with `place`, is no longer read.
pub(crate) fn store_released(own: &OwnMemory, place: u16, position: u32) {
    // [R] After the reads of the payload.
    own.store_half(released_offset(place), position.wrapping_add(1), Release);
}

/// Whether the peer says that it no longer reads the payload of our message at `position`, sent with `place`.
pub(crate) fn is_released(peer: &PeerMemory, place: u16, position: u32) -> bool {
    let at = released_offset(place);
    // [R]
    let word = peer.load(at & !7, Acquire);
    (word >> (8 * (at & 4))) as u32 == position.wrapping_add(1)
}
