//! What goes wrong with packages, and who can mend it.

use std::io;
use std::path::{Path, PathBuf};

use crate::api::{ApiError, Blame, ErrorCode};
use crate::manifest::{Report, visible};

/// Why a package was not made, not taken, or is not as it was.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Its module.toml is wrong; the report names every place.
    #[error("{0}")]
    Manifest(#[from] Report),
    /// Something about one of its files; the author of the module can mend it.
    #[error("{path:?} {problem}")]
    File {
        /// The path inside the package or folder, without control characters.
        path: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// The file is not a whole package: torn, altered, or something else altogether.
    #[error("this is not a whole package: {0}")]
    Broken(String),
    /// Larger than a package may be.
    #[error("the package is too large: {what} {found}, and at most {most} are allowed")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How many, or how many at least.
        found: u64,
        /// How many are allowed.
        most: u64,
    },
    /// There is no such package.
    #[error("there is no package {0} in the package store")]
    Missing(super::Digest),
    /// What lies in the package store is not what was put there.
    #[error("the package {digest} is damaged on disk: {problem}")]
    Damaged {
        /// Which package.
        digest: super::Digest,
        /// What was found.
        problem: String,
    },
    /// Whoever sends the package stopped.
    #[error("the package did not arrive whole: {0}")]
    Arrival(io::Error),
    /// The disk.
    #[error("{what} {path:?}: {source}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl PackageError {
    pub(super) fn disk(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Disk { what, path, source }
    }

    /// Something about the file at `path`, which may be hostile text.
    pub(super) fn file(path: impl AsRef<str>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        let path = visible(path.as_ref());
        Self::File { path, problem: problem.into(), remedy: remedy.into() }
    }
}

impl From<PackageError> for ApiError {
    fn from(error: PackageError) -> Self {
        let message = error.to_string();
        let of = |code, blame| Self::new(code, blame, &message);
        match error {
            PackageError::Manifest(_) => {
                of(ErrorCode::PackageRefused, Blame::Module).remedy("Mend module.toml; `mortise check` shows the same.")
            }
            PackageError::File { remedy, .. } => of(ErrorCode::PackageRefused, Blame::Module).remedy(remedy),
            PackageError::Broken(_) => of(ErrorCode::PackageRefused, Blame::Caller)
                .remedy("Send it again, or make it anew with `mortise pack`."),
            PackageError::TooLarge { .. } => {
                of(ErrorCode::TooLarge, Blame::Module).remedy("Pack less: see `files` in module.toml.")
            }
            PackageError::Missing(_) => of(ErrorCode::NotFound, Blame::Caller).remedy("Install it: `mortise install`."),
            PackageError::Damaged { .. } => {
                of(ErrorCode::Storage, Blame::Host).remedy("Look at the disk, remove the package and install it again.")
            }
            PackageError::Arrival(_) => of(ErrorCode::PackageRefused, Blame::Caller).remedy("Send it again."),
            PackageError::Disk { .. } => of(ErrorCode::Storage, Blame::Host)
                .remedy("Look at the disk of the state directory: space, inodes, errors."),
        }
    }
}
