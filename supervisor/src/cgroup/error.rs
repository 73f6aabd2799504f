//! What goes wrong with groups. The host or its operator is to blame for all of it.

use std::io;
use std::path::{Path, PathBuf};

/// A group operation that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no cgroup hierarchy in which this process may make groups.
    #[error("no cgroup hierarchy is usable: {0}")]
    NoHierarchy(String),
    /// A file or folder of a hierarchy.
    #[error("{what} {path:?}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A limit was refused.
    #[error("the limit {what} = {value} of {path:?} was refused: {reason}")]
    Limit {
        /// Which limit.
        what: &'static str,
        /// Its value.
        value: String,
        /// Of which group.
        path: PathBuf,
        /// The kernel's answer.
        reason: String,
    },
    /// A file of a hierarchy says what this program does not understand.
    #[error("{path:?} says {found:?}, which is not what a kernel writes there")]
    Odd {
        /// Which file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

impl CgroupError {
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.into(), source }
    }
}

/// Why a group is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Processes are in it that have not ended within the time given.
    #[error("{processes} processes are left in it")]
    Busy {
        /// How many.
        processes: u32,
    },
    /// Somebody else has made groups in it.
    #[error("there are groups below {path:?} that Mortise has not made: {names}; rmdir them")]
    Below {
        /// Its folder.
        path: PathBuf,
        /// Their names.
        names: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] CgroupError),
}
