//! The packages of this host: content-addressed, verified before they are there, read-only.
//!
//! ```text
//!   incoming/RANDOM/{package, tree/}     being taken in or removed; 0700; swept at start
//!   HEX.mortise                          the package file as it came; renamed into place first
//!   sha256/HEX/                          the tree; a package is there when this is
//! ```
//! Taking in renames the file, then the tree; removing takes the tree away, then the file. So whatever moment a crash chooses, what
//! is half there is a file without a tree, and that is swept.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::seal::{Sealed, Sealing};
use super::{Digest, PackageError, bounds, pack, unpack};
use crate::failpoint::{self, Point};
use crate::manifest::{FILE_NAME, Manifest};

const INCOMING: &str = "incoming";
const TREES: &str = "sha256";
const EXTENSION: &str = "mortise";

/// The package store in `STATE/packages`. Every function blocks; all may be called from any thread. The store on redb, which one
/// supervisor holds alone, is opened before this one.
#[derive(Debug)]
pub struct PackageStore {
    folder: PathBuf,
    /// Held while names in `sha256/` change.
    names: Mutex<()>,
}

/// A package that lies verified and unpacked in the store.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Its name.
    pub digest: Digest,
    /// What its module.toml says; lifecycle takes `ModuleSpec::from(&manifest)`.
    pub manifest: Manifest,
    /// The unpacked tree: what a worker sees as /module. Read-only for everybody but the supervisor.
    pub folder: PathBuf,
    /// Bytes of the package file.
    pub package_bytes: u64,
}

impl PackageStore {
    /// Opens the store in `folder`, making it if it is not there, and removes what a crash left half done.
    ///
    /// # Errors
    /// [`PackageError::Disk`]
    pub fn open(folder: &Path) -> Result<Self, PackageError> {
        let store = Self { folder: folder.to_owned(), names: Mutex::default() };
        // A worker sees its own package by a mount; nobody but the supervisor has to list them all.
        for (folder, mode) in [(store.folder.clone(), 0o711), (store.trees(), 0o711), (store.incoming(), 0o700)] {
            fs::create_dir_all(&folder).map_err(PackageError::disk("make the folder", &folder))?;
            fs::set_permissions(&folder, Permissions::from_mode(mode))
                .map_err(PackageError::disk("set the mode of", &folder))?;
        }
        store.sweep()?;
        Ok(store)
    }

    fn trees(&self) -> PathBuf {
        self.folder.join(TREES)
    }

    fn incoming(&self) -> PathBuf {
        self.folder.join(INCOMING)
    }

    fn tree(&self, digest: &Digest) -> PathBuf {
        self.trees().join(digest.to_string())
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.{EXTENSION}"))
    }

    fn sweep(&self) -> Result<(), PackageError> {
        let incoming = self.incoming();
        for entry in fs::read_dir(&incoming).map_err(PackageError::disk("read", &incoming))? {
            let path = entry.map_err(PackageError::disk("read", &incoming))?.path();
            tracing::warn!(?path, "removing what was left of a package that was neither taken in nor removed");
            let removed =
                if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(PackageError::disk("remove", &path))?;
        }
        let there = self.list()?;
        for entry in fs::read_dir(&self.folder).map_err(PackageError::disk("read", &self.folder))? {
            let path = entry.map_err(PackageError::disk("read", &self.folder))?.path();
            let digest = path.file_stem().and_then(|it| it.to_str()).and_then(|it| it.parse::<Digest>().ok());
            let is_file = path.extension().is_some_and(|it| it == EXTENSION);
            if is_file && digest.is_some_and(|it| !there.contains(&it)) {
                tracing::warn!(?path, "removing the file of a package that is not there");
                fs::remove_file(&path).map_err(PackageError::disk("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Takes a package in. One that is there already changes nothing.
    ///
    /// # Errors
    /// [`PackageError`]; then nothing of it is left on disk.
    pub fn install(&self, package: impl Read) -> Result<Installed, PackageError> {
        // Removed with all that is in it when this function returns, however it does.
        let scratch = self.scratch()?;
        let arrived = scratch.path().join("package");
        let (file, sealed) = receive(package, &arrived)?;
        if self.tree(&sealed.digest).is_dir() {
            return self.find(&sealed.digest);
        }
        let tree = scratch.path().join("tree");
        let making = || PackageError::disk("make the folder", &tree);
        fs::create_dir(&tree).map_err(making())?;
        fs::set_permissions(&tree, Permissions::from_mode(0o755)).map_err(making())?;
        let content = unpack::unpack(file.take(sealed.body_bytes), sealed.body_bytes, &tree)?;
        self.place(&sealed.digest, &arrived, &tree)?;
        let package_bytes = sealed.body_bytes + super::seal::BYTES as u64;
        let folder = self.tree(&sealed.digest);
        Ok(Installed { digest: sealed.digest, manifest: content.manifest, folder, package_bytes })
    }

    /// Packs the module in `folder` and takes it in.
    ///
    /// # Errors
    /// [`PackageError`]; then nothing of it is left on disk.
    pub fn install_packed(&self, folder: &Path) -> Result<Installed, PackageError> {
        let scratch = self.scratch()?;
        let out = scratch.path().join("packed");
        pack(folder, &out)?;
        self.install(File::open(&out).map_err(PackageError::disk("open", &out))?)
    }

    fn scratch(&self) -> Result<TempDir, PackageError> {
        let incoming = self.incoming();
        tempfile::Builder::new()
            .prefix("")
            .tempdir_in(&incoming)
            .map_err(PackageError::disk("make a folder in", &incoming))
    }

    /// Gives file and tree, which are on disk, their names.
    fn place(&self, digest: &Digest, file: &Path, tree: &Path) -> Result<(), PackageError> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (file_there, tree_there) = (self.file(digest), self.tree(digest));
        if tree_there.is_dir() {
            // The same package came twice at the same time.
            return Ok(());
        }
        let placed = failpoint::reach(Point::Place)
            .and_then(|()| fs::rename(file, &file_there))
            .and_then(|()| sync_folder(&self.folder))
            .and_then(|()| failpoint::reach(Point::Placed))
            .and_then(|()| fs::rename(tree, &tree_there))
            .and_then(|()| sync_folder(&self.trees()));
        placed.map_err(|error| {
            // Nothing of it may be left. What cannot be removed now either is swept at the next start.
            let _ = fs::rename(&tree_there, tree);
            let _ = fs::remove_file(&file_there);
            PackageError::disk("place", &tree_there)(error)
        })
    }

    /// The package `digest`, without looking at its content.
    ///
    /// # Errors
    /// [`PackageError::Missing`], [`PackageError::Damaged`]
    pub fn find(&self, digest: &Digest) -> Result<Installed, PackageError> {
        let folder = self.tree(digest);
        if !folder.is_dir() {
            return Err(PackageError::Missing(*digest));
        }
        let damaged = |problem: String| PackageError::Damaged { digest: *digest, problem };
        let text = fs::read(folder.join(FILE_NAME)).map_err(|error| damaged(format!("{FILE_NAME}: {error}")))?;
        let manifest = Manifest::parse_bytes(&text, FILE_NAME).map_err(|report| damaged(report.to_string()))?;
        let package_bytes = fs::metadata(self.file(digest)).map_or(0, |it| it.len());
        Ok(Installed { digest: *digest, manifest, folder, package_bytes })
    }

    /// Compares every byte of the package with its name.
    ///
    /// # Errors
    /// [`PackageError::Damaged`] says what is not as it was.
    pub fn verify(&self, digest: &Digest) -> Result<(), PackageError> {
        let Installed { folder, .. } = self.find(digest)?;
        let damaged = |problem: String| PackageError::Damaged { digest: *digest, problem };
        let path = self.file(digest);
        let mut file = File::open(&path).map_err(|error| damaged(format!("the package file: {error}")))?;
        let mut sealing = Sealing::default();
        copy(&mut file, |bytes| {
            sealing.update(bytes);
            Ok(())
        })?;
        let sealed = sealing.check().map_err(|error| damaged(error.to_string()))?;
        if sealed.digest != *digest {
            return Err(damaged(format!("the package file is that of {}", sealed.digest)));
        }
        file.seek(SeekFrom::Start(0)).map_err(PackageError::disk("read", &path))?;
        match unpack::compare(file.take(sealed.body_bytes), sealed.body_bytes, &folder)? {
            None => Ok(()),
            Some(difference) => Err(damaged(difference)),
        }
    }

    /// Removes the package; how many bytes that freed: 0 when it was not there.
    ///
    /// # Errors
    /// [`PackageError::Disk`]; asked again, it goes on.
    pub fn remove(&self, digest: &Digest) -> Result<u64, PackageError> {
        let scratch = self.scratch()?;
        let (file, tree) = (self.file(digest), self.tree(digest));
        let away = scratch.path().join("tree");
        {
            let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            let fault = |()| failpoint::reach(Point::Unplaced);
            let begun = failpoint::reach(Point::Unplace);
            begun
                .and_then(|()| unless_absent(fs::rename(&tree, &away)))
                .and_then(fault)
                .map_err(PackageError::disk("remove", &tree))?;
            sync_folder(&self.trees()).map_err(PackageError::disk("sync", self.trees()))?;
            unless_absent(fs::rename(&file, scratch.path().join("package")))
                .map_err(PackageError::disk("remove", &file))?;
            sync_folder(&self.folder).map_err(PackageError::disk("sync", &self.folder))?;
        }
        let bytes = bytes_below(scratch.path()).map_err(PackageError::disk("read", scratch.path()))?;
        let path = scratch.path().to_owned();
        scratch.close().map_err(PackageError::disk("remove", path))?;
        Ok(bytes)
    }

    /// All packages.
    ///
    /// # Errors
    /// [`PackageError::Disk`]
    pub fn list(&self) -> Result<BTreeSet<Digest>, PackageError> {
        let trees = self.trees();
        let mut digests = BTreeSet::new();
        for entry in fs::read_dir(&trees).map_err(PackageError::disk("read", &trees))? {
            let entry = entry.map_err(PackageError::disk("read", &trees))?;
            digests.extend(entry.file_name().to_str().and_then(|it| it.parse::<Digest>().ok()));
        }
        Ok(digests)
    }

    /// Removes every package that is not in `keep`: those that were sent, but never registered. Returns what was removed.
    ///
    /// # Errors
    /// [`PackageError::Disk`]
    pub fn retain(&self, keep: &BTreeSet<Digest>) -> Result<Vec<Digest>, PackageError> {
        let superfluous: Vec<Digest> = self.list()?.difference(keep).copied().collect();
        for digest in &superfluous {
            self.remove(digest)?;
        }
        Ok(superfluous)
    }
}

/// Writes what arrives into the new file `to` and checks its seal. The file is at its beginning.
fn receive(mut package: impl Read, to: &Path) -> Result<(File, Sealed), PackageError> {
    let writing = || PackageError::disk("write", to);
    let mut file = File::options().read(true).write(true).create_new(true).open(to).map_err(writing())?;
    fs::set_permissions(to, Permissions::from_mode(0o600)).map_err(writing())?;
    let mut sealing = Sealing::default();
    let mut arrived = 0;
    copy(&mut package, |bytes| {
        arrived += bytes.len() as u64;
        if arrived > bounds::PACKAGE_BYTES {
            return Err(PackageError::TooLarge { what: "bytes", found: arrived, most: bounds::PACKAGE_BYTES });
        }
        sealing.update(bytes);
        file.write_all(bytes).map_err(writing())
    })?;
    let sealed = sealing.check()?;
    file.seek(SeekFrom::Start(0)).map_err(writing())?;
    Ok((file, sealed))
}

fn copy(from: &mut impl Read, mut to: impl FnMut(&[u8]) -> Result<(), PackageError>) -> Result<(), PackageError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(got) => to(&buffer[..got])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PackageError::Arrival(error)),
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn unless_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}
