//! Figures pages: memory that a worker counts in. Made here with a fixed size, read by `pread`, never mapped, never believed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mortise_control::WorkerId;
use mortise_control::stats::{self, Figures, PAGE_BYTES};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;

/// The pages of all workers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: Arc<Mutex<HashMap<WorkerId, Arc<File>>>>,
}

impl Pages {
    /// Makes a page for a worker, in place of the one before, and returns the descriptor that it is to be sent.
    ///
    /// # Errors
    /// What the kernel answers: no memory, no descriptors.
    pub fn make(&self, worker: WorkerId) -> io::Result<Arc<OwnedFd>> {
        let page = memfd_create(c"mortise-figures", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&page, PAGE_BYTES as i64)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&page, FcntlArg::F_ADD_SEALS(seals))?;
        let sent = page.try_clone()?;
        self.locked().insert(worker, Arc::new(page.into()));
        Ok(Arc::new(sent))
    }

    /// Lets go of a worker's page; how many there were.
    pub fn forget(&self, worker: WorkerId) -> u32 {
        u32::from(self.locked().remove(&worker).is_some())
    }

    /// What the worker alleges. None: it has no page, or what it wrote is none.
    pub fn read(&self, worker: WorkerId) -> Option<Vec<Figures>> {
        let page = Arc::clone(self.locked().get(&worker)?);
        let mut bytes = [0; PAGE_BYTES];
        page.read_exact_at(&mut bytes, 0).ok()?;
        stats::decode(&bytes).inspect_err(|error| tracing::debug!(%worker, %error, "figures that are none")).ok()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<WorkerId, Arc<File>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: WorkerId = WorkerId { slot: 3, generation: 1 };

    #[test]
    fn a_fresh_page_is_empty_and_its_size_is_fixed() {
        let pages = Pages::default();
        let sent = pages.make(WORKER).unwrap();
        assert_eq!(pages.read(WORKER), Some(vec![]));
        assert!(ftruncate(&*sent, 0).is_err());
        assert!(ftruncate(&*sent, 1 << 30).is_err());
        assert_eq!((pages.forget(WORKER), pages.forget(WORKER)), (1, 0));
        assert_eq!(pages.read(WORKER), None);
    }

    #[test]
    fn nonsense_in_a_page_is_no_figures() {
        let pages = Pages::default();
        let sent = File::from(pages.make(WORKER).unwrap().try_clone().unwrap());
        sent.write_all_at(&[0xff; PAGE_BYTES], 0).unwrap();
        assert_eq!(pages.read(WORKER), None);
    }
}
