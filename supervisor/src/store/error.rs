//! What goes wrong with the store.

use std::path::PathBuf;

/// Why the store was not opened, or a change is not on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "the state directory {0:?} is in use by another supervisor: stop that one, or give this one a directory of its \
         own with --state"
    )]
    InUse(PathBuf),
    /// The file is not a whole store. It is left as it is; [`super::open`] keeps it aside and makes another.
    #[error("the store {path:?} is damaged ({problem})")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A newer mortised wrote it.
    #[error(
        "the store {path:?} has the format {found}, and this mortised reads up to {known}: start the mortised that wrote \
         it, or a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// A newer database wrote it.
    #[error(
        "the store {path:?} is a redb file of version {found}, and this mortised reads up to {known}: start the mortised \
         that wrote it, or a newer one"
    )]
    NewerDatabase {
        /// The file.
        path: PathBuf,
        /// The version of its file format.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The disk refused, and nothing of the change is on it.
    #[error("{what} {path:?}: {problem}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer.
        problem: String,
    },
    /// The disk refused, and whether the change is on it could not be looked up: ask [`super::Store::settle`].
    #[error("the store {path:?} cannot be read after an error ({problem})")]
    Unclear {
        /// The file.
        path: PathBuf,
        /// The answer.
        problem: String,
    },
}
