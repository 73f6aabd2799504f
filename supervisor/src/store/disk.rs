//! The open store, and the truth about a transaction that the disk refused.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageError};

use super::copy::{self, StoreCopy};
use super::fold::changes;
use super::format::{self, FORMAT, FormatError};
use super::{Change, Records, StoreError};
use crate::failpoint::{self, Point};

/// Bytes of pages that redb keeps in memory: the whole of a usual store.
const CACHE_BYTES: usize = 16 << 20;

/// How a file of redb begins.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Bytes of its header: 64, and two slots of 128 that begin with the version of the file format.
const HEADER: usize = 320;

/// Where the versions are.
const VERSIONS: [usize; 2] = [64, 192];

/// The newest version of the file format that our redb reads. A test compares it with a file that it has made.
const NEWEST_REDB: u8 = 3;

/// Opens the database; called again after an I/O error.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// The open store.
pub struct Store {
    path: PathBuf,
    opener: Opener,
    /// None after an error, until it could be opened again.
    database: Option<Database>,
    /// Transactions known to be on disk.
    commits: u64,
    /// None for a store that is only made.
    copy: Option<StoreCopy>,
    /// Changes of which nobody knows whether they are on disk.
    unclear: Vec<Change>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.database.is_some();
        f.debug_struct("Store").field("path", &self.path).field("commits", &self.commits).field("open", &open).finish()
    }
}

impl Store {
    /// Opens the store at `path`, making it (for its owner alone) if it is not there, and reads everything. Every page in use
    /// is checked. The file stays locked while the store is open.
    ///
    /// # Errors
    /// [`StoreError`]; a store that is damaged, of a newer format or in use is left as it is.
    pub fn open(path: &Path) -> Result<(Self, Records), StoreError> {
        look(path)?;
        let (mut store, records) = Self::open_with(path, opener(path))?;
        store.copy = Some(StoreCopy::keep(&copy::path_of(path), &records));
        Ok((store, records))
    }

    /// Makes a store of these records at `path`, where nothing is yet.
    pub(super) fn make(path: &Path, records: &Records) -> Result<(), StoreError> {
        let (mut store, _) = Self::open_with(path, opener(path))?;
        store.commit(&changes(records))
    }

    pub(super) fn open_with(path: &Path, opener: Opener) -> Result<(Self, Records), StoreError> {
        let database = opener().map_err(|error| opening(path, error))?;
        let (records, commits) = format::read(&database).map_err(|error| reading(path, error))?;
        let store =
            Self { path: path.into(), opener, database: Some(database), commits, copy: None, unclear: Vec::new() };
        Ok((store, records))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes all changes or none. They are on disk when this returns `Ok`.
    ///
    /// # Errors
    /// [`StoreError::Disk`]: the change is not on disk, and never will be. [`StoreError::Unclear`]: nobody knows; nothing more
    /// is committed before [`Self::settle`] has given an answer.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let Some(database) = &self.database else {
            return Err(StoreError::Unclear { path: self.path.clone(), problem: "it is not open".into() });
        };
        let fault = |point| failpoint::reach_at(point, || failpoint::of_changes(changes)).map_err(FormatError::from);
        let number = self.commits + 1;
        let written = fault(Point::Commit).and_then(|()| format::write(database, changes, number));
        let Err(error) = written.and_then(|()| fault(Point::Committed)) else {
            self.commits += 1;
            self.follow(changes);
            return Ok(());
        };
        // redb answers every later call by an error until it is opened anew, and the refused write may yet be on disk.
        self.database = None;
        self.unclear = changes.to_vec();
        if self.settle()? {
            Ok(())
        } else {
            Err(StoreError::Disk { what: "commit to", path: self.path.clone(), problem: error.to_string() })
        }
    }

    /// After [`StoreError::Unclear`]: opens the file again and looks whether the last change is on disk.
    ///
    /// # Errors
    /// [`StoreError::Unclear`] when it is still unclear.
    pub fn settle(&mut self) -> Result<bool, StoreError> {
        let unclear = |problem: String| StoreError::Unclear { path: self.path.clone(), problem };
        let database = (self.opener)().map_err(|error| unclear(opening(&self.path, error).to_string()))?;
        let found = format::commits(&database).map_err(|error| unclear(error.to_string()))?;
        let made = found > self.commits;
        self.commits = found;
        self.database = Some(database);
        let unclear = std::mem::take(&mut self.unclear);
        if made {
            self.follow(&unclear);
        }
        Ok(made)
    }

    fn follow(&mut self, changes: &[Change]) {
        if let Some(copy) = &mut self.copy {
            copy.follow(changes);
        }
    }

    /// Brings the copy to the disk, if it is not there.
    pub(super) fn sync_copy(&mut self) {
        if let Some(copy) = &mut self.copy {
            copy.sync();
        }
    }

    /// Whether a loss of power would leave the copy behind.
    pub(super) fn copy_is_behind(&self) -> bool {
        self.copy.as_ref().is_some_and(StoreCopy::is_behind)
    }
}

fn opener(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move || builder().create_with_backend(FileBackend::new(file(&path)?)?))
}

pub(super) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Tells what the database would not: that there is something else in its place, or a file of a newer database.
pub(super) fn look(path: &Path) -> Result<(), StoreError> {
    let damaged = |problem: &str| StoreError::Damaged { path: path.to_owned(), problem: problem.to_owned() };
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(damaged("there is no file in its place")),
        Ok(_) => {}
        Err(_) => return Ok(()),
    }
    let mut header = [0; HEADER];
    let read = File::open(path).and_then(|it| it.read_exact_at(&mut header, 0));
    // Both slots say the version; a single altered byte is damage.
    let versions = VERSIONS.map(|at| header[at]);
    if read.is_ok() && header.starts_with(MAGIC) && versions[0] == versions[1] && versions[0] > NEWEST_REDB {
        let (found, known) = (versions[0].into(), NEWEST_REDB.into());
        return Err(StoreError::NewerDatabase { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// The file itself. Its name is on disk too before anything is written that must be found again.
fn file(path: &Path) -> Result<File, DatabaseError> {
    let open = || -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() == 0
            && let Some(folder) = path.parent()
        {
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    };
    open().map_err(|error| DatabaseError::Storage(StorageError::Io(error)))
}

pub(super) fn opening(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.parent().map_or(path.clone(), Into::into)),
        DatabaseError::UpgradeRequired(version) => {
            StoreError::Damaged { path, problem: format!("it is of version {version} of redb's file format") }
        }
        // No header of redb's, or a file that ends before its pages do.
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            StoreError::Damaged { path, problem: error.to_string() }
        }
        DatabaseError::Storage(StorageError::Corrupted(problem)) => StoreError::Damaged { path, problem },
        other => StoreError::Disk { what: "open", path, problem: other.to_string() },
    }
}

pub(super) fn reading(path: &Path, error: FormatError) -> StoreError {
    let path = path.to_owned();
    match error {
        FormatError::Newer(found) => StoreError::Newer { path, found, known: FORMAT },
        FormatError::Record { .. } => StoreError::Damaged { path, problem: error.to_string() },
        FormatError::Redb(error) => match *error {
            redb::Error::Corrupted(problem) => StoreError::Damaged { path, problem },
            error @ (redb::Error::TableTypeMismatch { .. } | redb::Error::TypeDefinitionChanged { .. }) => {
                StoreError::Damaged { path, problem: error.to_string() }
            }
            other => StoreError::Disk { what: "read", path, problem: other.to_string() },
        },
    }
}
