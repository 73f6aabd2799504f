//! Reading the archive of a package, which is hostile: one entry after the other, each checked before it is believed.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read};

use super::header::{BLOCK, Node, decode};
use super::{PackageError, bounds, collect};
use crate::manifest::{FILE_NAME, PackagePath};

/// A package file that is being read.
pub(super) struct Archive<R: Read> {
    blocks: zstd::Decoder<'static, BufReader<R>>,
    most_bytes: u64,
    bytes: u64,
    entries: u64,
    last: Option<PackagePath>,
    folders: BTreeSet<PackagePath>,
    /// Bytes of the current file, and of the zeros behind it, that were not read yet.
    left: u64,
    padding: u64,
}

impl<R: Read> Archive<R> {
    /// Reads from `body`, the zstd frame of `body_bytes` bytes.
    pub fn new(body: R, body_bytes: u64) -> Result<Self, PackageError> {
        let mut blocks = zstd::Decoder::new(body).map_err(torn)?.single_frame();
        blocks.window_log_max(bounds::WINDOW_LOG).map_err(torn)?;
        Ok(Self {
            blocks,
            most_bytes: bounds::content(body_bytes),
            bytes: 0,
            entries: 0,
            last: None,
            folders: BTreeSet::new(),
            left: 0,
            padding: 0,
        })
    }

    /// The next file or folder; module.toml first, the others in the order of their paths. The content of the one before
    /// must have been read. None: that was all, and there is nothing behind it.
    pub fn next(&mut self) -> Result<Option<(PackagePath, Node)>, PackageError> {
        debug_assert_eq!(self.left, 0, "the content of the entry before was not read");
        self.pad()?;
        let block = self.block()?;
        if block == [0; BLOCK] {
            return self.end().map(|()| None);
        }
        let (path, node) = decode(&block)?;
        let refuse =
            |problem: &str| PackageError::file(path.as_str(), problem, "Make the package with `mortise pack`.");
        self.entries += 1;
        match &self.last {
            None if path.as_str() != FILE_NAME => return Err(refuse("is the first entry, which must be module.toml")),
            None => {}
            // module.toml may sort after what follows it.
            Some(last) if last.as_str() == FILE_NAME && self.entries == 2 && path.as_str() != FILE_NAME => {}
            Some(last) if *last < path && path.as_str() != FILE_NAME => {}
            Some(_) => return Err(refuse("is there twice, or out of order")),
        }
        if path.parent().is_some_and(|folder| !self.folders.contains(&folder)) {
            return Err(refuse("lies in a folder that is not in the package"));
        }
        match node {
            Node::Folder => {
                self.folders.insert(path.clone());
            }
            Node::File { bytes, .. } => {
                self.bytes = self.bytes.saturating_add(bytes);
                self.left = bytes;
                self.padding = (BLOCK as u64 - bytes % BLOCK as u64) % BLOCK as u64;
            }
        }
        collect::within(self.entries - 1, self.bytes, self.most_bytes)?;
        self.last = Some(path.clone());
        Ok(Some((path, node)))
    }

    /// Reads on in the content of the current file; 0: it has ended.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, PackageError> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = self.blocks.read(&mut buffer[..want]).map_err(torn)?;
        if got == 0 {
            return Err(PackageError::Broken("it ends in the middle of a file".into()));
        }
        self.left -= got as u64;
        Ok(got)
    }

    /// The whole content of the current file, which is known to be small.
    pub fn read_all(&mut self) -> Result<Vec<u8>, PackageError> {
        let mut content = vec![0; usize::try_from(self.left).unwrap_or(usize::MAX)];
        let mut at = 0;
        while at < content.len() {
            at += self.read(&mut content[at..])?;
        }
        Ok(content)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], PackageError> {
        let mut block = [0; BLOCK];
        self.blocks.read_exact(&mut block).map_err(torn)?;
        Ok(block)
    }

    fn pad(&mut self) -> Result<(), PackageError> {
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..usize::try_from(self.padding).unwrap_or(0)];
        self.padding = 0;
        self.blocks.read_exact(padding).map_err(torn)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(PackageError::Broken("there is something between its files".into()));
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), PackageError> {
        let behind = || Err(PackageError::Broken("there is something behind its last file".into()));
        if self.block()? != [0; BLOCK] {
            return behind();
        }
        // Reading to the end of the frame is also what compares its checksum.
        if self.blocks.read(&mut [0]).map_err(torn)? != 0 {
            return behind();
        }
        if !self.blocks.get_mut().fill_buf().map_err(PackageError::Arrival)?.is_empty() {
            return behind();
        }
        Ok(())
    }
}

fn torn(error: io::Error) -> PackageError {
    PackageError::Broken(format!("it cannot be unpacked: {error}"))
}
