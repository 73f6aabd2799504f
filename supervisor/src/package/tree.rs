//! Files below one folder, opened so that no link and no `..` leads out of it, whoever swaps what meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode as Bits, SFlag, fchmod, fstat, mkdirat};

use crate::manifest::PackagePath;

/// A folder that is held open.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
}

/// Opens a file of an unpacked package for reading.
///
/// # Errors
/// Also when it is anything but a file, or a link leads to it.
pub(crate) fn open_inside(package: &Path, path: &PackagePath) -> io::Result<File> {
    let (file, stat) = Tree::open(package)?.read(path)?;
    match found(&stat) {
        Found::File => Ok(file),
        Found::Folder | Found::Link | Found::Special => Err(io::Error::other("it is no file")),
    }
}

/// What stands at a path of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Folder,
    File,
    Link,
    /// A FIFO, socket or device.
    Special,
}

impl Tree {
    /// Opens a folder by its path on the host; the path itself may lead over links.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: nix::fcntl::open(folder, flags, Bits::empty())? })
    }

    fn at(&self, path: &str, flags: OFlag, mode: Bits) -> io::Result<OwnedFd> {
        let within = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(within);
        Ok(openat2(&self.root, path, how)?)
    }

    /// What is there, without opening it. A link in the middle of the path is ELOOP.
    pub fn stat(&self, path: &PackagePath) -> io::Result<(Found, FileStat)> {
        // With O_PATH, O_NOFOLLOW gives the link itself at the end of the path.
        let node = self.at(path.as_str(), OFlag::O_PATH | OFlag::O_NOFOLLOW, Bits::empty())?;
        let stat = fstat(&node)?;
        Ok((found(&stat), stat))
    }

    /// Opens a file for reading and says how it is; never waits for the other end of a FIFO.
    pub fn read(&self, path: &PackagePath) -> io::Result<(File, FileStat)> {
        let file = self.at(path.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK, Bits::empty())?;
        let stat = fstat(&file)?;
        Ok((file.into(), stat))
    }

    /// The names in a folder; `None` is the root.
    pub fn names(&self, folder: Option<&PackagePath>) -> io::Result<Vec<Vec<u8>>> {
        let path = folder.map_or(".", PackagePath::as_str);
        let mut dir = Dir::from_fd(self.at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Bits::empty())?)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes a file that is not there yet.
    pub fn create(&self, path: &PackagePath, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = self.at(path.as_str(), flags, Bits::from_bits_truncate(0o600))?;
        fchmod(&file, Bits::from_bits_truncate(mode))?;
        Ok(file.into())
    }

    /// Makes a folder that is not there yet.
    pub fn create_folder(&self, path: &PackagePath, mode: u32) -> io::Result<()> {
        let (folder, name) = self.folder_of(path)?;
        mkdirat(&folder, name, Bits::from_bits_truncate(0o700))?;
        let made = self.at(path.as_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Bits::empty())?;
        Ok(fchmod(&made, Bits::from_bits_truncate(mode))?)
    }

    /// Puts everything of the file system that this is on onto the disk, and says if an earlier write failed.
    pub fn sync(&self) -> io::Result<()> {
        // One call for all files: thousands of fsync would each wait for the journal.
        let root = self.at(".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Bits::empty())?;
        Ok(nix::unistd::syncfs(root.as_fd())?)
    }

    fn folder_of<'p>(&self, path: &'p PackagePath) -> io::Result<(OwnedFd, &'p str)> {
        let (folder, name) = path.as_str().rsplit_once('/').unwrap_or((".", path.as_str()));
        Ok((self.at(folder, OFlag::O_PATH | OFlag::O_DIRECTORY, Bits::empty())?, name))
    }
}

pub(super) fn found(stat: &FileStat) -> Found {
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Found::Folder,
        SFlag::S_IFREG => Found::File,
        SFlag::S_IFLNK => Found::Link,
        _ => Found::Special,
    }
}
