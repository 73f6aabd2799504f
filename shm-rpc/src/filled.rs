//! How far an arena has pages. It is filled from its start, by its writer, before anything there is lent.
//!
//! A page belongs to whoever touches it first, and is charged to him: also to a reader who touches a hole. So a writer touches what
//! it is about to lend, and everything before it; and a reader finds out, before it reads as far as it has never read, that
//! there are pages. What it has found stays true, for nobody can punch a hole into a sealed segment.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::Geometry;
use crate::layout::arena_offset;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

/// How far the peer's arena is known to be filled.
#[derive(Debug)]
pub(crate) struct Filled {
    /// Asked where the first hole is. None: there is no arena.
    segment: Option<OwnedFd>,
    geometry: Geometry,
    through: AtomicU32,
}

impl Filled {
    /// Nothing is known yet. The descriptor is kept as another of this process, unless there is no arena.
    pub(crate) fn new(segment: impl AsFd, geometry: Geometry) -> io::Result<Self> {
        let segment = (geometry.arena() > 0).then(|| segment.as_fd().try_clone_to_owned()).transpose()?;
        Ok(Self { segment, geometry, through: AtomicU32::new(0) })
    }

    /// The length of the arena.
    pub(crate) const fn len(&self) -> u32 {
        self.geometry.arena()
    }

    /// Whether the arena has pages up to `end`.
    #[inline(always)]
    pub(crate) fn covers(&self, end: u32) -> bool {
        end <= self.through.load(Relaxed) || self.look_again(end)
    }

    /// Looks how far it has been filled meanwhile. One system call whenever it has grown.
    #[cold]
    fn look_again(&self, end: u32) -> bool {
        let Some(segment) = &self.segment else { return false };
        let (start, known) = (arena_offset(self.geometry.slots()), self.through.load(Relaxed));
        let through = match first_hole(segment, start as u64 + u64::from(known)) {
            Ok(hole) => u32::try_from(hole.saturating_sub(start as u64)).unwrap_or(0).min(self.len()),
            Err(_) => known,
        };
        // Whoever asks at the same time has found as much or less, or more.
        end <= self.through.fetch_max(through, Relaxed).max(through)
    }
}

/// Where the first hole of a memfd is, from `from` on: its end is one.
pub(crate) fn first_hole(segment: impl AsFd, from: u64) -> io::Result<u64> {
    let from = i64::try_from(from).map_err(|_| io::ErrorKind::InvalidInput)?;
    match lseek(segment, from, Whence::SeekHole) {
        Ok(hole) => u64::try_from(hole).map_err(|_| io::ErrorKind::InvalidData.into()),
        // Nothing lies at its end.
        Err(Errno::ENXIO) => Ok(from.unsigned_abs()),
        Err(error) => Err(error.into()),
    }
}
