//! Folders and disks.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

use super::Places;
use crate::doctor::{Area, Check, Verdict};

/// Less free space than this stops installs soon.
const SPACE_MIN: u64 = 256 << 20;

/// Less is worth a word.
const SPACE_WANTED: u64 = 2 << 30;

/// Fewer free files than this stop installs soon.
const FILES_MIN: u64 = 10_000;

/// The longest path that a Unix socket can have (sun_path without its NUL).
const SOCKET_PATH_MAX: usize = 107;

/// The longest that is made below the run directory: `workers/SLOT.GEN/control.sock` with two ten-digit numbers.
const SOCKET_BELOW_RUN: usize = "/workers/4294967295.4294967295/control.sock".len();

pub(super) fn checks(places: &Places) -> Vec<Check> {
    let mut checks = vec![socket_paths(&places.run)];
    checks.extend(folder(
        "state-dir",
        &places.state,
        "desired state and packages; a 2xx means that it is on this disk",
    ));
    checks.extend(folder("run-dir", &places.run, "sockets and pipes of workers"));
    checks.extend(state_file_system(&places.state));
    checks.push(store(&places.state));
    checks
}

/// What will be used if `path` does not exist yet.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|it| it.exists()).unwrap_or_else(|| Path::new("/")).to_owned()
}

fn folder(name: &str, path: &Path, matters: &str) -> Vec<Check> {
    let there = existing(path);
    let shown = path.display();
    let found =
        if there == path { shown.to_string() } else { format!("{shown} (will be made in {})", there.display()) };
    let check = Check::good(Area::Disk, name, found, matters);
    if !there.is_dir() {
        return vec![check.but(Verdict::Bad, format!("{} is not a folder: move it away.", there.display()))];
    }
    vec![match access(&there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => check,
        Err(Errno::EROFS) => {
            check.but(Verdict::Bad, "The file system is read-only: mount it writable, or choose another folder.")
        }
        Err(error) => check
            .but(Verdict::Bad, format!("Not writable for this user ({error}): run as root, or choose another folder.")),
    }]
}

fn store(state: &Path) -> Check {
    let kept = crate::store::kept_aside(&state.join(crate::daemon::STORE));
    let check = |found: String| Check::good(Area::Disk, "store", found, "desired state and operations");
    let Some(newest) = kept.last() else { return check("no damaged one was found".into()) };
    check(format!("{} damaged and kept aside, the newest as {}", kept.len(), newest.display())).but(
        Verdict::Weak,
        "Another was made in its place: compare `mortise status` with what shall run, look at the disk (`dmesg`, `smartctl`), \
         and move the damaged file away.",
    )
}

fn socket_paths(run: &Path) -> Check {
    let longest = run.as_os_str().as_bytes().len() + SOCKET_BELOW_RUN;
    let check = Check::good(
        Area::Disk,
        "socket-paths",
        format!("up to {longest} bytes below {}", run.display()),
        "every worker's control socket",
    );
    if longest <= SOCKET_PATH_MAX {
        check
    } else {
        check.but(
            Verdict::Bad,
            format!("Choose a run directory of at most {} bytes.", SOCKET_PATH_MAX - SOCKET_BELOW_RUN),
        )
    }
}

fn state_file_system(state: &Path) -> Vec<Check> {
    let there = existing(state);
    let (kind, volume) = match (statfs(&there), statvfs(&there)) {
        (Ok(kind), Ok(volume)) => (kind.filesystem_type(), volume),
        (Err(error), _) | (_, Err(error)) => {
            let found = format!("{}: {error}", there.display());
            return vec![
                Check::good(Area::Disk, "state-disk", found, "installs").but(Verdict::Unknown, "Look at the disk."),
            ];
        }
    };
    let free = volume.blocks_available().saturating_mul(volume.fragment_size());
    let executable = !volume.flags().contains(FsFlags::ST_NOEXEC);
    vec![durability(kind), space(free), files(volume.files(), volume.files_available()), execution(executable)]
}

fn durability(kind: FsType) -> Check {
    let matters = "desired state survives a power failure";
    let check = |found: &str| Check::good(Area::Disk, "state-file-system", found, matters);
    if kind == TMPFS_MAGIC {
        check("tmpfs").but(Verdict::Weak, "Everything is forgotten when the host restarts: choose a folder on a disk.")
    } else if kind == NFS_SUPER_MAGIC {
        check("nfs").but(
            Verdict::Bad,
            "Locks and fsync of a network file system are not enough: choose a folder on a local disk.",
        )
    } else {
        check("a local file system")
    }
}

fn space(free: u64) -> Check {
    let found = format!("{} MiB free", free >> 20);
    let check = Check::good(Area::Disk, "state-space", found, "installs and the journal of operations");
    if free < SPACE_MIN {
        check.but(Verdict::Bad, "Make room: uninstall versions that nobody needs, or grow the disk.")
    } else if free < SPACE_WANTED {
        check.but(Verdict::Weak, "Make room before it gets scarce.")
    } else {
        check
    }
}

fn files(total: u64, free: u64) -> Check {
    let check = |found: String| Check::good(Area::Disk, "state-inodes", found, "unpacking packages");
    // btrfs and others make inodes as they go and say 0.
    if total == 0 {
        return check("no fixed number".into());
    }
    let check = check(format!("{free} free"));
    if free < FILES_MIN {
        check.but(Verdict::Bad, "Remove files: the file system is out of inodes soon.")
    } else {
        check
    }
}

fn execution(allowed: bool) -> Check {
    let matters = "workers run from the unpacked packages there";
    if allowed {
        Check::good(Area::Disk, "state-exec", "programs may run from there", matters)
    } else {
        Check::good(Area::Disk, "state-exec", "mounted noexec", matters)
            .but(Verdict::Bad, "Mount it without noexec, or choose another state directory.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_that_is_too_deep_is_found_before_a_worker_fails() {
        assert_eq!(socket_paths(Path::new("/run/mortise")).verdict, Verdict::Good);
        let deep = PathBuf::from(format!("/{}", "d".repeat(SOCKET_PATH_MAX - SOCKET_BELOW_RUN)));
        let check = socket_paths(&deep);
        assert_eq!(check.verdict, Verdict::Bad);
        assert!(check.remedy.unwrap().contains("64 bytes"));
    }

    #[test]
    fn scarce_disks_are_named() {
        assert_eq!(space(1 << 20).verdict, Verdict::Bad);
        assert_eq!(space(1 << 30).verdict, Verdict::Weak);
        assert_eq!(space(1 << 40).verdict, Verdict::Good);
        assert_eq!(files(1 << 20, 3).verdict, Verdict::Bad);
        assert_eq!(files(0, 0).verdict, Verdict::Good);
        assert_eq!(execution(false).verdict, Verdict::Bad);
        assert_eq!(durability(TMPFS_MAGIC).verdict, Verdict::Weak);
    }

    #[test]
    fn a_folder_that_is_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(folder("state-dir", &file.join("below"), "").pop().unwrap().verdict, Verdict::Bad);
        assert_eq!(folder("state-dir", &dir.path().join("new/one"), "").pop().unwrap().verdict, Verdict::Good);
    }
}
