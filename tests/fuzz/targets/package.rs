//! A package file: whatever it is, it is taken in whole, as files and folders that nobody but the store's owner can write, or it is
//! refused and no trace of it is left.
//!
//! The first line of an input says how deep in the file the attacker's bytes begin, so that seal and checksums, which no mutation
//! would ever guess, are no wall in front of what lies behind them:
//! ```text
//!   package │ the file, as it is
//!   frame   │ the zstd frame; the seal is made here
//!   archive │ the tar archive; its headers' checksums, frame and seal are made here
//!   entries │ the archive's entries, a line each; headers and all around them are made here:
//!             KIND MODE PATH   an entry: KIND is tar's letter, MODE octal; a link's target stands behind the path and a NUL
//!             =TEXT            a line of its content
//!             z N              N zeros of its content
//!             s N              the size that its header claims, instead of the true one
//!             cut              nothing behind this: no end of the archive
//! ```
#![no_main]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use mortise_supervisor::package::{Installed, PackageStore};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Bytes of a block of tar.
const BLOCK: usize = 512;
/// Content that one input may ask for by `z`.
const ZEROS: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let host = Host::get();
    let before = host.listing();
    match host.store.install(&*package(bytes)) {
        Err(error) => {
            let text = error.to_string();
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
        Ok(installed) => {
            check(&installed.folder);
            host.store.verify(&installed.digest).expect("what was taken in is as it was sent");
            let Installed { digest, .. } = host.store.find(&installed.digest).expect("it is there");
            host.store.remove(&digest).expect("it can be removed");
        }
    }
    assert_eq!(host.listing(), before, "a trace was left, or something else was touched");
});

/// A folder with a store and with what an escape would reach first.
struct Host {
    folder: TempDir,
    store: PackageStore,
}

impl Host {
    fn get() -> &'static Self {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| {
            // Where the kernel keeps files in memory there is no disk to wait for.
            let memory = Path::new("/dev/shm");
            let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            let folder = folder.expect("a temporary folder");
            fs::write(folder.path().join("outside"), "as it was").expect("a file beside the store");
            let store = PackageStore::open(&folder.path().join("packages")).expect("a store");
            Host { folder, store }
        })
    }

    /// Everything in the folder: path, mode, links, length.
    fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        each(self.folder.path(), &mut |path, metadata| {
            let length = if metadata.is_dir() { 0 } else { metadata.len() };
            found.push(format!("{} {:o} {length}", path.display(), metadata.mode()));
        });
        found.sort_unstable();
        found
    }
}

fn each(folder: &Path, see: &mut dyn FnMut(&Path, &fs::Metadata)) {
    for entry in fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("something that is there");
        see(&path, &metadata);
        if metadata.is_dir() {
            each(&path, see);
        }
    }
}

/// Nothing but plain files and folders, with no bit that gives anybody anything.
fn check(tree: &Path) {
    let mut bytes = 0;
    each(tree, &mut |path, metadata| {
        let mode = metadata.mode() & 0o7777;
        let sound = match metadata.file_type() {
            it if it.is_dir() => mode == 0o755,
            it if it.is_file() => metadata.nlink() == 1 && matches!(mode, 0o644 | 0o755),
            _ => false,
        };
        assert!(sound, "{} has the mode {:o}", path.display(), metadata.mode());
        bytes += metadata.len();
    });
    assert!(bytes <= 4 << 30);
}

/// The package file that an input says.
fn package(input: &[u8]) -> Vec<u8> {
    let end = input.iter().position(|it| *it == b'\n').unwrap_or(input.len());
    let rest = input.get(end + 1..).unwrap_or_default();
    match &input[..end] {
        b"frame" => sealed(rest.to_vec()),
        b"archive" => sealed(frame(&mended(rest))),
        b"entries" => sealed(frame(&entries(rest))),
        _ => rest.to_vec(),
    }
}

fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    let sum = Sha256::digest(&frame);
    frame.extend(b"\x5d\x2a\x4d\x18\x30\0\0\0mortise-package1");
    frame.extend(sum);
    frame
}

fn frame(archive: &[u8]) -> Vec<u8> {
    zstd::encode_all(archive, 1).expect("memory takes every byte")
}

/// The archive with the checksums of its headers as they should be.
fn mended(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + BLOCK).filter(|it| it.iter().any(|byte| *byte != 0)) {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = usize::try_from(header.entry_size().unwrap_or(0)).unwrap_or(usize::MAX);
        at = at.saturating_add(BLOCK).saturating_add(size.saturating_add(BLOCK - 1) / BLOCK * BLOCK);
    }
    archive
}

struct Entry<'a> {
    kind: u8,
    mode: u32,
    name: &'a [u8],
    claimed: Option<u64>,
    content: Vec<u8>,
}

fn entries(recipe: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut current: Option<Entry<'_>> = None;
    let mut zeros = ZEROS;
    let mut cut = false;
    for line in recipe.split(|it| *it == b'\n') {
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        match line {
            b"cut" => cut = true,
            [b'=', text @ ..] => {
                let Some(entry) = &mut current else { continue };
                entry.content.extend(text);
                entry.content.push(b'\n');
            }
            [b'z', b' ', count @ ..] => {
                let Some(entry) = &mut current else { continue };
                let count = usize::try_from(number(count)).unwrap_or(usize::MAX).min(zeros);
                zeros -= count;
                entry.content.resize(entry.content.len() + count, 0);
            }
            [b's', b' ', size @ ..] => {
                let Some(entry) = &mut current else { continue };
                entry.claimed = Some(number(size));
            }
            [kind, b' ', rest @ ..] => {
                write(&mut archive, current.take());
                let mut words = rest.splitn(2, |it| *it == b' ');
                let mode = words.next().and_then(|it| std::str::from_utf8(it).ok());
                let mode = mode.and_then(|it| u32::from_str_radix(it, 8).ok()).unwrap_or(0);
                let name = words.next().unwrap_or_default();
                current = Some(Entry { kind: *kind, mode, name, claimed: None, content: Vec::new() });
            }
            _ => {}
        }
    }
    write(&mut archive, current);
    if !cut {
        archive.resize(archive.len() + 2 * BLOCK, 0);
    }
    archive
}

fn write(archive: &mut Vec<u8>, entry: Option<Entry<'_>>) {
    let Some(Entry { kind, mode, name, claimed, content }) = entry else { return };
    let mut header = tar::Header::new_ustar();
    header.set_mtime(946_684_800);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode);
    header.set_size(claimed.unwrap_or(content.len() as u64));
    header.set_entry_type(tar::EntryType::new(kind));
    let (path, link) = name.split_at(name.iter().position(|it| *it == 0).unwrap_or(name.len()));
    let old = header.as_old_mut();
    let link = link.get(1..).unwrap_or_default();
    let (path_room, link_room) = (path.len().min(old.name.len()), link.len().min(old.linkname.len()));
    old.name[..path_room].copy_from_slice(&path[..path_room]);
    old.linkname[..link_room].copy_from_slice(&link[..link_room]);
    header.set_cksum();
    archive.extend(header.as_bytes());
    archive.extend(&content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}
