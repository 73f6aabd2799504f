//! From the archive of a package to a tree on disk, and the comparison of the two.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::PackageError;
use super::collect::{self, Listing};
use super::header::Node;
use super::read::Archive;
use super::tree::{Found, Tree, found};
use crate::manifest::{Exec, FILE_NAME, Manifest, PackagePath, SOURCE_MAX};

const BUFFER: usize = 64 << 10;

/// Fills the buffer with more of a file's content; 0: it has ended.
type More<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<usize, PackageError>;

/// What an archive was found to hold.
#[derive(Debug)]
pub(super) struct Content {
    pub manifest: Manifest,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Makes the files and folders of the archive in `folder`, which is empty and which nobody else can write, and puts them on
/// the disk.
pub(super) fn unpack(body: impl Read, body_bytes: u64, folder: &Path) -> Result<Content, PackageError> {
    let tree = Tree::open(folder).map_err(PackageError::disk("open", folder))?;
    let mut buffer = vec![0; BUFFER];
    let writing = |path: &PackagePath| PackageError::disk("write", folder.join(path));
    let content = walk(body, body_bytes, |path, node, more| match node {
        Node::Folder => tree.create_folder(path, node.mode()).map_err(writing(path)),
        Node::File { .. } => {
            let mut file = tree.create(path, node.mode()).map_err(writing(path))?;
            loop {
                match more(&mut buffer)? {
                    0 => return Ok(()),
                    got => file.write_all(&buffer[..got]).map_err(writing(path))?,
                }
            }
        }
    })?;
    on_this_host(&content.manifest)?;
    tree.sync().map_err(PackageError::disk("sync", folder))?;
    Ok(content)
}

/// Whether `folder` holds exactly what the archive says; if not, what is different.
pub(super) fn compare(body: impl Read, body_bytes: u64, folder: &Path) -> Result<Option<String>, PackageError> {
    let tree = Tree::open(folder).map_err(PackageError::disk("open", folder))?;
    let mut buffer = vec![0; BUFFER];
    let mut expected = 0;
    let mut differences = Vec::new();
    walk(body, body_bytes, |path, node, more| {
        expected += 1;
        let opened = as_it_should_be(&tree, path, node);
        let mut same = opened.is_ok();
        loop {
            let got = more(&mut buffer)?;
            if got == 0 {
                break;
            }
            same = same && opened.as_ref().is_ok_and(|file| goes_on_with(file.as_ref(), &buffer[..got]));
        }
        if !same {
            let problem = opened.err().unwrap_or_else(|| "has another content".into());
            differences.push(format!("{path:?} {problem}"));
        }
        Ok(())
    })?;
    let found = count(&tree, None).map_err(PackageError::disk("read", folder))?;
    if found != expected {
        differences.push(format!("it has {found} files and folders instead of {expected}"));
    }
    differences.truncate(1);
    Ok(differences.pop())
}

/// Calls `each` for every entry; it reads the content of a file to its end. The entries are those that module.toml needs.
fn walk(
    body: impl Read,
    body_bytes: u64,
    mut each: impl FnMut(&PackagePath, Node, More<'_>) -> Result<(), PackageError>,
) -> Result<Content, PackageError> {
    let mut archive = Archive::new(body, body_bytes)?;
    let first = archive.next()?;
    let Some((path, node @ Node::File { bytes, .. })) = first else {
        return Err(PackageError::file(FILE_NAME, "is missing", "Make the package with `mortise pack`."));
    };
    if bytes > SOURCE_MAX as u64 {
        return Err(PackageError::TooLarge { what: "bytes of module.toml", found: bytes, most: SOURCE_MAX as u64 });
    }
    let text = archive.read_all()?;
    let manifest = Manifest::parse_bytes(&text, FILE_NAME)?;
    let mut rest = text.as_slice();
    each(&path, node, &mut |buffer| rest.read(buffer).map_err(PackageError::Arrival))?;

    let mut content = Content { manifest, bytes };
    let mut listing = Listing::new();
    while let Some((path, node)) = archive.next()? {
        each(&path, node, &mut |buffer| archive.read(buffer))?;
        if let Node::File { bytes, .. } = node {
            content.bytes += bytes;
        }
        listing.insert(path, node);
    }
    collect::agree(&content.manifest, &listing)?;
    Ok(content)
}

/// A program of the host must be there: better said now than by every start.
fn on_this_host(manifest: &Manifest) -> Result<(), PackageError> {
    let Some(Exec::Host(path)) = manifest.program().map(|it| &it.exec) else { return Ok(()) };
    let refuse = |problem: &str| {
        let remedy = "Install it on this host, or put the program into the package.";
        Err(PackageError::file(path.to_string_lossy(), format!("is `exec` in module.toml and {problem}"), remedy))
    };
    match fs::metadata(path) {
        Ok(it) if !it.is_file() => refuse("no file on this host"),
        Ok(it) if it.permissions().mode() & 0o005 != 0o005 => refuse("not executable by everybody on this host"),
        Ok(_) => Ok(()),
        Err(_) => refuse("not there on this host"),
    }
}

/// Opens what must be there (nothing, for a folder), or says what is different about it.
fn as_it_should_be(tree: &Tree, path: &PackagePath, node: Node) -> Result<Option<File>, String> {
    let (there, stat) = tree.stat(path).map_err(|error| format!("cannot be read: {error}"))?;
    if stat.st_mode & 0o7777 != node.mode() {
        return Err(format!("has the mode {:o} instead of {:o}", stat.st_mode & 0o7777, node.mode()));
    }
    if stat.st_uid != nix::unistd::geteuid().as_raw() {
        return Err(format!("belongs to the uid {}", stat.st_uid));
    }
    match (node, there) {
        (Node::Folder, Found::Folder) => Ok(None),
        (Node::File { bytes, .. }, Found::File) => {
            let (file, stat) = tree.read(path).map_err(|error| format!("cannot be read: {error}"))?;
            if found(&stat) != Found::File {
                return Err("is no file".into());
            }
            if u64::try_from(stat.st_size) != Ok(bytes) {
                return Err(format!("has {} bytes instead of {bytes}", stat.st_size));
            }
            Ok(Some(file))
        }
        (Node::Folder, _) => Err("is no folder".into()),
        (Node::File { .. }, _) => Err("is no file".into()),
    }
}

fn goes_on_with(file: Option<&File>, expected: &[u8]) -> bool {
    let mut found = vec![0; expected.len()];
    file.is_some_and(|mut file| file.read_exact(&mut found).is_ok() && found == expected)
}

fn count(tree: &Tree, folder: Option<&PackagePath>) -> std::io::Result<usize> {
    let mut sum = 0;
    for name in tree.names(folder)? {
        sum += 1;
        // What has no name that a package can have is counted, and that is one too many.
        let Ok(text) = std::str::from_utf8(&name) else { continue };
        let Ok(path) = folder.map_or_else(|| PackagePath::new(text), |it| it.join(text)) else { continue };
        if tree.stat(&path)?.0 == Found::Folder {
            sum += count(tree, Some(&path))?;
        }
    }
    Ok(sum)
}
