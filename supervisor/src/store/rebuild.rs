//! A store that cannot be read is kept aside and made anew from what else is there.
//!
//! ```text
//!   mortise.redb is damaged or lost
//!        ├─ there is a copy (mortise.copy): its records, as far as it can be read. Workers that it names are taken over, the others ended
//!        └─ packages of which it says nothing, or all where there is none: they are installed, and not started
//!   the new store is made under mortise.redb.rebuilding, then both change places, then the damaged one gets its name with the time
//! ```
//! At every moment there is one whole store, or what it is made from. Nothing is deleted.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::copy::{self, Copied};
use super::{Records, Store, StoreError, VersionRecord, check};
use crate::lifecycle::{ModuleKey, ModuleSpec, default_tenant};
use crate::package::PackageStore;

/// What the name of a store that was kept aside has between that of the store and the time.
const ASIDE: &str = ".damaged-";

/// How the name of a snapshot's folder begins.
const SNAPSHOT: &str = "snapshot-";

/// Incarnations that may have been lost with the store: epochs must grow all the same.
const LOST_INCARNATIONS: u64 = 1 << 16;

/// Event numbers that may have been lost.
const LOST_EVENTS: u64 = 1 << 24;

/// Generations of a slot that may have been lost.
const LOST_GENERATIONS: u32 = 1 << 10;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread reads a store that may be damaged, so that a panic is an answer about the file and no defect of ours.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// What became of a store that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// What was wrong with it.
    pub problem: String,
    /// Where it lies now; none if it was not there at all.
    pub kept: Option<PathBuf>,
    /// What the new one was made from.
    pub from: Source,
}

/// What a new store was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The copy. Some: where that is kept, because it could not be read to its end, and why.
    Copy(Option<(PathBuf, String)>),
    /// The packages alone.
    Packages,
}

impl std::fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kept {
            Some(kept) => write!(f, "the store was damaged ({}) and is kept as {}; ", self.problem, kept.display())?,
            None => write!(f, "the store was lost ({}); ", self.problem)?,
        }
        match &self.from {
            Source::Copy(None) => f.write_str("a new one was made from its copy"),
            Source::Copy(Some((kept, problem))) => write!(
                f,
                "a new one was made from what could be read of its copy ({problem}; it is kept as {}): look whether all runs \
                 that shall",
                kept.display()
            ),
            Source::Packages => f.write_str(
                "there was no copy that could be read, so every package is installed for the tenant `default`, and nothing \
                 is started: start and publish what shall run",
            ),
        }
    }
}

/// Opens the store; one that is damaged or lost is made anew.
///
/// # Errors
/// [`StoreError`]: it is in use, of a newer format, or the disk refuses. Then it is left as it is.
pub fn open(path: &Path, packages: &PackageStore) -> Result<(Store, Records, Option<Rebuilt>), StoreError> {
    keep_leftover(path)?;
    remove_snapshots(path);
    let problem = match look_for(path, packages)? {
        Found::Nothing => return Store::open(path).map(|(store, records)| (store, records, None)),
        Found::Lost(problem) => problem.to_owned(),
        Found::Store => match contained(path) {
            Ok((store, records)) => return Ok((store, records, None)),
            Err(StoreError::Damaged { problem, .. }) => problem,
            Err(other) => return Err(other),
        },
    };
    let (records, from) = gather(path, packages)?;
    let kept = replace(path, &records)?;
    let (store, records) = Store::open(path)?;
    let rebuilt = Rebuilt { problem, kept, from };
    tracing::error!("{rebuilt}");
    Ok((store, records, Some(rebuilt)))
}

/// A store of its own with what the copy of the store at `path` says, as `mortise.redb` in a folder that goes with the answer: the store
/// itself is locked while it is in use.
///
/// # Errors
/// [`StoreError`]
pub fn snapshot(path: &Path) -> Result<tempfile::TempDir, StoreError> {
    let state = path.parent().unwrap_or(Path::new("."));
    let folder =
        tempfile::Builder::new().prefix(SNAPSHOT).tempdir_in(state).map_err(disk("make a snapshot of", path))?;
    let copy = copy::path_of(path);
    // Its end may be a change that is being appended right now.
    let copied = copy::read(&copy)?.ok_or_else(|| disk("read", &copy)(io::ErrorKind::NotFound.into()))?;
    Store::make(&folder.path().join("mortise.redb"), &copied.records)?;
    Ok(folder)
}

/// What was left by a supervisor that was killed while another program checked itself.
fn remove_snapshots(path: &Path) {
    let entries = path.parent().and_then(|it| fs::read_dir(it).ok()).into_iter().flatten().flatten();
    for left in entries.filter(|it| it.file_name().to_string_lossy().starts_with(SNAPSHOT)) {
        if let Err(error) = fs::remove_dir_all(left.path()) {
            tracing::warn!(path = %left.path().display(), %error, "a snapshot of the store is left");
        }
    }
}

/// Stores that were kept aside beside the one at `path`.
#[must_use]
pub fn kept_aside(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let entries = path.parent().and_then(|it| fs::read_dir(it).ok()).into_iter().flatten().flatten();
    let is_one = |it: &PathBuf| {
        let found = it.file_name().unwrap_or_default().to_string_lossy();
        found.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(ASIDE))
    };
    let mut kept: Vec<_> = entries.map(|it| it.path()).filter(is_one).collect();
    kept.sort();
    kept
}

/// Opens it; a panic of the database is taken for damage.
fn contained(path: &Path) -> Result<(Store, Records), StoreError> {
    let before = CONTAINED.replace(true);
    // Nothing outlives a panic: the database that it leaves is dropped with it, and the file is then only renamed.
    let opened = catch_unwind(AssertUnwindSafe(|| check(path).and_then(|_| Store::open(path))));
    CONTAINED.set(before);
    opened.unwrap_or_else(|_| {
        let problem = "the database cannot make sense of it".to_owned();
        Err(StoreError::Damaged { path: path.to_owned(), problem })
    })
}

/// What lies where the store should be.
enum Found {
    Store,
    /// Nothing, and there never was one.
    Nothing,
    /// Nothing, though there was one.
    Lost(&'static str),
}

fn look_for(path: &Path, packages: &PackageStore) -> Result<Found, StoreError> {
    let lost = match fs::symlink_metadata(path) {
        // A crash may have come between its making and the first change.
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => "it is empty",
        Ok(_) => return Ok(Found::Store),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it is not there",
        Err(error) => return Err(disk("look at", path)(error)),
    };
    let copied = fs::symlink_metadata(copy::path_of(path)).is_ok();
    let known =
        packages.list().map_err(|error| disk("look through the packages for", path)(io::Error::other(error)))?;
    Ok(if copied || !known.is_empty() { Found::Lost(lost) } else { Found::Nothing })
}

/// What is known without the store.
fn gather(path: &Path, packages: &PackageStore) -> Result<(Records, Source), StoreError> {
    let copy = copy::path_of(path);
    let (mut records, from) = match copy::read(&copy)? {
        None => (Records::default(), Source::Packages),
        Some(Copied { records, torn: None, .. }) => (records, Source::Copy(None)),
        Some(Copied { records, torn: Some(problem), .. }) => {
            // It is written anew soon; what is in it and cannot be read by us stays.
            let kept = aside(&copy);
            fs::copy(&copy, &kept).map_err(disk("keep a copy of", &copy))?;
            (records, Source::Copy(Some((kept, problem))))
        }
    };
    let known: BTreeSet<String> = records.versions.iter().map(|it| it.digest.clone()).collect();
    for digest in
        packages.list().map_err(|error| disk("look through the packages for", path)(io::Error::other(error)))?
    {
        if known.contains(&digest.to_string()) {
            continue;
        }
        match packages.find(&digest) {
            Ok(it) => {
                let tenant = default_tenant();
                let key = ModuleKey { tenant, module: it.manifest.name.clone() };
                let (spec, digest) = (ModuleSpec::from(&it.manifest), digest.to_string());
                let is_it = |other: &VersionRecord| other.key == key && other.spec.version == spec.version;
                if !records.versions.iter().any(is_it) {
                    records.versions.push(VersionRecord { key, spec, digest, installed: Timestamp::now() });
                }
            }
            Err(error) => tracing::error!(%error, "a package is not installed in the new store"),
        }
    }
    Ok((older(records), from))
}

/// Counters go ahead of whatever the lost store may have reached.
fn older(mut records: Records) -> Records {
    records.meta.incarnation += LOST_INCARNATIONS;
    records.meta.events_reserved += LOST_EVENTS;
    for it in records.workers.iter_mut().filter(|it| it.occupant.is_none()) {
        it.worker.generation = it.worker.generation.saturating_add(LOST_GENERATIONS);
    }
    records
}

/// Puts a store with these records in the place of whatever is at `path`; where that is now.
fn replace(path: &Path, records: &Records) -> Result<Option<PathBuf>, StoreError> {
    let new = rebuilding(path);
    Store::make(&new, records)?;
    let is_there = fs::symlink_metadata(path).is_ok();
    let kept = if is_there {
        let exchanged = renameat2(AT_FDCWD, path, AT_FDCWD, &new, RenameFlags::RENAME_EXCHANGE);
        match exchanged {
            Ok(()) => Some(keep(path, &new)?),
            // Not every file system can: then there is a moment without a store, after which a copy makes it anew.
            Err(_) => {
                let kept = put_aside(path)?;
                fs::rename(&new, path).map_err(disk("rename to", path))?;
                Some(kept)
            }
        }
    } else {
        fs::rename(&new, path).map_err(disk("rename to", path))?;
        None
    };
    sync(path)?;
    Ok(kept)
}

fn rebuilding(path: &Path) -> PathBuf {
    appended(path, ".rebuilding")
}

/// What lies where new stores are made may be a damaged one that a crash kept from its name.
fn keep_leftover(path: &Path) -> Result<(), StoreError> {
    let new = rebuilding(path);
    if fs::symlink_metadata(&new).is_ok() {
        let kept = keep(path, &new)?;
        tracing::warn!(kept = %kept.display(), "what was left of an earlier rebuilding of the store is kept");
    }
    Ok(())
}

fn put_aside(path: &Path) -> Result<PathBuf, StoreError> {
    keep(path, path)
}

/// Renames `there` to the name that `path` has when it is kept aside.
fn keep(path: &Path, there: &Path) -> Result<PathBuf, StoreError> {
    let aside = aside(path);
    fs::rename(there, &aside).map_err(disk("keep aside", path))?;
    sync(path)?;
    Ok(aside)
}

/// A name that is free, for what is kept of `path`.
fn aside(path: &Path) -> PathBuf {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = |number: u32| {
        appended(path, &format!("{ASIDE}{time}{}", if number == 0 { String::new() } else { format!("-{number}") }))
    };
    (0..).map(name).find(|it| fs::symlink_metadata(it).is_err()).unwrap_or_else(|| name(u32::MAX))
}

fn appended(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn sync(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|it| it.sync_all()).map_err(disk("sync the folder of", path))
}

fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError::Disk { what, path: path.to_owned(), problem: error.to_string() }
}
