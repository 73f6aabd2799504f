//! A channel's two segments as one end has them: its own, which it writes, and the peer's, which it reads.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, Release};

use nix::sys::stat::fstat;

use crate::filled::{Filled, first_hole};
use crate::layout::{self, AT_ABILITIES, AT_ARENA, AT_MAGIC, AT_VERSION_SLOTS, EVERYONES_BARRIER, MAGIC, VERSION};
use crate::memory::{OwnMemory, PeerMemory};
use crate::segment::{SEALS, seals};
use crate::{Geometry, futex};

/// Why a segment was not mapped.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The kernel refused.
    #[error("mapping a segment: {0}")]
    Os(#[from] io::Error),
    /// The descriptor's size is not the geometry's. Whoever made the segment is to blame.
    #[error("a segment of {found} bytes, where the geometry needs {expected}")]
    Size {
        /// The size of the descriptor.
        found: u64,
        /// The size that the geometry gives.
        expected: u64,
    },
    /// Seals are missing: the peer could still change what must not change. Whoever sealed the segment is to blame.
    #[error("a segment with seals {found:#x}, where {expected:#x} are needed")]
    Seals {
        /// The seals it has.
        found: i32,
        /// The seals it must have.
        expected: i32,
    },
    /// Pages of the control page or the ring were never written. The writer of the segment is to blame.
    #[error("a segment whose first hole is at {found}, where it must be written up to {expected}")]
    Hole {
        /// Where the first hole is.
        found: u64,
        /// Where the arena begins.
        expected: u64,
    },
    /// The header is of another layout or another geometry. The writer of the segment is to blame.
    #[error("a segment with header word {at} = {found:#018x}, where {expected:#018x} is expected")]
    Header {
        /// The word's offset.
        at: usize,
        /// What it holds.
        found: u64,
        /// What the layout and geometry need.
        expected: u64,
    },
}

impl SegmentError {
    /// Whether the writer of the segment is to blame: no honest one leaves such a segment.
    #[must_use]
    pub const fn is_the_writers_fault(&self) -> bool {
        matches!(self, Self::Hole { .. } | Self::Header { .. })
    }
}

/// The words that identify a segment, with their offsets.
fn header(geometry: Geometry) -> [(usize, u64); 3] {
    [
        (AT_VERSION_SLOTS, u64::from(VERSION) | u64::from(geometry.slots()) << 32),
        (AT_ARENA, u64::from(geometry.arena())),
        (AT_MAGIC, MAGIC),
    ]
}

fn check_size(fd: impl AsFd, geometry: Geometry) -> Result<(), SegmentError> {
    let found = u64::try_from(fstat(fd).map_err(io::Error::from)?.st_size).unwrap_or(0);
    let expected = geometry.bytes() as u64;
    if found == expected { Ok(()) } else { Err(SegmentError::Size { found, expected }) }
}

/// The segment that this process writes.
#[derive(Debug)]
pub struct OwnSegment {
    pub(crate) memory: OwnMemory,
    pub(crate) geometry: Geometry,
}

impl OwnSegment {
    /// Maps a segment that [`crate::segment::create`] made and nobody has used, and touches its control page and ring, so
    /// that they are charged to this process. The descriptor is not kept. Afterwards the segment can be sealed.
    ///
    /// # Errors
    /// [`SegmentError::Size`] if it is not of this geometry; [`SegmentError::Os`] if it cannot be mapped (EPERM: it is sealed already).
    pub fn map(fd: impl AsFd, geometry: Geometry) -> Result<Self, SegmentError> {
        check_size(&fd, geometry)?;
        let memory = OwnMemory::map(&fd, geometry.bytes())?;
        for index in 0..geometry.slots() {
            // The sequence that a lap before the first would have left: no first lap is special.
            let sequence = index.wrapping_add(1).wrapping_sub(geometry.slots());
            memory.store(layout::slot_offset(index), u64::from(sequence), Relaxed);
        }
        let abilities = if futex::has_everyones_barrier() { EVERYONES_BARRIER } else { 0 };
        memory.store(AT_ABILITIES, abilities, Relaxed);
        for (at, value) in header(geometry) {
            memory.store(at, value, Release);
        }
        Ok(Self { memory, geometry })
    }

    /// Its sizes.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }
}

/// The segment that the peer writes, mapped read-only.
#[derive(Debug)]
pub struct PeerSegment {
    pub(crate) memory: PeerMemory,
    pub(crate) geometry: Geometry,
    pub(crate) filled: Filled,
}

impl PeerSegment {
    /// Checks a sealed segment's size, seals and header, and maps it. If it has an arena another descriptor of it is kept, to
    /// find out how far its writer has filled that.
    ///
    /// # Errors
    /// [`SegmentError`] for whatever does not hold.
    pub fn map(fd: impl AsFd, geometry: Geometry) -> Result<Self, SegmentError> {
        check_size(&fd, geometry)?;
        let found = seals(&fd)?;
        if !found.contains(SEALS) {
            return Err(SegmentError::Seals { found: found.bits(), expected: SEALS.bits() });
        }
        // Who reads a hole is charged for the page that fills it.
        let (found, expected) = (first_hole(&fd, 0)?, layout::arena_offset(geometry.slots()) as u64);
        if found < expected {
            return Err(SegmentError::Hole { found, expected });
        }
        let memory = PeerMemory::map(&fd, geometry.bytes())?;
        for (at, expected) in header(geometry) {
            let found = memory.load(at, std::sync::atomic::Ordering::Acquire);
            if found != expected {
                return Err(SegmentError::Header { at, found, expected });
            }
        }
        let filled = Filled::new(&fd, geometry)?;
        Ok(Self { memory, geometry, filled })
    }

    /// Its sizes.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }
}

/// One end of a channel: what [`crate::Client`] and [`crate::Server`] are made of.
#[derive(Debug)]
pub struct End {
    pub(crate) own: OwnSegment,
    pub(crate) peer: PeerSegment,
    pub(crate) wake: OwnedFd,
}

impl End {
    /// Puts an end together: the own segment, the peer's, and the own end of the wake socket pair.
    #[must_use]
    pub const fn new(own: OwnSegment, peer: PeerSegment, wake: OwnedFd) -> Self {
        Self { own, peer, wake }
    }

    /// Both ends of a new channel within this process: for tests, and for callers and callees that share a process.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn pair(caller: Geometry, callee: Geometry) -> Result<(Self, Self), SegmentError> {
        let (a, b) = (crate::segment::create(caller)?, crate::segment::create(callee)?);
        let own_a = OwnSegment::map(&a, caller)?;
        let own_b = OwnSegment::map(&b, callee)?;
        crate::segment::seal(&a)?;
        crate::segment::seal(&b)?;
        let (peer_a, peer_b) = (PeerSegment::map(&a, caller)?, PeerSegment::map(&b, callee)?);
        let (wake_a, wake_b) = crate::segment::wake_pair()?;
        Ok((Self::new(own_a, peer_b, wake_a), Self::new(own_b, peer_a, wake_b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment;

    fn sealed() -> OwnedFd {
        let fd = segment::create(Geometry::DEFAULT).unwrap();
        drop(OwnSegment::map(&fd, Geometry::DEFAULT).unwrap());
        segment::seal(&fd).unwrap();
        fd
    }

    #[test]
    fn a_reader_takes_only_what_is_sealed_sized_and_headed() {
        let other = Geometry::new(128, 1 << 20).unwrap();
        let fd = segment::create(Geometry::DEFAULT).unwrap();
        assert!(matches!(PeerSegment::map(&fd, Geometry::DEFAULT), Err(SegmentError::Seals { .. })));
        assert!(matches!(PeerSegment::map(&fd, other), Err(SegmentError::Size { .. })));
        segment::seal(&fd).unwrap();
        let (found, expected) = (0, 8192);
        assert!(
            matches!(PeerSegment::map(&fd, Geometry::DEFAULT), Err(SegmentError::Hole { found: f, expected: e }) if (f, e) == (found, expected))
        );
        assert!(PeerSegment::map(sealed(), Geometry::DEFAULT).is_ok());
        // Same number of bytes, other meaning.
        let swapped = Geometry::new(128, (1 << 20) - 4096).unwrap();
        assert_eq!(swapped.bytes(), Geometry::DEFAULT.bytes());
        let fd = segment::create(swapped).unwrap();
        drop(OwnSegment::map(&fd, swapped).unwrap());
        segment::seal(&fd).unwrap();
        assert!(matches!(PeerSegment::map(&fd, Geometry::DEFAULT), Err(SegmentError::Header { .. })));
    }

    #[test]
    fn a_sealed_segment_has_no_second_writer() {
        assert!(matches!(OwnSegment::map(sealed(), Geometry::DEFAULT), Err(SegmentError::Os(_))));
    }
}
