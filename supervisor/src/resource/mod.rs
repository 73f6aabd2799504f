//! Resources: a file of a package becomes a write-sealed memfd that every permitted worker maps.
//!
//! ```text
//!   load() ── file as 0, memfd as 1 ──▶ mortised loader     joins the resource's group, copies, seals
//!      ◀──────── ipc-channel ────────── Result<Report>      (the pages are charged to that group)
//!   seals and length checked ──▶ LoadedResource
//! ```
//! ipc-channel has no message that carries a descriptor as such (its shared memory is mapped at both ends and not sealed), so the
//! supervisor makes the memfd, empty, and the loader inherits it. Who touches a page first pays for it: the loader.

mod load;
pub mod loader;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

pub use load::load;

use crate::cgroup::Group;
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

/// Why a resource was not loaded, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(String);

/// The files through which a process joins this group in every hierarchy.
#[must_use]
pub fn join_files(group: &Group) -> Vec<PathBuf> {
    group.v1_tasks().chain(group.v2_folder().map(|folder| folder.join("cgroup.procs"))).collect()
}
