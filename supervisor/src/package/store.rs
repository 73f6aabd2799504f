//! The packages of this host: content-addressed, verified before they are there, read-only.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Digest, PackageError};
use crate::manifest::Manifest;

/// The package store in `STATE/packages`. Every function blocks; all may be called from any thread.
#[derive(Debug)]
pub struct PackageStore {}

/// A package that lies verified and unpacked in the store.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its name.
    pub digest: Digest,
    /// What its module.toml says; lifecycle takes `ModuleSpec::from(&manifest)`.
    pub manifest: Manifest,
    /// The unpacked tree: what a worker sees as /module.
    pub folder: PathBuf,
    /// Bytes on disk, tree and package file.
    pub bytes: u64,
}

impl PackageStore {
    /// Opens the store in `folder`, making it if it is not there, and removes what a crash left half done.
    ///
    /// # Errors
    /// [`PackageError::Disk`]
    pub fn open(folder: &Path) -> Result<Self, PackageError> {
        let _ = folder;
        unimplemented!()
    }

    /// Takes a package in. One that is there already changes nothing.
    ///
    /// # Errors
    /// [`PackageError`]; then nothing of it is left on disk.
    pub fn install(&self, package: impl Read) -> Result<Installed, PackageError> {
        let _ = package;
        unimplemented!()
    }

    /// The package `digest`, without looking at its content.
    ///
    /// # Errors
    /// [`PackageError::Missing`], [`PackageError::Damaged`], [`PackageError::Disk`]
    pub fn find(&self, digest: &Digest) -> Result<Installed, PackageError> {
        let _ = digest;
        unimplemented!()
    }

    /// Compares every byte of the package with its name.
    ///
    /// # Errors
    /// [`PackageError::Damaged`] says what is not as it was.
    pub fn verify(&self, digest: &Digest) -> Result<(), PackageError> {
        let _ = digest;
        unimplemented!()
    }

    /// Removes the package; how many bytes that freed: 0 when it was not there.
    ///
    /// # Errors
    /// [`PackageError::Disk`]
    pub fn remove(&self, digest: &Digest) -> Result<u64, PackageError> {
        let _ = digest;
        unimplemented!()
    }

    /// All packages.
    ///
    /// # Errors
    /// [`PackageError::Disk`]
    pub fn list(&self) -> Result<BTreeSet<Digest>, PackageError> {
        unimplemented!()
    }

    /// Removes every package that is not in `keep`: those that were sent, but never registered. Returns what was removed.
    ///
    /// # Errors
    /// [`PackageError::Disk`]
    pub fn retain(&self, keep: &BTreeSet<Digest>) -> Result<Vec<Digest>, PackageError> {
        let _ = keep;
        unimplemented!()
    }
}
