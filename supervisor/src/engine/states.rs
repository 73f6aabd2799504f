//! State on its way from one version of a module to the next: memory that is made here, written by one worker, sealed, and read by
//! the other. It is never mapped here, and never comes from a worker.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use crate::failpoint::{self, Point};

/// Nobody can change a byte of it any more, nor its length, nor these seals.
const SEALS: SealFlag =
    SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// The memory of each hand-over that is under way.
#[derive(Debug, Default)]
pub(super) struct States {
    held: HashMap<u64, Arc<OwnedFd>>,
}

impl States {
    /// Makes memory for so many bytes and holds it. Pages come with the first write to them, and are charged to who writes.
    ///
    /// # Errors
    /// What the kernel answers. Nothing is held then.
    pub fn make(&mut self, handover: u64, bytes: u64) -> io::Result<Arc<OwnedFd>> {
        failpoint::reach(Point::State)?;
        let memory = memfd_create(c"mortise-state", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&memory, i64::try_from(bytes).map_err(io::Error::other)?)?;
        fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW))?;
        let memory = Arc::new(memory);
        self.held.insert(handover, Arc::clone(&memory));
        Ok(memory)
    }

    pub fn get(&self, handover: u64) -> Option<Arc<OwnedFd>> {
        self.held.get(&handover).map(Arc::clone)
    }

    /// Lets go of it; what there was.
    pub fn take(&mut self, handover: u64) -> Option<Arc<OwnedFd>> {
        self.held.remove(&handover)
    }
}

/// Cuts the memory to this length and seals it. The worker may still have it: what is found behind the seals is what counts. The kernel
/// may wait for pages that somebody holds, so this is not for the loop.
///
/// # Errors
/// What of it is not as it should be, in words.
pub(super) fn seal(memory: &OwnedFd, len: u64) -> Result<(), String> {
    failpoint::reach(Point::StateSeal).map_err(|error| format!("it cannot be sealed: {error}"))?;
    let length = i64::try_from(len).map_err(|error| error.to_string())?;
    let shorter = |found: i64| format!("its memory has {found} bytes, and {len} were announced");
    match ftruncate(memory, length) {
        Ok(()) => {}
        Err(Errno::EPERM) => return Err(shorter(size(memory)?)),
        Err(error) => return Err(format!("its memory cannot be cut to {len} bytes: {error}")),
    }
    match fcntl(memory, FcntlArg::F_ADD_SEALS(SEALS)) {
        Ok(_) => {}
        Err(Errno::EBUSY) => return Err("the worker still has its memory mapped to write to it".to_owned()),
        Err(error) => return Err(format!("its memory cannot be sealed: {error}")),
    }
    let found = size(memory)?;
    if found == length { Ok(()) } else { Err(shorter(found)) }
}

fn size(memory: &OwnedFd) -> Result<i64, String> {
    fstat(memory).map(|it| it.st_size).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 20;

    fn made() -> Arc<OwnedFd> {
        States::default().make(1, MOST).unwrap()
    }

    fn write(memory: &OwnedFd, bytes: &[u8]) -> nix::Result<usize> {
        nix::sys::uio::pwrite(memory, bytes, 0)
    }

    #[test]
    fn what_is_sealed_is_as_long_as_it_was_said_and_nobody_changes_it() {
        let memory = made();
        assert_eq!(write(&memory, b"forty-two"), Ok(9));
        seal(&memory, 9).unwrap();
        assert_eq!(size(&memory), Ok(9));
        assert_eq!(write(&memory, b"x"), Err(Errno::EPERM));
        assert_eq!(ftruncate(&*memory, 3), Err(Errno::EPERM));
        assert_eq!(
            fcntl(&*memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)),
            Err(Errno::EPERM),
            "sealed is sealed"
        );
        seal(&made(), 0).unwrap();
        seal(&made(), MOST).unwrap();
    }

    #[test]
    fn it_cannot_grow_beyond_what_is_allowed() {
        let memory = made();
        let end = i64::try_from(MOST).unwrap();
        assert_eq!(nix::sys::uio::pwrite(&*memory, b"x", end), Err(Errno::EPERM));
        assert_eq!(ftruncate(&*memory, end + 1), Err(Errno::EPERM));
    }

    #[test]
    fn what_its_writer_has_made_of_it_is_found_out() {
        type Change = fn(&OwnedFd);
        let changes: [(Change, &str); 3] = [
            (|it| ftruncate(it, 3).unwrap(), "its memory has 3 bytes, and 9 were announced"),
            (
                |it| _ = fcntl(it, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap(),
                "its memory has 1048576 bytes, and 9 were announced",
            ),
            (
                |it| _ = fcntl(it, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).unwrap(),
                "its memory cannot be sealed: EPERM",
            ),
        ];
        for (change, what) in changes {
            let memory = made();
            write(&memory, b"forty-two").unwrap();
            change(&memory);
            let found = seal(&memory, 9).unwrap_err();
            assert!(found.starts_with(what), "{found}");
        }
    }

    #[test]
    fn what_is_taken_or_could_not_be_made_is_not_held() {
        let mut states = States::default();
        states.make(1, 10).unwrap();
        assert!(states.get(1).is_some() && states.take(1).is_some() && states.get(1).is_none());
        assert!(states.make(2, u64::MAX).is_err());
        assert!(states.held.is_empty());
    }
}
