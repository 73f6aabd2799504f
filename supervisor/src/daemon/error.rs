//! Why `mortised` does not start.

use std::io;
use std::path::{Path, PathBuf};

use crate::cgroup::CgroupError;
use crate::host::Refused;
use crate::package::PackageError;
use crate::spawn::SpawnError;
use crate::store::StoreError;

/// Why `mortised` does not start: what was found, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder, a socket or a file.
    #[error("{what} {path:?}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another supervisor works on this folder.
    #[error("{path:?} is in use by another mortised; stop it, or give this one a folder of its own by {option}")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The argument that names it.
        option: &'static str,
    },
    /// An ingress address.
    #[error("--listen {address}: {source}")]
    Listen {
        /// As given.
        address: std::net::SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A socket of a socket unit.
    #[error("a socket that the service manager passes as {name:?}: {problem}")]
    Passed {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The unit of the workers.
    #[error("--workers-unit {unit}: {problem}")]
    Unit {
        /// As given.
        unit: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A package that is no base.
    #[error("--base {path:?}: {problem}")]
    Package {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The host does not keep what is promised.
    #[error("{0}. --allow-degraded NAME,… starts without them")]
    Promises(#[from] Refused),
    /// Groups.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// The state on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The packages.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The way to workers' processes.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The kernel has no more threads, descriptors or memory.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl StartError {
    /// Whether another start fails in the same way until somebody has changed settings, units or the host. A port that is taken, a folder in use,
    /// a unit that is not active yet and a package that is being replaced come right by themselves.
    pub(super) const fn is_lasting(&self) -> bool {
        match self {
            Self::Passed { .. } | Self::Promises(_) | Self::Package { .. } => true,
            Self::Store(error) => matches!(error, StoreError::Newer { .. } | StoreError::NewerDatabase { .. }),
            Self::File { .. }
            | Self::InUse { .. }
            | Self::Listen { .. }
            | Self::Unit { .. }
            | Self::Group(_)
            | Self::Packages(_)
            | Self::Spawn(_)
            | Self::Kernel { .. } => false,
        }
    }

    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.into(), source }
    }

    pub(super) fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { what, source }
    }
}
