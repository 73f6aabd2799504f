//! Records in redb.

use std::path::Path;

use super::{Change, Records, StoreError};

/// The open store.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens the store at `path`, making it if it is not there, and reads everything.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open(path: &Path) -> Result<(Self, Records), StoreError> {
        let _ = path;
        unimplemented!()
    }

    /// Makes all changes or none. They are on disk when this returns `Ok`, and they are not when it returns `Err`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let _ = changes;
        unimplemented!()
    }
}
