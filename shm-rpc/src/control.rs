//! The control page: what each side tells the other beside its messages.
//!
//! Every word has one writer, the owner of the segment. What is written here is never read back: the truth lies in private
//! memory.

use crate::geometry::PAGE;
use crate::layout::{AT_CLOSED, AT_CPU, AT_PARKED, AT_RELEASED, AT_TAKEN_THROUGH};
use crate::memory::{OwnMemory, PeerMemory};
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::handshake_fence;

/// How the reader of a ring sleeps, and therefore how it is woken: bits of the `parked` word, below its epoch.
pub(crate) const FUTEX: u64 = 1;
pub(crate) const SOCKET: u64 = 2;
const EPOCH: u64 = 4;

/// The `parked` word as its owner writes it: which of its sleepers sleep, and an epoch that grows with each sleep, so that a
/// peer wakes once per sleep and not once per message.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    bits: u64,
    epoch: u64,
}

impl Parked {
    /// A sleeper of the kind `bit` is about to sleep. After this it must look at the ring once more.
    pub(crate) fn set(&mut self, own: &OwnMemory, bit: u64) {
        self.bits |= bit;
        self.epoch = self.epoch.wrapping_add(EPOCH);
        // [K] Before the look at the ring that follows; the sender looks here after its swap.
        own.swap(AT_PARKED, self.epoch | self.bits, SeqCst);
        handshake_fence();
    }

    /// That sleeper is awake. Only the sleeper's side ever clears the flag: a waker that did could eat a later sleep.
    pub(crate) fn clear(&mut self, own: &OwnMemory, bit: u64) {
        if self.bits & bit != 0 {
            self.bits &= !bit;
            own.store(AT_PARKED, self.epoch | self.bits, Relaxed);
        }
    }

    pub(crate) const fn is_set(&self, bit: u64) -> bool {
        self.bits & bit != 0
    }
}

/// What a sender remembers of the reader's sleeps.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    last: u64,
}

impl Woken {
    /// The kinds of sleepers that must be woken now, after a publication: each sleep once.
    #[inline]
    pub(crate) fn look(&mut self, peer: &PeerMemory) -> u64 {
        // [K] After the swap that published.
        let word = peer.load(AT_PARKED, SeqCst);
        let bits = word & (FUTEX | SOCKET);
        if bits == 0 || word == self.last {
            return 0;
        }
        self.last = word;
        bits
    }
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
    // [C] Before the looks at the ring that find its end; the sender looks here after its swap.
    own.swap(AT_CLOSED, 1, SeqCst);
    handshake_fence();
}

/// Whether the peer has begun to close our ring. To be looked at after a publication.
#[inline]
pub(crate) fn is_closed(peer: &PeerMemory) -> bool {
    // [C] After the swap that published.
    peer.load(AT_CLOSED, SeqCst) != 0
}

/// The CPU that the peer said it runs on, if it has.
pub(crate) fn peer_cpu(peer: &PeerMemory) -> Option<u32> {
    (peer.load(AT_CPU, Relaxed) as u32).checked_sub(1)
}

/// Tells the CPU that this side runs on.
pub(crate) fn store_cpu(own: &OwnMemory, cpu: u32) {
    own.store(AT_CPU, u64::from(cpu) + 1, Relaxed);
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
