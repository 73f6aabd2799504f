//! Resources: read-only data that the supervisor has loaded once and every permitted worker maps.
#![allow(unsafe_code, reason = "a resource is mapped and given as a slice here, after its seals have been checked")]

use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};
use mortise_control::ResourceName;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;

use crate::Error;

/// What a descriptor must be sealed against so that nobody, its maker included, can change a byte of it.
const SEALS: SealFlag = SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_GROW);

/// Data that cannot change, mapped and not copied: it derefs to its bytes. Clones are the same mapping.
#[derive(Clone)]
pub struct Resource {
    name: ResourceName,
    /// None: it has no bytes (an empty file cannot be mapped).
    bytes: Option<Arc<Mmap>>,
}

impl Resource {
    /// Checks the seals and the length of a descriptor and maps it.
    pub(crate) fn map(name: ResourceName, fd: impl AsFd, len: u64) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Resource { name: name.clone(), reason };
        let seals = fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS).map_err(|e| refuse(format!("it has no seals: {e}")))?;
        if !SealFlag::from_bits_retain(seals).contains(SEALS) {
            return Err(refuse(format!("its seals are {seals:#x}, and {:#x} are needed", SEALS.bits())));
        }
        let found = fstat(fd.as_fd()).map_err(|e| refuse(e.to_string()))?.st_size;
        if u64::try_from(found) != Ok(len) {
            return Err(refuse(format!("it has {found} bytes, and {len} were announced")));
        }
        let len = usize::try_from(len).map_err(|e| refuse(e.to_string()))?;
        if len == 0 {
            return Ok(Self { name, bytes: None });
        }
        let raw = std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd());
        // SAFETY: the file is a memfd with F_SEAL_WRITE, which the kernel gives only when no writable mapping exists and after
        // which it allows none, and with F_SEAL_SHRINK: so the bytes stay as they are and accessible as long as the mapping
        // lives, whatever anybody else does with the descriptor. Seals cannot be taken away.
        let mapped = unsafe { MmapOptions::new().len(len).map(raw) };
        let bytes = mapped.map_err(|e| refuse(format!("it cannot be mapped: {e}")))?;
        Ok(Self { name, bytes: Some(Arc::new(bytes)) })
    }

    /// A resource of one's own bytes, made and sealed as the supervisor does it.
    pub(crate) fn from_bytes(name: ResourceName, bytes: &[u8]) -> Result<Self, Error> {
        let fd = sealed(bytes).map_err(Error::os("making a resource"))?;
        Self::map(name, fd, bytes.len() as u64)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ResourceName {
        &self.name
    }
}

/// A write-sealed memfd with these bytes.
pub(crate) fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"resource", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(SEALS | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

impl Deref for Resource {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().map_or(&[], |it| it)
    }
}

impl AsRef<[u8]> for Resource {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({}, {} bytes)", self.name, self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ResourceName {
        ResourceName::new("words").unwrap()
    }

    #[test]
    fn sealed_bytes_are_there_and_empty_ones_too() {
        let words = Resource::from_bytes(name(), b"one two").unwrap();
        assert_eq!(&*words, b"one two");
        assert_eq!(&*words.clone(), b"one two");
        assert!(Resource::from_bytes(name(), b"").unwrap().is_empty());
    }

    #[test]
    fn what_could_still_change_is_refused() {
        let open = memfd_create(c"x", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::write(&open, b"abc").unwrap();
        assert!(Resource::map(name(), &open, 3).unwrap_err().to_string().contains("its seals are"));
        fcntl(open.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SHRINK)).unwrap();
        assert!(Resource::map(name(), &open, 3).unwrap_err().to_string().contains("its seals are"));
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(Resource::map(name(), &file, 3).unwrap_err().to_string().contains("no seals"));
    }

    #[test]
    fn another_length_than_announced_is_refused() {
        let fd = sealed(b"abc").unwrap();
        assert!(
            Resource::map(name(), &fd, 4).unwrap_err().to_string().contains("it has 3 bytes, and 4 were announced")
        );
    }
}
