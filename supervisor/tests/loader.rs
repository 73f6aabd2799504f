//! The loader against the real kernel: this program is started again as `loader`, as mortised does it.

use std::ffi::CString;
use std::fs;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mortise_supervisor::cgroup::{Group, Groups, Layout, Limits};
use mortise_supervisor::manifest::PackagePath;
use mortise_supervisor::resource::{LoadOrder, LoadedResource, join_files, load, loader};
use sha2::{Digest as _, Sha256};

const CASES: &[(&str, fn())] = &[
    ("every_byte_arrives_and_the_sum_is_right", every_byte_arrives_and_the_sum_is_right),
    ("nothing_changes_a_loaded_resource", nothing_changes_a_loaded_resource),
    ("only_files_of_the_package_are_loaded", only_files_of_the_package_are_loaded),
    ("a_loader_that_is_too_slow_is_killed", a_loader_that_is_too_slow_is_killed),
    ("a_group_that_cannot_be_joined_is_an_error", a_group_that_cannot_be_joined_is_an_error),
    ("the_group_of_the_resource_pays_for_it", the_group_of_the_resource_pays_for_it),
    ("a_resource_larger_than_its_group_is_an_error", a_resource_larger_than_its_group_is_an_error),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_ref().is_some_and(|it| it == loader::WORD) {
        return loader::main(arguments);
    }
    let filter = first.and_then(|it| it.into_string().ok()).filter(|it| !it.starts_with('-')).unwrap_or_default();
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(&filter)) {
        print!("test {name} ... ");
        let _ = io::stdout().flush();
        case();
        println!("ok");
    }
    ExitCode::SUCCESS
}

fn run(order: LoadOrder) -> Result<LoadedResource, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(load(order)).map_err(|error| error.to_string())
}

fn order(package: &Path) -> LoadOrder {
    LoadOrder {
        package: package.to_owned(),
        file: PackagePath::new("data/words").unwrap(),
        join: Vec::new(),
        within: Duration::from_secs(60),
    }
}

fn package(content: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/words"), content).unwrap();
    folder
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn every_byte_arrives_and_the_sum_is_right() {
    for bytes in [0, 1, 4096, 4097, (3 << 20) + 7] {
        let content = noise(bytes);
        let package = package(&content);
        let loaded = run(order(package.path())).unwrap();
        assert_eq!(loaded.len, bytes as u64);
        let sum: String = Sha256::digest(&content).iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(loaded.sha256, sum);
        let mut found = vec![0; bytes];
        fs::File::from(loaded.memfd).read_exact_at(&mut found, 0).unwrap();
        assert!(found == content, "{bytes} bytes");
    }
}

fn nothing_changes_a_loaded_resource() {
    let package = package(b"words");
    let loaded = run(order(package.path())).unwrap();
    // The file may change; what was loaded does not.
    fs::write(package.path().join("data/words"), "other").unwrap();
    let mut file = fs::File::from(loaded.memfd.try_clone().unwrap());
    file.seek(SeekFrom::Start(0)).unwrap();
    let refused = |result: io::Result<()>, what: &str| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{what}: {error}");
    };
    refused(file.write_all(b"x"), "writing");
    refused(file.set_len(1), "shrinking");
    refused(file.set_len(100), "growing");
    // Another descriptor of the same memory, as root: the strongest that anybody could have.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    if let Ok(again) = fs::File::options().write(true).open(path) {
        refused((&again).write_all(b"x"), "writing through /proc");
    }
    let seals = nix::fcntl::fcntl(file.as_fd(), nix::fcntl::FcntlArg::F_ADD_SEALS(nix::fcntl::SealFlag::empty()));
    assert_eq!(seals, Err(nix::errno::Errno::EPERM), "no seal can be added any more");
    let mut content = [0; 5];
    file.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(&content, b"words");
}

fn only_files_of_the_package_are_loaded() {
    type Spoil = fn(&Path);
    let cases: &[(&str, Spoil)] = &[
        ("No such file", |at| fs::remove_file(at.join("data/words")).unwrap()),
        ("symbolic links", |at| {
            fs::remove_file(at.join("data/words")).unwrap();
            symlink("/etc/shadow", at.join("data/words")).unwrap();
        }),
        ("symbolic links", |at| {
            fs::rename(at.join("data"), at.join("other")).unwrap();
            symlink("other", at.join("data")).unwrap();
        }),
        ("no file", |at| {
            fs::remove_file(at.join("data/words")).unwrap();
            fs::create_dir(at.join("data/words")).unwrap();
        }),
        ("no file", |at| {
            fs::remove_file(at.join("data/words")).unwrap();
            let path = CString::new(at.join("data/words").to_str().unwrap()).unwrap();
            nix::unistd::mkfifo(path.as_c_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
    ];
    for (words, spoil) in cases {
        let package = package(b"words");
        spoil(package.path());
        let error = run(order(package.path())).expect_err(words);
        assert!(error.contains("data/words") && error.contains(words), "{words:?} is not in {error}");
    }
}

fn a_loader_that_is_too_slow_is_killed() {
    let package = package(&noise(8 << 20));
    let error = run(LoadOrder { within: Duration::ZERO, ..order(package.path()) }).unwrap_err();
    assert!(error.contains("longer than 0ns"), "{error}");
}

fn a_group_that_cannot_be_joined_is_an_error() {
    let package = package(b"words");
    let join = vec![PathBuf::from("/sys/fs/cgroup/no-such-group/tasks")];
    let error = run(LoadOrder { join, ..order(package.path()) }).unwrap_err();
    assert!(error.contains("cannot be joined by /sys/fs/cgroup/no-such-group/tasks"), "{error}");
}

/// A group of this test's own, removed with its parent whatever happens.
struct Scratch {
    groups: Groups,
    group: Group,
    _state: tempfile::TempDir,
}

impl Scratch {
    fn new(memory_bytes: u64) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            print!("(skipped: needs root) ");
            return None;
        }
        let state = tempfile::tempdir().unwrap();
        let groups = Groups::open(Layout::detect().unwrap(), state.path()).unwrap();
        let limits = Limits { memory_bytes: Some(memory_bytes), swap_bytes: Some(0), ..Limits::default() };
        let group = groups.create("r-words", &limits).unwrap();
        Some(Self { groups, group, _state: state })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = self.group.remove(Duration::from_secs(5)).is_ok() && self.groups.close().is_ok();
        if !removed {
            eprintln!("the group {} is left", self.group.name());
        }
    }
}

fn the_group_of_the_resource_pays_for_it() {
    let Some(scratch) = Scratch::new(64 << 20) else { return };
    let bytes = 16 << 20;
    let package = package(&noise(bytes));
    let loaded = run(LoadOrder { join: join_files(&scratch.group), ..order(package.path()) }).unwrap();
    let charged = || scratch.group.figures().memory_bytes;
    let Some(held) = charged() else {
        print!("(skipped: no memory controller) ");
        return;
    };
    assert!(held >= bytes as u64, "{held} bytes are charged to the group of a resource of {bytes}");
    assert_eq!(scratch.group.figures().pids.unwrap_or(0), 0, "the loader is gone");
    drop(loaded);
    // What is left is the loader's reading of the file, which the kernel takes back when somebody needs it.
    let after = charged().unwrap();
    assert!(
        after <= held - bytes as u64 + (1 << 20),
        "{after} bytes are charged after the resource went, {held} before"
    );
}

fn a_resource_larger_than_its_group_is_an_error() {
    let Some(scratch) = Scratch::new(8 << 20) else { return };
    if scratch.group.figures().memory_bytes.is_none() {
        print!("(skipped: no memory controller) ");
        return;
    }
    let package = package(&noise(32 << 20));
    let error = run(LoadOrder { join: join_files(&scratch.group), ..order(package.path()) }).unwrap_err();
    assert!(error.contains("may not fit into the memory of its group"), "{error}");
}
