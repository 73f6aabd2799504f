//! The one form in which a file or folder stands in the archive: a ustar header without owner, time or links.

use tar::{EntryType, Header};

use super::PackageError;
use crate::manifest::PackagePath;

/// Headers and contents come in blocks of this many bytes.
pub(super) const BLOCK: usize = 512;

/// 2000-01-01: a time that is no news, and that no tool finds implausible.
const TIME: u64 = 946_684_800;

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Folder,
    File { mode: Mode, bytes: u64 },
}

/// Who may do what with a file: everybody reads it, nobody but the store's owner writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// 0644
    Plain,
    /// 0755
    Executable,
}

impl Mode {
    pub const fn bits(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Executable => 0o755,
        }
    }
}

impl Node {
    pub const fn mode(self) -> u32 {
        match self {
            Self::Folder => 0o755,
            Self::File { mode, .. } => mode.bits(),
        }
    }
}

/// Writes the header.
///
/// # Errors
/// A path that ustar cannot say.
pub(super) fn encode(path: &PackagePath, node: Node) -> Result<[u8; BLOCK], PackageError> {
    let mut header = Header::new_ustar();
    let (kind, bytes, name) = match node {
        Node::Folder => (EntryType::Directory, 0, format!("{path}/")),
        Node::File { bytes, .. } => (EntryType::Regular, bytes, path.to_string()),
    };
    header.set_path(&name).map_err(|error| {
        let remedy = "Names of files have at most 100 bytes, and the path before them at most 155.";
        PackageError::file(path.as_str(), format!("has no place in the archive: {error}"), remedy)
    })?;
    header.set_entry_type(kind);
    header.set_mode(node.mode());
    header.set_size(bytes);
    header.set_mtime(TIME);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Reads a header that [`encode`] wrote.
///
/// # Errors
/// Everything else is refused, named as what it is.
pub(super) fn decode(block: &[u8; BLOCK]) -> Result<(PackagePath, Node), PackageError> {
    let header = Header::from_byte_slice(block);
    let name = header.path_bytes();
    let shown = String::from_utf8_lossy(&name).into_owned();
    let refuse = |problem: &str| PackageError::file(&shown, problem, "Make the package with `mortise pack`.");
    let kind = match header.entry_type() {
        EntryType::Regular => "file",
        EntryType::Directory => "folder",
        EntryType::Symlink => return Err(refuse("is a symbolic link, and a package has only files and folders")),
        EntryType::Link => return Err(refuse("is a hard link, and a package has only files and folders")),
        EntryType::Char | EntryType::Block => {
            return Err(refuse("is a device, and a package has only files and folders"));
        }
        EntryType::Fifo => return Err(refuse("is a FIFO, and a package has only files and folders")),
        _ => return Err(refuse("is a tar entry of a kind that packages do not have")),
    };
    let text = std::str::from_utf8(&name).map_err(|_| refuse("has a name that is not UTF-8"))?;
    let text = if kind == "folder" { text.strip_suffix('/').unwrap_or(text) } else { text };
    let path = PackagePath::new(text).map_err(|why| refuse(&format!("is no path inside a package: {why}")))?;
    let number = |result: std::io::Result<u64>| result.map_err(|_| refuse("has a header that is damaged"));
    let mode = number(header.mode().map(u64::from))?;
    if mode & 0o7000 != 0 {
        return Err(refuse("is setuid, setgid or sticky"));
    }
    let node = match kind {
        "folder" => Node::Folder,
        _ => Node::File {
            mode: if mode == u64::from(Mode::Executable.bits()) { Mode::Executable } else { Mode::Plain },
            bytes: number(header.entry_size())?,
        },
    };
    // Owners, times, extensions, bytes after the end of a text: whatever else a header can say, this one does not.
    if encode(&path, node)? != *block {
        return Err(refuse("has a header that `mortise pack` would not have written"));
    }
    Ok((path, node))
}
