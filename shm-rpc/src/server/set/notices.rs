//! What other threads of this process tell the serving thread. No peer has any part in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sync::{Arc, Mutex, lock};

/// Keys of members that have news, and a descriptor that is readable while there are any.
#[derive(Debug)]
pub(super) struct Notices {
    keys: Mutex<Vec<u64>>,
    bell: EventFd,
}

impl Notices {
    pub(super) fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { keys: Mutex::default(), bell })
    }

    /// There is news of `key`.
    pub(super) fn tell(&self, key: u64) {
        let mut keys = lock(&self.keys);
        keys.push(key);
        let is_first = keys.len() == 1;
        drop(keys);
        if is_first {
            // It can only fail when the counter is full, and then it is readable already.
            let _ = self.bell.write(1);
        }
    }

    /// Takes all news.
    pub(super) fn take(&self) -> Vec<u64> {
        // Before the keys are taken: one that comes in between is taken with them, or is the first again and rings.
        let _ = self.bell.read();
        std::mem::take(&mut *lock(&self.keys))
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// How a server's controls tell the set that serves it.
#[derive(Debug)]
pub(crate) struct Told {
    notices: Arc<Notices>,
    key: u64,
}

impl Told {
    pub(super) fn new(notices: &Arc<Notices>, key: u64) -> Self {
        Self { notices: Arc::clone(notices), key }
    }

    pub(crate) fn tell(&self) {
        self.notices.tell(self.key);
    }
}
