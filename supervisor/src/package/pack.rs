//! From a module's folder to one package file.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::collect::{self, collect, unreachable_by};
use super::header::{BLOCK, Node, encode};
use super::tree::{Found, Tree, found};
use super::{Digest, PackageError, bounds, seal};
use crate::manifest::{FILE_NAME, Manifest, PackagePath};

/// Programs shrink to a third, as fast as most disks write.
const LEVEL: i32 = 9;

/// A package that was made.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Its name.
    pub digest: Digest,
    /// What its module.toml says.
    pub manifest: Manifest,
    /// Files in it.
    pub files: u32,
    /// Bytes of these files.
    pub content_bytes: u64,
    /// Bytes of the package file.
    pub package_bytes: u64,
}

/// Makes the package of the module in `folder` and puts it at `out`, which it replaces in one step. The same folder
/// always gives the same bytes. Blocks.
///
/// # Errors
/// [`PackageError`] names the file; then `out` is as it was.
pub fn pack(folder: &Path, out: &Path) -> Result<Packed, PackageError> {
    let tree = Tree::open(folder).map_err(PackageError::disk("open the folder", folder))?;
    let text = module_toml(&tree, folder)?;
    let manifest = Manifest::parse_bytes(&text, FILE_NAME)?;
    let listing = collect(&tree, &manifest)?;

    let beside = out.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writing = || PackageError::disk("write", out);
    let temporary = tempfile::Builder::new()
        .prefix(".mortise-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(beside)
        .map_err(writing())?;
    let mut archive = Archive::new(temporary.as_file()).map_err(writing())?;
    archive.entry(&path(FILE_NAME)?, plain(text.len()), &mut &*text, out)?;
    let (mut files, mut content_bytes) = (1, text.len() as u64);
    for (path, node) in &listing {
        match node {
            Node::Folder => archive.entry(path, *node, &mut io::empty(), out)?,
            Node::File { bytes, .. } => {
                archive.entry(path, *node, &mut unchanged(&tree, path, *node)?, out)?;
                files += 1;
                content_bytes += bytes;
            }
        }
    }
    let (digest, package_bytes) = archive.finish().map_err(writing())?;
    if package_bytes > bounds::PACKAGE_BYTES {
        return Err(PackageError::TooLarge { what: "bytes", found: package_bytes, most: bounds::PACKAGE_BYTES });
    }
    collect::within(listing.len() as u64, content_bytes, bounds::content(package_bytes))?;
    temporary.as_file().sync_all().map_err(writing())?;
    temporary.persist(out).map_err(|error| writing()(error.error))?;
    File::open(beside).and_then(|folder| folder.sync_all()).map_err(writing())?;
    Ok(Packed { digest, manifest, files, content_bytes, package_bytes })
}

pub(super) fn module_toml(tree: &Tree, folder: &Path) -> Result<Vec<u8>, PackageError> {
    let path = path(FILE_NAME)?;
    let (found, _) = tree.stat(&path).map_err(PackageError::disk("read", folder.join(FILE_NAME)))?;
    if found != Found::File {
        return Err(PackageError::file(FILE_NAME, "is no file", "Put the file itself there."));
    }
    let (file, _) = tree.read(&path).map_err(|source| unreachable_by(&path, source))?;
    let mut text = Vec::new();
    // One byte more than a module.toml may have: the manifest says that it is too long.
    file.take(crate::manifest::SOURCE_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(PackageError::disk("read", folder.join(FILE_NAME)))?;
    Ok(text)
}

pub(super) fn path(text: &str) -> Result<PackagePath, PackageError> {
    PackagePath::new(text).map_err(|why| PackageError::file(text, why.to_string(), "Rename it."))
}

fn plain(bytes: usize) -> Node {
    Node::File { mode: super::header::Mode::Plain, bytes: bytes as u64 }
}

/// The file, which must be what it was when it was listed.
pub(super) fn unchanged(tree: &Tree, path: &PackagePath, node: Node) -> Result<File, PackageError> {
    let (file, stat) = tree.read(path).map_err(|source| unreachable_by(path, source))?;
    if found(&stat) != Found::File || collect::node(path, &stat)? != node {
        return Err(changed(path));
    }
    Ok(file)
}

fn changed(path: &PackagePath) -> PackageError {
    PackageError::file(
        path.as_str(),
        "was changed while it was packed",
        "Pack again when nothing writes to the folder.",
    )
}

/// The archive on its way through zstd into the file.
struct Archive<'a> {
    out: zstd::Encoder<'static, Hashing<'a>>,
}

impl<'a> Archive<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        let hashing = Hashing { file: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
        let mut out = zstd::Encoder::new(hashing, LEVEL)?;
        out.include_checksum(true)?;
        out.window_log(bounds::WINDOW_LOG)?;
        Ok(Self { out })
    }

    fn entry(&mut self, path: &PackagePath, node: Node, content: &mut dyn Read, to: &Path) -> Result<(), PackageError> {
        let writing = || PackageError::disk("write", to);
        self.out.write_all(&encode(path, node)?).map_err(writing())?;
        let Node::File { bytes, .. } = node else { return Ok(()) };
        let mut buffer = vec![0; 64 << 10];
        let mut left = bytes;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = content.read(&mut buffer[..want]).map_err(PackageError::disk("read", path))?;
            if got == 0 {
                return Err(changed(path));
            }
            self.out.write_all(&buffer[..got]).map_err(writing())?;
            left -= got as u64;
        }
        if content.read(&mut buffer[..1]).map_err(PackageError::disk("read", path))? != 0 {
            return Err(changed(path));
        }
        let padding = bytes.next_multiple_of(BLOCK as u64) - bytes;
        io::copy(&mut io::repeat(0).take(padding), &mut self.out).map_err(writing())?;
        Ok(())
    }

    fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        let mut hashing = self.out.finish()?;
        let seal = seal::seal(hashing.hash.clone());
        hashing.write_all(&seal)?;
        hashing.file.flush()?;
        Ok((Digest::of(hashing.hash), hashing.bytes))
    }
}

/// A file with the sum of what was written to it.
struct Hashing<'a> {
    file: BufWriter<&'a File>,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
