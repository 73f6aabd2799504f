//! Making, sealing, checking and mapping the memfd of a blob.
#![allow(unsafe_code, reason = "mapping a file is a promise that nobody changes it")]

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use memmap2::{Mmap, MmapMut, MmapOptions};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::stat::fstat;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::ftruncate;

use super::Blob;
use crate::segment::{memfd, seals};
use crate::sync::Arc;

/// The seals of a blob.
const SEALS: SealFlag =
    SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// The unit of `st_blocks`.
const BLOCK: u64 = 512;

/// A memfd of `len` zeros, mapped for writing.
pub(super) fn draft(len: usize) -> io::Result<(OwnedFd, Option<MmapMut>)> {
    if len > Blob::MAX_LEN {
        let reason = format!("a blob of {len} bytes, where {} are possible", Blob::MAX_LEN);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let fd = memfd(c"shm-rpc-blob")?;
    if len == 0 {
        return Ok((fd, None));
    }
    let size = i64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    ftruncate(&fd, size)?;
    fallocate(&fd, FallocateFlags::empty(), 0, size)?;
    // SAFETY: the memfd was made just now and its descriptor has been given to nobody, so nobody else writes what is referred to. (A
    // debugger or another process of the same user that goes through /proc could: it could write all other memory here, too.)
    let map = unsafe { MmapOptions::new().len(len).map_mut(fd.as_raw_fd())? };
    Ok((fd, Some(map)))
}

/// Ends writing, resizing and the changing of seals. The kernel refuses while anybody has it mapped for writing.
pub(super) fn seal(fd: &OwnedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(())
}

/// Why a descriptor is no blob of the length that its sender claims.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoBlob {
    /// The sender's fault.
    #[error("{0}")]
    Sender(&'static str),
    /// This process has no room for it.
    #[error("mapping a blob: {0}")]
    Here(#[from] io::Error),
}

/// Bytes that nobody can change. Clones are the same bytes, for as long as there is one.
#[derive(Clone)]
pub struct Frozen(Option<Arc<Mmap>>);

impl Frozen {
    /// Checks that `fd` is a blob of `len` bytes, and maps it.
    pub(super) fn map(fd: &OwnedFd, len: usize) -> Result<Self, NoBlob> {
        // Only memfds have seals, and one that has these can change no more: what is found out behind this stays true.
        let found = seals(fd).map_err(|_| NoBlob::Sender("a descriptor that is no memfd"))?;
        if !found.contains(SEALS) {
            return Err(NoBlob::Sender("a blob that is not sealed against writing and resizing"));
        }
        let stat = fstat(fd).map_err(io::Error::from)?;
        if u64::try_from(stat.st_size) != Ok(len as u64) {
            return Err(NoBlob::Sender("a blob of another size than its message says"));
        }
        // Who reads a hole is charged for the page that fills it.
        if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK) < len as u64 {
            return Err(NoBlob::Sender("a blob with holes"));
        }
        // Huge pages of their own kind come from a pool that may be empty when they are read.
        if fstatfs(fd).map_err(io::Error::from)?.filesystem_type() != TMPFS_MAGIC {
            return Err(NoBlob::Sender("a blob of a file system that is not memory alone"));
        }
        if len == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the seals were checked above: no process has a writable mapping or will get one, no write succeeds and the size
        // stays, so that the bytes referred to are there and never change.
        let map = unsafe { MmapOptions::new().len(len).map(fd.as_fd().as_raw_fd())? };
        Ok(Self(Some(Arc::new(map))))
    }
}

impl Deref for Frozen {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], |it| it)
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frozen({} bytes)", self.len())
    }
}
