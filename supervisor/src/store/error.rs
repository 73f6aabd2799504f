//! What goes wrong with the store.

use std::path::PathBuf;

/// Why the store was not opened, or a change is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the state directory {0:?} is in use by another supervisor: stop that one, or give this one a directory of its own \
         with --state"
    )]
    InUse(PathBuf),
    /// The file is not a whole store.
    #[error(
        "the store {path:?} is damaged: {problem}. It was left as it is and a copy is at {kept:?}; restore it from a backup, or move it away to begin with an empty one (workers that still run are then not known to it)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// Where a copy of it was put, if one could be made.
        kept: Option<PathBuf>,
    },
    /// A newer mortised wrote it.
    #[error(
        "the store {path:?} has the format {found}, and this mortised reads up to {known}: start the newer mortised that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// The disk.
    #[error("{what} {path:?}: {problem}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer.
        problem: String,
    },
}
