//! Plain data for a worker, in memory that nobody can change any more.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::SpawnError;
use crate::failpoint::{self, Point};

/// A memfd with these bytes, sealed against every change, its position at the start.
pub(super) fn sealed(name: &'static str, bytes: &[u8]) -> Result<OwnedFd, SpawnError> {
    let kernel = |what| move |errno| SpawnError::Kernel { what, errno };
    failpoint::reach(Point::Memfd).map_err(|e| kernel("memfd_create")(errno_of(&e)))?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags).map_err(kernel("memfd_create"))?);
    let written = file.write_all(bytes).and_then(|()| file.rewind());
    written.map_err(|e| SpawnError::Kernel { what: "write to a memfd", errno: errno_of(&e) })?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals)).map_err(kernel("seal a memfd"))?;
    Ok(file.into())
}

pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
