//! What the daemon stands on: its folders, which are its alone, and room for descriptors.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::StartError;

/// Descriptors wanted: two segments of every channel that is being made, six for a worker.
const DESCRIPTORS: u64 = 1 << 20;

/// How long a lock may stay after its owner's death: a child that was being started holds it until its exec.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at a lock.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// A folder that no other supervisor uses as long as this lives.
#[derive(Debug)]
pub(super) struct Ground {
    path: PathBuf,
    _lock: File,
}

impl Ground {
    /// Makes the folder if it is not there, and takes it for this process alone.
    pub fn take(path: &Path, mode: u32, option: &'static str) -> Result<Self, StartError> {
        DirBuilder::new().recursive(true).mode(mode).create(path).map_err(StartError::file("make the folder", path))?;
        let path = fs::canonicalize(path).map_err(StartError::file("find the folder", path))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(StartError::file("change the mode of", &path))?;
        // The folder itself is locked: no file is left behind.
        let lock = File::open(&path).map_err(StartError::file("open the folder", &path))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { path, _lock: lock }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_AGAIN),
                Err(TryLockError::WouldBlock) => return Err(StartError::InUse { path, option }),
                Err(TryLockError::Error(source)) => return Err(StartError::file("lock the folder", &path)(source)),
            }
        }
    }

    /// Its absolute path, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Lets this process have as many descriptors as the host allows.
pub(super) fn raise_descriptors() {
    let kind = Resource::RLIMIT_NOFILE;
    let raised = getrlimit(kind).and_then(|(soft, hard)| {
        let wanted = DESCRIPTORS.max(hard);
        setrlimit(kind, wanted, wanted).or_else(|_| setrlimit(kind, hard, hard)).map(|()| soft)
    });
    match (raised, getrlimit(kind)) {
        (Ok(before), Ok((now, _))) => tracing::debug!(before, now, "descriptors"),
        (Err(errno), _) | (_, Err(errno)) => tracing::warn!(%errno, "the limit of descriptors cannot be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = Ground::take(&path, 0o700, "--state").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let second = Ground::take(&path, 0o700, "--state").unwrap_err();
        assert!(matches!(second, StartError::InUse { option: "--state", .. }), "{second}");
        drop(first);
        Ground::take(&path, 0o700, "--state").unwrap();
    }
}
