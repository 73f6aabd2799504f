//! Resources: a file of a package becomes a write-sealed memfd that every permitted worker maps.
//!
//! ```text
//!   load() ── memfd, file ──▶ mortised loader …     joins the resource's group, copies, seals
//!      ◀──── ipc-channel ──── Report { len, sha256 }        (its pages are charged to that group)
//!   seals and length checked ──▶ LoadedResource
//! ```

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub mod loader;

use crate::manifest::PackagePath;

/// What to load.
#[derive(Clone, Debug)]
pub struct LoadOrder {
    /// The unpacked package: [`crate::package::Installed::folder`].
    pub package: PathBuf,
    /// The file in it: [`crate::manifest::ResourceFile::file`].
    pub file: PackagePath,
    /// The files into which the loader writes `0` to join the resource's group: [`join_files`].
    pub join: Vec<PathBuf>,
    /// How long it may take.
    pub within: Duration,
}

/// A resource in memory.
#[derive(Debug)]
pub struct LoadedResource {
    /// Sealed against every change.
    pub memfd: OwnedFd,
    /// Bytes in it.
    pub len: u64,
    /// sha256 of its content, hexadecimal.
    pub sha256: String,
}

/// Why a resource was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);

/// Loads a resource. The loader is gone when this returns.
///
/// # Errors
/// [`LoadError`] says why, for people.
pub async fn load(order: LoadOrder) -> Result<LoadedResource, LoadError> {
    let _ = order;
    unimplemented!()
}

/// The files through which a process joins a group that has these `tasks` files (v1) and this folder (v2).
pub fn join_files(tasks: impl IntoIterator<Item = PathBuf>, unified: Option<&Path>) -> Vec<PathBuf> {
    tasks.into_iter().chain(unified.map(|folder| folder.join("cgroup.procs"))).collect()
}
