//! Where everything lies in a segment. `LAYOUT.md` explains it; the asserts below keep the two together.
//!
//! ```text
//!      0 ┌ identity │ progress │ attention │ …   one control page: every line with one purpose
//!   2048 ├ released: 512 words of 32 bits             
//!   4096 ├ slot 0 │ slot 1 │ …                   64 bytes each
//!        ├ arena                                 page-aligned
//! ```

use crate::geometry::{Geometry, PAGE};

/// The bytes of a cache line, and of a slot.
pub(crate) const LINE: usize = 64;
/// The 64-bit words of a slot.
pub(crate) const SLOT_WORDS: usize = LINE / 8;

/// First word of every segment.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"shm-rpc\0");
/// The version of this layout.
pub(crate) const VERSION: u32 = 1;

// Identity: written once when the writer maps, checked once when the reader maps.
pub(crate) const AT_MAGIC: usize = 0;
/// Version in the low half, slots in the high half.
pub(crate) const AT_VERSION_SLOTS: usize = 8;
pub(crate) const AT_ARENA: usize = 16;
/// What its owner can do: [`EVERYONES_BARRIER`].
pub(crate) const AT_ABILITIES: usize = 24;

/// Before it sleeps with several calls under way, it makes a barrier in the threads of its peer, too.
pub(crate) const EVERYONES_BARRIER: u64 = 1;

/// Progress: how many messages of the peer's ring have been taken. Written once per message, read when a ring looks full
/// and after a death; alone in its line, so the writer keeps it.
pub(crate) const AT_TAKEN_THROUGH: usize = LINE;

/// Attention: what a sender must look at after it has published; written only to park, to close, or when the CPU changes.
pub(crate) const AT_PARKED: usize = 2 * LINE;
pub(crate) const AT_CLOSED: usize = AT_PARKED + 8;
pub(crate) const AT_CPU: usize = AT_PARKED + 16;

/// Released: 512 words of 32 bits, the release places. The sender of a payload picks a place that is free and names it in
/// the message; the receiver stores the message's position + 1 there once it no longer reads the payload.
pub(crate) const AT_RELEASED: usize = PAGE / 2;

pub(crate) const AT_RING: usize = PAGE;

/// Where slot `index` begins.
pub(crate) const fn slot_offset(index: u32) -> usize {
    AT_RING + index as usize * LINE
}

/// Where the arena begins.
pub(crate) const fn arena_offset(slots: u32) -> usize {
    (AT_RING + slots as usize * LINE).next_multiple_of(PAGE)
}

const _: () = {
    assert!(cfg!(target_endian = "little"), "the futex word is the low half of a 64-bit word at its own address");
    assert!(LINE == 64 && SLOT_WORDS == 8);
    assert!(AT_TAKEN_THROUGH == 64 && AT_PARKED == 128 && AT_CPU + 8 <= 192);
    assert!(AT_RELEASED == 2048 && (PAGE - AT_RELEASED) / 4 == Geometry::MAX_SLOTS as usize);
    assert!(slot_offset(0) == 4096 && slot_offset(1) == 4160);
    assert!(arena_offset(64) == 8192 && arena_offset(8) == 8192 && arena_offset(512) == 36864);
};
