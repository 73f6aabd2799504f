//! From a module's folder to one package file.

use std::path::Path;

use super::{Digest, PackageError};
use crate::manifest::Manifest;

/// A package that was made.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Its name.
    pub digest: Digest,
    /// What its module.toml says.
    pub manifest: Manifest,
    /// Files in it.
    pub files: u32,
    /// Bytes of these files.
    pub content_bytes: u64,
    /// Bytes of the package file.
    pub package_bytes: u64,
}

/// Makes the package of the module in `folder` and puts it at `out`, which it replaces in one step. The same folder
/// always gives the same bytes. Blocks.
///
/// # Errors
/// [`PackageError`] names the file; then `out` is as it was.
pub fn pack(folder: &Path, out: &Path) -> Result<Packed, PackageError> {
    let _ = (folder, out);
    unimplemented!()
}
