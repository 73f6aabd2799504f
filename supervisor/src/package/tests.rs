//! Packages as an attacker would make them, byte by byte: each is refused, and no trace of it is left.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::header::{self, BLOCK, Mode, Node};
use super::*;
use crate::api::{ApiError, ErrorCode};
use crate::manifest::PackagePath;

const MODULE: &str = "name = \"spell\"\nversion = \"1.0.0\"\nruntime = \"sdk\"\nexec = \"bin/spell\"\n[[resources]]\nname = \"words\"\nfile = \"data/words.txt\"\n";

/// A module's folder.
fn module() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    put(at, "module.toml", MODULE);
    put(at, "bin/spell", "\x7fELF and so on");
    fs::set_permissions(at.join("bin/spell"), Permissions::from_mode(0o755)).unwrap();
    put(at, "data/words.txt", "one\ntwo\n");
    put(at, "data/more/empty", "");
    folder
}

fn put(folder: &Path, path: &str, text: &str) {
    fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
    fs::write(folder.join(path), text).unwrap();
}

fn packed(folder: &Path) -> Vec<u8> {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("out.mortise");
    pack(folder, &file).unwrap_or_else(|error| panic!("{error}"));
    fs::read(file).unwrap()
}

fn store() -> (TempDir, PackageStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(&folder.path().join("packages")).unwrap();
    (folder, store)
}

/// Everything below a folder, with its mode and content.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        found.push(format!("{} {:o} {}", path.display(), metadata.mode(), metadata.ino()));
        if metadata.is_dir() {
            found.extend(listing(&path));
        }
    }
    found.sort();
    found
}

/// An archive that `mortise pack` did not make, in a package file that is whole.
fn wrapped(archive: &[u8]) -> Vec<u8> {
    let mut frame = zstd::encode_all(archive, 3).unwrap();
    frame.extend(seal::seal(Sha256::new().chain_update(&frame)));
    frame
}

fn entry(path: &str, node: Node, content: &[u8]) -> Vec<u8> {
    raw(header::encode(&PackagePath::new(path).unwrap(), node).unwrap(), content)
}

fn raw(block: [u8; BLOCK], content: &[u8]) -> Vec<u8> {
    let mut bytes = block.to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn file(path: &str, mode: Mode, content: &[u8]) -> Vec<u8> {
    entry(path, Node::File { mode, bytes: content.len() as u64 }, content)
}

/// module.toml, bin/spell and data/words.txt, then `more`, then the end.
fn archive(more: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = [
        file("module.toml", Mode::Plain, MODULE.as_bytes()),
        entry("bin", Node::Folder, b""),
        file("bin/spell", Mode::Executable, b"program"),
        entry("data", Node::Folder, b""),
        file("data/words.txt", Mode::Plain, b"one"),
    ]
    .concat();
    bytes.extend(more.concat());
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

/// A header with any kind, name, mode and link, and a right checksum.
fn odd(kind: u8, name: &[u8], mode: u32, bytes: u64, link: &str) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    header.set_mtime(946_684_800);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_entry_type(tar::EntryType::new(kind));
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    *header.as_bytes()
}

/// The package is refused, for a reason that has these words in it, and the store is as before.
fn refused(package: &[u8], words: &str) -> PackageError {
    let (folder, store) = store();
    let before = listing(folder.path());
    let error = store.install(package).expect_err(words);
    assert!(error.to_string().contains(words), "{words:?} is not in {error:?}: {error}");
    assert_eq!(listing(folder.path()), before, "{words}: a trace was left");
    assert!(!error.to_string().contains(|c: char| c.is_control() && c != '\n'), "{error:?}");
    error
}

#[test]
fn a_package_arrives_as_it_was_packed() {
    let module = module();
    let package = packed(module.path());
    let (folder, store) = store();
    let installed = store.install(&*package).unwrap();
    assert_eq!(installed.digest.to_string(), hex(&Sha256::digest(&package)), "the digest is what sha256sum says");
    assert_eq!(installed.manifest.name.as_str(), "spell");
    assert_eq!(installed.package_bytes, package.len() as u64);
    let tree = &installed.folder;
    assert_eq!(fs::read(tree.join("bin/spell")).unwrap(), b"\x7fELF and so on");
    for (path, mode) in
        [("", 0o755), ("bin", 0o755), ("bin/spell", 0o755), ("data/words.txt", 0o644), ("module.toml", 0o644)]
    {
        let metadata = fs::metadata(tree.join(path)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{path}");
        assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw(), "{path}");
    }
    store.verify(&installed.digest).unwrap();
    assert_eq!(store.list().unwrap(), BTreeSet::from([installed.digest]));

    let before = listing(folder.path());
    assert_eq!(store.install(&*package).unwrap().digest, installed.digest);
    assert_eq!(listing(folder.path()), before, "the same again changes nothing");

    let store = PackageStore::open(&folder.path().join("packages")).unwrap();
    assert_eq!(store.find(&installed.digest).unwrap().manifest, installed.manifest);
    assert!(store.remove(&installed.digest).unwrap() >= package.len() as u64);
    assert_eq!(store.remove(&installed.digest).unwrap(), 0);
    assert!(matches!(store.find(&installed.digest), Err(PackageError::Missing(_))));
    assert_eq!(listing(&folder.path().join("packages/sha256")), [""; 0]);
    assert_eq!(fs::read_dir(folder.path().join("packages")).unwrap().count(), 2, "incoming and sha256 alone are left");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

#[test]
fn tar_itself_can_read_a_package() {
    let module = module();
    let package = packed(module.path());
    let mut archive = tar::Archive::new(zstd::Decoder::new(&*package).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|it| it.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, ["module.toml", "bin/", "bin/spell", "data/", "data/more/", "data/more/empty", "data/words.txt"]);
}

#[test]
fn the_same_folder_always_gives_the_same_bytes() {
    let (one, other) = (module(), tempfile::tempdir().unwrap());
    // Made in another order, with other times, other modes that mean the same, and things that do not belong to it.
    put(other.path(), "data/words.txt", "one\ntwo\n");
    put(other.path(), "data/more/empty", "");
    put(other.path(), "bin/spell", "\x7fELF and so on");
    put(other.path(), "module.toml", MODULE);
    put(other.path(), ".git/config", "not packed");
    put(other.path(), "spell-1.0.0.mortise", "not packed");
    fs::set_permissions(other.path().join("bin/spell"), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(other.path().join("data/words.txt"), Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(other.path().join("data"), Permissions::from_mode(0o2775)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    fs::File::open(other.path().join("bin/spell")).unwrap().set_modified(old).unwrap();
    assert!(packed(one.path()) == packed(other.path()));
    fs::set_permissions(other.path().join("data/words.txt"), Permissions::from_mode(0o755)).unwrap();
    assert!(packed(one.path()) != packed(other.path()), "an executable file is another file");
}

#[test]
fn what_goes_in_is_what_module_toml_names() {
    let module = module();
    let names = |module: &Path| -> Vec<String> {
        let (_folder, store) = store();
        let tree = store.install(&*packed(module)).unwrap().folder;
        let mut names: Vec<String> =
            walk(&tree).iter().map(|it| it.strip_prefix(&tree).unwrap().display().to_string()).collect();
        names.sort();
        names
    };
    put(module.path(), "Cargo.toml", "[package]");
    put(module.path(), "target/debug/spell", "a build result");
    assert_eq!(
        names(module.path()),
        ["bin/spell", "data/words.txt", "module.toml"],
        "a Cargo.toml: only what is named"
    );
    let with_files = format!("files = [\"data/more\", \"static/\"]\n{MODULE}");
    put(module.path(), "module.toml", &with_files);
    put(module.path(), "static/.well-known/x", "hidden, and named by its folder");
    assert_eq!(
        names(module.path()),
        ["bin/spell", "data/more/empty", "data/words.txt", "module.toml", "static/.well-known/x"]
    );
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries.flat_map(|it| if it.is_dir() { walk(&it) } else { vec![it] }).collect()
}

#[test]
fn packing_refuses_what_a_package_cannot_hold() {
    type Spoil = fn(&Path);
    let cases: &[(&str, Spoil)] = &[
        ("symbolic link", |at| symlink("/etc/passwd", at.join("data/link")).unwrap()),
        ("symbolic link", |at| symlink("data", at.join("folder")).unwrap()),
        ("symbolic link", |at| {
            fs::rename(at.join("bin"), at.join("real")).unwrap();
            symlink("real", at.join("bin")).unwrap();
        }),
        ("is no file", |at| {
            fs::remove_file(at.join("module.toml")).unwrap();
            symlink("data/words.txt", at.join("module.toml")).unwrap();
        }),
        ("FIFO", |at| nix::unistd::mkfifo(&at.join("data/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap()),
        ("socket", |at| drop(std::os::unix::net::UnixListener::bind(at.join("data/socket")).unwrap())),
        ("setuid", |at| fs::set_permissions(at.join("bin/spell"), Permissions::from_mode(0o4755)).unwrap()),
        ("setgid", |at| fs::set_permissions(at.join("bin/spell"), Permissions::from_mode(0o2755)).unwrap()),
        ("not executable", |at| fs::set_permissions(at.join("bin/spell"), Permissions::from_mode(0o644)).unwrap()),
        ("`exec` in module.toml", |at| fs::remove_file(at.join("bin/spell")).unwrap()),
        ("`[[resources]]`", |at| fs::remove_file(at.join("data/words.txt")).unwrap()),
        ("`files` in module.toml", |at| put(at, "module.toml", &format!("files = [\"absent\"]\n{MODULE}"))),
        ("control character", |at| put(at, "data/a\nb", "")),
        ("no place in the archive", |at| put(at, &format!("data/{}", "x".repeat(101)), "")),
        ("not UTF-8", |at| {
            use std::os::unix::ffi::OsStrExt as _;
            fs::write(at.join(std::ffi::OsStr::from_bytes(b"data/\xff")), "").unwrap();
        }),
        ("unknown key", |at| put(at, "module.toml", "nmae = \"x\"")),
    ];
    for (words, spoil) in cases {
        let module = module();
        spoil(module.path());
        let out = tempfile::tempdir().unwrap();
        fs::write(out.path().join("out.mortise"), "what was there before").unwrap();
        let error = pack(module.path(), &out.path().join("out.mortise")).expect_err(words);
        assert!(error.to_string().contains(words), "{words:?} is not in {error}");
        assert_eq!(fs::read(out.path().join("out.mortise")).unwrap(), b"what was there before");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "{words}: a trace was left");
    }
    let nowhere = pack(Path::new("/nowhere"), Path::new("/tmp/x.mortise")).unwrap_err();
    assert!(matches!(nowhere, PackageError::Disk { .. }));
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_packed_is_noticed() {
    let module = module();
    let tree = tree::Tree::open(module.path()).unwrap();
    let manifest = crate::manifest::Manifest::parse(MODULE, "module.toml").unwrap();
    let listing = collect::collect(&tree, &manifest).unwrap();
    let path = PackagePath::new("data/words.txt").unwrap();
    assert!(listing.contains_key(&path));
    for content in ["one", "one\ntwo\nthree\n"] {
        put(module.path(), "data/words.txt", content);
        let error = pack::unchanged(&tree, &path, listing[&path]).unwrap_err();
        assert!(error.to_string().contains("changed while"), "{error}");
    }
    fs::remove_file(module.path().join("data/words.txt")).unwrap();
    symlink("/etc/passwd", module.path().join("data/words.txt")).unwrap();
    let error = pack::unchanged(&tree, &path, listing[&path]).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[test]
fn a_package_cut_at_any_byte_or_altered_in_any_bit_is_refused() {
    let package = packed(module().path());
    let (folder, store) = store();
    let before = listing(folder.path());
    for length in 0..package.len() {
        let error = store.install(&package[..length]).expect_err("cut");
        assert!(matches!(error, PackageError::Broken(_)), "cut at {length}: {error}");
    }
    for at in 0..package.len() {
        for bit in 0..8 {
            let mut altered = package.clone();
            altered[at] ^= 1 << bit;
            let error = store.install(&*altered).expect_err("altered");
            assert!(matches!(error, PackageError::Broken(_)), "bit {bit} of byte {at}: {error}");
        }
    }
    let longer = [&package[..], b"\0"].concat();
    assert!(matches!(store.install(&*longer), Err(PackageError::Broken(_))));
    assert_eq!(listing(folder.path()), before, "a trace was left");
}

#[test]
fn a_sealed_package_whose_frame_is_cut_or_altered_is_refused() {
    // What the seal does not notice, since whoever altered it sealed it again.
    let package = packed(module().path());
    let frame = &package[..package.len() - seal::BYTES];
    let sealed = |frame: &[u8]| [frame, &seal::seal(Sha256::new().chain_update(frame))].concat();
    let (folder, store) = store();
    let before = listing(folder.path());
    for length in 0..frame.len() {
        store.install(&*sealed(&frame[..length])).expect_err("cut");
    }
    assert_eq!(listing(folder.path()), before, "a trace was left");
    let original = store.install(&*package).unwrap();
    for at in 0..frame.len() {
        let mut altered = frame.to_vec();
        altered[at] ^= 0x10;
        // A bit that zstd does not use changes the name and nothing else.
        if let Ok(same) = store.install(&*sealed(&altered)) {
            assert_eq!(walk(&same.folder).len(), walk(&original.folder).len());
            assert_ne!(same.digest, original.digest);
            store.verify(&same.digest).unwrap();
        }
    }
    for behind in [&b"x"[..], frame, &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]] {
        refused(&sealed(&[frame, behind].concat()), "");
    }
}

#[test]
fn paths_that_lead_out_are_refused() {
    for name in ["../x", "/etc/cron.d/x", "a/../../x", "./x", "a//b", "..", ".", "a/..", "\\x", "a\x1b[2J", ""] {
        let package = wrapped(&archive(&[raw(odd(b'0', name.as_bytes(), 0o644, 1, ""), b"x")]));
        refused(&package, "inside a package");
        let package = wrapped(&archive(&[raw(odd(b'5', name.as_bytes(), 0o755, 0, ""), b"")]));
        refused(&package, "inside a package");
    }
    refused(&wrapped(&archive(&[raw(odd(b'0', b"a\xff", 0o644, 1, ""), b"x")])), "not UTF-8");
}

#[test]
fn anything_but_files_and_folders_is_refused() {
    for (kind, words) in [
        (b'1', "hard link"),
        (b'2', "symbolic link"),
        (b'3', "device"),
        (b'4', "device"),
        (b'6', "FIFO"),
        (b'7', "kind that packages do not have"),
        (b'L', "kind that packages do not have"),
        (b'K', "kind that packages do not have"),
        (b'x', "kind that packages do not have"),
        (b'g', "kind that packages do not have"),
        (b'S', "kind that packages do not have"),
    ] {
        refused(&wrapped(&archive(&[raw(odd(kind, b"x", 0o644, 0, "/etc/shadow"), b"")])), words);
    }
    // A link first and then a file through it.
    let swap = [raw(odd(b'2', b"e", 0o777, 0, "/etc"), b""), file("e", Mode::Plain, b"x")];
    refused(&wrapped(&archive(&swap)), "symbolic link");
    // A hard link to a file of the host under a folder's name.
    refused(&wrapped(&archive(&[raw(odd(b'1', b"e/passwd", 0o644, 0, "/etc/passwd"), b"")])), "hard link");
}

#[test]
fn modes_owners_and_times_are_not_the_packages_to_choose() {
    for mode in [0o4755, 0o2755, 0o6777, 0o1777] {
        refused(&wrapped(&archive(&[raw(odd(b'0', b"x", mode, 0, ""), b"")])), "setuid");
    }
    for mode in [0o777, 0o666, 0o000, 0o755 | 0o20] {
        refused(&wrapped(&archive(&[raw(odd(b'0', b"x", mode, 0, ""), b"")])), "would not have written");
    }
    type Alter = fn(&mut tar::Header);
    let alterations: &[Alter] = &[
        |header| header.set_uid(1000),
        |header| header.set_gid(1000),
        |header| header.set_mtime(0),
        |header| header.set_username("root").unwrap(),
        |header| header.as_ustar_mut().unwrap().dev_major = *b"0000001\0",
        |header| header.as_old_mut().linkname[0] = b'x',
        |header| header.as_mut_bytes()[511] = 1,
        |header| header.as_ustar_mut().unwrap().magic = *b"ustar ",
    ];
    for alter in alterations {
        let mut header = tar::Header::from_byte_slice(&odd(b'0', b"x", 0o644, 0, "")).clone();
        alter(&mut header);
        header.set_cksum();
        refused(&wrapped(&archive(&[raw(*header.as_bytes(), b"")])), "x");
    }
    let mut header = odd(b'0', b"x", 0o644, 0, "");
    header[150] ^= 1;
    refused(&wrapped(&archive(&[raw(header, b"")])), "would not have written");
}

#[test]
fn names_twice_or_out_of_order_are_refused() {
    let twice = [file("x", Mode::Plain, b"1"), file("x", Mode::Plain, b"2")];
    refused(&wrapped(&archive(&twice)), "is there twice");
    refused(&wrapped(&archive(&[file("y", Mode::Plain, b""), file("x", Mode::Plain, b"")])), "out of order");
    refused(&wrapped(&archive(&[file("module.toml", Mode::Plain, MODULE.as_bytes())])), "is there twice");
    refused(&wrapped(&archive(&[file("x/y", Mode::Plain, b"")])), "folder that is not in the package");
    // A file where a folder would have to be.
    refused(&wrapped(&archive(&[file("x", Mode::Plain, b""), file("x/y", Mode::Plain, b"")])), "folder that is not");
    refused(&wrapped(&archive(&[file("x", Mode::Plain, b""), entry("x", Node::Folder, b"")])), "is there twice");
}

#[test]
fn module_toml_comes_first_and_holds() {
    refused(&wrapped(&[0; 2 * BLOCK]), "module.toml");
    refused(&wrapped(&[entry("module.toml", Node::Folder, b""), vec![0; 2 * BLOCK]].concat()), "module.toml");
    refused(&wrapped(&[file("a", Mode::Plain, b""), vec![0; 2 * BLOCK]].concat()), "must be module.toml");
    let report = refused(
        &wrapped(&[file("module.toml", Mode::Plain, b"\"\\u001b[2J\" = 1"), vec![0; 1024]].concat()),
        "unknown key",
    );
    assert!(matches!(report, PackageError::Manifest(_)));
    let large = file("module.toml", Mode::Plain, &vec![b'#'; 300 << 10]);
    refused(&wrapped(&[large, vec![0; 1024]].concat()), "too large");
    // What module.toml names is there, and what must be executable is.
    let head = file("module.toml", Mode::Plain, MODULE.as_bytes());
    let with = |entries: &[Vec<u8>]| wrapped(&[head.clone(), entries.concat(), vec![0; 1024]].concat());
    let (bin, data) = (entry("bin", Node::Folder, b""), entry("data", Node::Folder, b""));
    let words = file("data/words.txt", Mode::Plain, b"");
    let spell = file("bin/spell", Mode::Executable, b"");
    refused(&with(&[bin.clone(), data.clone(), words.clone()]), "`exec` in module.toml");
    refused(&with(&[bin.clone(), spell.clone()]), "`[[resources]]`");
    refused(&with(&[bin.clone(), file("bin/spell", Mode::Plain, b""), data.clone(), words.clone()]), "not executable");
    refused(&with(&[bin.clone(), entry("bin/spell", Node::Folder, b""), data.clone(), words.clone()]), "`exec`");
    let (_folder, store) = store();
    store.install(&*with(&[bin, spell, data, words])).unwrap();
}

#[test]
fn a_program_of_the_host_must_be_on_it() {
    let python = |path: &str| {
        let text = MODULE.replace("bin/spell", path);
        let tree = [
            file("module.toml", Mode::Plain, text.as_bytes()),
            entry("data", Node::Folder, b""),
            file("data/words.txt", Mode::Plain, b""),
        ];
        wrapped(&[tree.concat(), vec![0; 1024]].concat())
    };
    refused(&python("/usr/bin/no-such-program"), "not there on this host");
    refused(&python("/usr/bin"), "");
    let (_folder, store) = store();
    store.install(&*python("/usr/bin/env")).unwrap();
}

#[test]
fn archives_end_where_they_end() {
    let whole = archive(&[]);
    for (spoilt, words) in [
        ([&whole[..], &[0; BLOCK]].concat(), "behind its last file"),
        ([&whole[..], b"x"].concat(), "behind its last file"),
        (whole[..whole.len() - BLOCK].to_vec(), "cannot be unpacked"),
        (whole[..whole.len() - 2 * BLOCK].to_vec(), "cannot be unpacked"),
        (whole[..whole.len() - 3 * BLOCK].to_vec(), "middle of a file"),
        ([&whole[..whole.len() - BLOCK], &file("x", Mode::Plain, b"")].concat(), "behind its last file"),
        (Vec::new(), "cannot be unpacked"),
    ] {
        refused(&wrapped(&spoilt), words);
    }
    let mut between = whole;
    let padding = BLOCK + MODULE.len().next_multiple_of(BLOCK) - 1;
    between[padding] = 1;
    refused(&wrapped(&between), "between its files");
}

#[test]
fn bombs_do_not_go_off() {
    // Its header promises more than the package may unpack to: refused before a byte of it is written.
    let huge =
        header::encode(&PackagePath::new("huge").unwrap(), Node::File { mode: Mode::Plain, bytes: 3 << 30 }).unwrap();
    refused(&wrapped(&archive(&[huge.to_vec()])), "too large");
    // Real zeros: 100 MiB from some kilobytes.
    let zeros = vec![0; 100 << 20];
    let error = refused(&wrapped(&archive(&[file("zeros", Mode::Plain, &zeros)])), "too large");
    assert_eq!(ApiError::from(error).code, ErrorCode::TooLarge);
    // Endless zeros behind the end: never read.
    let mut behind = archive(&[]);
    behind.resize(behind.len() + (80 << 20), 0);
    refused(&wrapped(&behind), "behind its last file");
    // Very many entries.
    let many: Vec<Vec<u8>> = (0..=bounds::ENTRIES).map(|n| file(&format!("n{n:06}"), Mode::Plain, b"")).collect();
    refused(&wrapped(&archive(&many)), "files and folders");
    // Very deep.
    let deep = "d/".repeat(40) + "x";
    refused(&wrapped(&archive(&[raw(odd(b'0', deep.as_bytes(), 0o644, 0, ""), b"")])), "folders deep");
    // A window of 128 MiB: what unpacking it would need of memory.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(27).unwrap();
    io::copy(&mut &*archive(&[]), &mut wide).unwrap();
    let mut frame = wide.finish().unwrap();
    frame.extend(seal::seal(Sha256::new().chain_update(&frame)));
    refused(&frame, "cannot be unpacked");
    // A file of another kind, and one that never ends.
    refused(b"PK\x03\x04 and so on, for long enough to have a seal in it, which it has not", "another kind of file");
    let (folder, store) = store();
    let before = listing(folder.path());
    let error = store.install(io::repeat(0)).unwrap_err();
    assert!(matches!(error, PackageError::TooLarge { .. }), "{error}");
    assert_eq!(listing(folder.path()), before);
}

#[test]
fn a_sender_that_breaks_off_leaves_nothing() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                got => Ok(got),
            }
        }
    }
    let (folder, store) = store();
    let before = listing(folder.path());
    assert!(matches!(store.install(Broken(&packed(module().path()))), Err(PackageError::Arrival(_))));
    assert_eq!(listing(folder.path()), before);
}

#[test]
fn what_a_crash_leaves_is_swept_and_nothing_else() {
    let (folder, store) = store();
    let packages = folder.path().join("packages");
    let digest = store.install(&*packed(module().path())).unwrap().digest;
    drop(store);
    let before = listing(&packages);
    // While it arrived; while it was unpacked; between the two renames, of taking in and of removing.
    fs::create_dir(packages.join("incoming/abc")).unwrap();
    fs::write(packages.join("incoming/abc/package"), "half").unwrap();
    put(&packages, "incoming/def/tree/bin/spell", "half");
    symlink("/etc", packages.join("incoming/link")).unwrap();
    fs::write(packages.join(format!("{}.mortise", "ab".repeat(32))), "whole").unwrap();
    let store = PackageStore::open(&packages).unwrap();
    assert_eq!(listing(&packages), before);
    assert!(Path::new("/etc/passwd").exists());
    store.verify(&digest).unwrap();
    assert_eq!(store.retain(&BTreeSet::from([digest])).unwrap(), []);
    assert_eq!(store.retain(&BTreeSet::new()).unwrap(), [digest]);
    assert_eq!(store.list().unwrap(), BTreeSet::new());
}

#[test]
fn damage_on_disk_is_found() {
    type Damage = fn(&Path, &Path);
    let damages: &[(&str, Damage)] = &[
        ("another content", |tree, _| fs::write(tree.join("bin/spell"), "\x7fELF and so ON").unwrap()),
        ("bytes instead of", |tree, _| fs::write(tree.join("bin/spell"), "short").unwrap()),
        ("has the mode", |tree, _| fs::set_permissions(tree.join("data"), Permissions::from_mode(0o777)).unwrap()),
        ("cannot be read", |tree, _| fs::remove_file(tree.join("data/words.txt")).unwrap()),
        ("instead of", |tree, _| fs::write(tree.join("data/new"), "").unwrap()),
        ("is no file", |tree, _| {
            fs::remove_file(tree.join("data/words.txt")).unwrap();
            nix::unistd::mkfifo(&tree.join("data/words.txt"), nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
            fs::set_permissions(tree.join("data/words.txt"), Permissions::from_mode(0o644)).unwrap();
            assert!(fs::metadata(tree.join("data/words.txt")).unwrap().file_type().is_fifo());
        }),
        ("module.toml", |tree, _| fs::remove_file(tree.join("module.toml")).unwrap()),
        ("altered", |_, file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[100] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("package file", |_, file| fs::remove_file(file).unwrap()),
    ];
    for (words, damage) in damages {
        let (folder, store) = store();
        let installed = store.install(&*packed(module().path())).unwrap();
        damage(&installed.folder, &folder.path().join(format!("packages/{}.mortise", installed.digest)));
        let error = store.verify(&installed.digest).expect_err(words);
        assert!(matches!(error, PackageError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(words), "{words:?} is not in {error}");
    }
}

#[test]
fn many_at_once_make_one() {
    let package = packed(module().path());
    let (folder, store) = store();
    let digests: BTreeSet<Digest> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.install(&*package).unwrap().digest)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(store.list().unwrap(), digests);
    store.verify(digests.first().unwrap()).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("packages/incoming")).unwrap().count(), 0);
}
