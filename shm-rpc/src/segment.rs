//! Making and sealing segments: what the third party does that introduces two peers and maps nothing itself.
//!
//! ```text
//!   third party                     writer                      reader
//!   create(geometry) ──── fd ─────▶ OwnSegment::map
//!                    ◀── done ─────
//!   seal(fd)         ──── fd ─────────────────────────────────▶ PeerSegment::map checks the seals
//! ```
//!
//! After [`seal`] nobody can make another writable mapping, change the size, punch a hole or take the seals away; the
//! writer's one mapping stays.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::ftruncate;

use crate::Geometry;

/// The seals that a segment has when its reader gets it.
pub(crate) const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_FUTURE_WRITE)
    .union(SealFlag::F_SEAL_SEAL);

/// `MFD_NOEXEC_SEAL` of Linux 6.3, which nix does not name yet.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x0008);

/// Makes the memory of one segment: a memfd of the right size, close-on-exec, sealable, and, where the kernel knows that,
/// never executable. It is not mapped here; its pages are charged to whoever touches them first.
///
/// # Errors
/// What the kernel answers: no memory, no descriptor.
pub fn create(geometry: Geometry) -> io::Result<OwnedFd> {
    let fd = memfd(c"shm-rpc")?;
    let len = i64::try_from(geometry.bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    ftruncate(&fd, len)?;
    Ok(fd)
}

/// An empty memfd, close-on-exec, sealable, and never executable where the kernel knows that.
pub(crate) fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(name, flags | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => Ok(memfd_create(name, flags)?),
        made => Ok(made?),
    }
}

/// Seals a segment after its writer has mapped it and before its reader gets it: against shrinking, growing, any further
/// writable mapping or write, and any change of the seals. Sealing what is sealed already is no error.
///
/// # Errors
/// What the kernel answers, EPERM for a descriptor that is no memfd of [`create`].
pub fn seal(fd: impl AsFd) -> io::Result<()> {
    match fcntl(fd.as_fd(), FcntlArg::F_ADD_SEALS(SEALS)) {
        Ok(_) => Ok(()),
        Err(Errno::EPERM) if seals(&fd)?.contains(SEALS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The seals that a descriptor has now.
pub(crate) fn seals(fd: impl AsFd) -> io::Result<SealFlag> {
    Ok(SealFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS)?))
}

/// Makes the two ends of a channel's wake socket: one for each peer. A byte on it means "look at the ring"; its end means
/// that the peer is gone. Ends of a socket pair are independent: nothing that one peer does to its end blocks the other.
///
/// # Errors
/// What the kernel answers: no descriptors.
pub fn wake_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_sealed_segment_cannot_be_written_resized_or_opened_for_writing() {
        let fd = create(Geometry::DEFAULT).unwrap();
        seal(&fd).unwrap();
        seal(&fd).unwrap();
        assert!(seals(&fd).unwrap().contains(SEALS));
        assert_eq!(ftruncate(&fd, 0), Err(Errno::EPERM));
        assert_eq!(ftruncate(&fd, 1 << 30), Err(Errno::EPERM));
        assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EPERM));
        let again =
            std::fs::File::options().read(true).write(true).open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        assert!(memmap2::MmapOptions::new().map_raw(&again).is_err());
        let hole = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert_eq!(nix::fcntl::fallocate(&again, hole, 0, 4096), Err(Errno::EPERM));
    }
}
