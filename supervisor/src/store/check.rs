//! Looks whether a store is whole, without touching its file.
//!
//! redb takes some damages for what they are and panics over others, on opening, on writing or on closing. So everything that a supervisor
//! will do with the store is done here, before it does it, to a copy in memory.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::disk::{builder, look, opening, reading};
use super::{Change, Records, StoreError, format};

/// What a store may grow by while it is looked at: a length that damage has made up must not take the host's memory.
const GROWTH: usize = 64 << 20;

/// Reads all of the store at `path` and writes to a copy of it in memory.
///
/// # Errors
/// [`StoreError`]; the file is as it was.
///
/// # Panics
/// redb does over some damages.
pub fn check(path: &Path) -> Result<Records, StoreError> {
    let damaged = |problem: &str| StoreError::Damaged { path: path.into(), problem: problem.into() };
    let unreadable =
        |error: io::Error| StoreError::Disk { what: "read", path: path.into(), problem: error.to_string() };
    look(path)?;
    let bytes = fs::read(path).map_err(unreadable)?;
    if bytes.is_empty() {
        return Err(damaged("it is empty"));
    }
    let most = bytes.len() + GROWTH;
    let memory = Memory { bytes: Mutex::new(bytes), most };
    let database = builder().create_with_backend(memory).map_err(|error| opening(path, error))?;
    let (records, commits) = format::read(&database).map_err(|error| reading(path, error))?;
    let written = format::write(&database, &[Change::PutMeta(records.meta)], commits + 1);
    written.map_err(|error| damaged(&error.to_string()))?;
    drop(database);
    Ok(records)
}

#[derive(Debug)]
struct Memory {
    bytes: Mutex<Vec<u8>>,
    most: usize,
}

impl Memory {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn range(bytes: &[u8], offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
    let to = from.checked_add(length).filter(|it| *it <= bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(from..to)
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let range = range(&bytes, offset, out.len())?;
        out.copy_from_slice(&bytes[range]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).ok().filter(|it| *it <= self.most);
        self.bytes().resize(length.ok_or(io::ErrorKind::InvalidData)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let range = range(&bytes, offset, data.len())?;
        bytes[range].copy_from_slice(data);
        Ok(())
    }
}
