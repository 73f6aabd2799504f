//! Which files of a module's folder go into its package.
//!
//! Always module.toml, an `exec` inside the package and the resources. Beside them what `files` names, folders with all that is in
//! them. Without `files`: everything in the folder but names that begin with `.` and packages; where a Cargo.toml is,
//! nothing, since there the folder is full of source and build results.

use std::collections::BTreeMap;
use std::io;

use nix::sys::stat::FileStat;

use super::header::{Mode, Node};
use super::tree::{Found, Tree};
use super::{PackageError, bounds};
use crate::manifest::{Exec, FILE_NAME, Manifest, PackagePath};

/// The files and folders of a package, without module.toml. A folder sorts before what is in it.
pub(super) type Listing = BTreeMap<PackagePath, Node>;

pub(super) fn collect(tree: &Tree, manifest: &Manifest) -> Result<Listing, PackageError> {
    let mut collection = Collection { tree, listing: Listing::new(), bytes: 0 };
    if let Some(Exec::Package(path)) = manifest.program().map(|it| &it.exec) {
        collection.named(path, "`exec` in module.toml")?;
    }
    for resource in &manifest.resources {
        collection.named(&resource.file, "`[[resources]]` in module.toml")?;
    }
    match &manifest.files {
        Some(files) => files.iter().try_for_each(|path| collection.named(path, "`files` in module.toml"))?,
        None => collection.everything()?,
    }
    let mut listing = collection.listing;
    listing.retain(|path, _| path.as_str() != FILE_NAME);
    agree(manifest, &listing)?;
    Ok(listing)
}

/// Whether the files are there that module.toml speaks of.
pub(super) fn agree(manifest: &Manifest, listing: &Listing) -> Result<(), PackageError> {
    if let Some(Exec::Package(path)) = manifest.program().map(|it| &it.exec) {
        match listing.get(path) {
            Some(Node::File { mode: Mode::Executable, .. }) => {}
            Some(Node::File { mode: Mode::Plain, .. }) => {
                let remedy = format!("chmod +x {path}");
                return Err(PackageError::file(path.as_str(), "is `exec` in module.toml and not executable", remedy));
            }
            Some(Node::Folder) | None => return Err(absent(path, "`exec` in module.toml")),
        }
    }
    for resource in &manifest.resources {
        if !matches!(listing.get(&resource.file), Some(Node::File { .. })) {
            return Err(absent(&resource.file, "`[[resources]]` in module.toml"));
        }
    }
    Ok(())
}

fn absent(path: &PackagePath, who: &str) -> PackageError {
    let remedy = format!("Put a file there, or correct {who}.");
    PackageError::file(path.as_str(), format!("is named by {who} and is no file of the package"), remedy)
}

struct Collection<'a> {
    tree: &'a Tree,
    listing: Listing,
    bytes: u64,
}

impl Collection<'_> {
    fn everything(&mut self) -> Result<(), PackageError> {
        let names = self.tree.names(None).map_err(PackageError::disk("read the folder", "."))?;
        if names.iter().any(|name| name == b"Cargo.toml") {
            return Ok(());
        }
        for name in names.iter().filter(|name| !name.starts_with(b".") && !name.ends_with(b".mortise")) {
            self.path(&plain(None, name)?)?;
        }
        Ok(())
    }

    /// A path that module.toml names: with it come the folders that it lies in.
    fn named(&mut self, path: &PackagePath, who: &str) -> Result<(), PackageError> {
        let mut folder = path.parent();
        while let Some(path) = folder {
            self.listing.insert(path.clone(), Node::Folder);
            folder = path.parent();
        }
        match self.path(path) {
            Err(PackageError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(absent(path, who))
            }
            other => other,
        }
    }

    fn path(&mut self, path: &PackagePath) -> Result<(), PackageError> {
        let (found, stat) = self.tree.stat(path).map_err(|source| unreachable_by(path, source))?;
        match found {
            Found::Folder => {
                self.add(path, Node::Folder)?;
                let names = self.tree.names(Some(path)).map_err(|source| unreachable_by(path, source))?;
                for name in names {
                    self.path(&plain(Some(path), &name)?)?;
                }
                Ok(())
            }
            Found::File => self.add(path, node(path, &stat)?),
            Found::Link => Err(a_link(path)),
            Found::Special => Err(PackageError::file(
                path.as_str(),
                "is a FIFO, a socket or a device",
                "Remove it, or name what the package needs by `files` in module.toml.",
            )),
        }
    }

    fn add(&mut self, path: &PackagePath, node: Node) -> Result<(), PackageError> {
        if self.listing.insert(path.clone(), node).is_some_and(|earlier| earlier != Node::Folder) {
            return Ok(());
        }
        if let Node::File { bytes, .. } = node {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        within(self.listing.len() as u64, self.bytes, bounds::CONTENT_BYTES)
    }
}

/// Whether this many files and bytes may be in a package.
pub(super) fn within(entries: u64, bytes: u64, most_bytes: u64) -> Result<(), PackageError> {
    if entries > bounds::ENTRIES {
        return Err(PackageError::TooLarge { what: "files and folders", found: entries, most: bounds::ENTRIES });
    }
    if bytes > most_bytes {
        return Err(PackageError::TooLarge { what: "bytes of files", found: bytes, most: most_bytes });
    }
    Ok(())
}

pub(super) fn node(path: &PackagePath, stat: &FileStat) -> Result<Node, PackageError> {
    if stat.st_mode & 0o6000 != 0 {
        return Err(PackageError::file(path.as_str(), "is setuid or setgid", format!("chmod ug-s {path}")));
    }
    let mode = if stat.st_mode & 0o111 == 0 { Mode::Plain } else { Mode::Executable };
    Ok(Node::File { mode, bytes: u64::try_from(stat.st_size).unwrap_or(0) })
}

fn plain(folder: Option<&PackagePath>, name: &[u8]) -> Result<PackagePath, PackageError> {
    let shown = String::from_utf8_lossy(name);
    let remedy = "Rename it, or name what the package needs by `files` in module.toml.";
    let refuse = |problem: String| PackageError::file(&shown, problem, remedy);
    let text = std::str::from_utf8(name).map_err(|_| refuse("has a name that is not UTF-8".into()))?;
    let path = folder.map_or_else(|| PackagePath::new(text), |folder| folder.join(text));
    path.map_err(|why| refuse(format!("cannot be in a package: {why}")))
}

fn a_link(path: &PackagePath) -> PackageError {
    let problem = "is a symbolic link, or lies behind one; what it leads to is not in the package";
    PackageError::file(path.as_str(), problem, "Put the file itself there.")
}

pub(super) fn unreachable_by(path: &PackagePath, source: io::Error) -> PackageError {
    match source.raw_os_error() {
        Some(libc::ELOOP) => a_link(path),
        Some(libc::EXDEV) => {
            PackageError::file(path.as_str(), "is another file system", "Put the files themselves there.")
        }
        _ => PackageError::disk("read", path)(source),
    }
}
