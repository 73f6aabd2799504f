//! Mounts, made by the system calls that take attributes together with the mount: a bind is never visible with more rights than it
//! is meant to have, and flags that a user namespace has locked stay as they are.
#![allow(unsafe_code, reason = "open_tree, mount_setattr and move_mount, which nix does not have")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mortise_control::plan::Access;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_NOEXEC: u64 = 0x8;

/// `struct mount_attr`
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const NONE: Option<&str> = None;

pub(crate) fn make_private() -> io::Result<()> {
    Ok(mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?)
}

pub(crate) fn root(over: &Path, bytes: u64) -> io::Result<()> {
    let options = format!("size={bytes},mode=0755");
    Ok(mount(
        Some("mortise-root"),
        over,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )?)
}

pub(crate) fn tmpfs(at: &Path, bytes: u64, inodes: u64) -> io::Result<()> {
    // A size of 0 would be no limit.
    let options = format!("size={},nr_inodes={inodes},mode=1777", bytes.max(4096));
    Ok(mount(Some("tmp"), at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?)
}

pub(crate) fn proc(at: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("proc"), at, Some("proc"), flags, NONE)?)
}

pub(crate) fn bind(from: &Path, at: &Path, access: Access) -> io::Result<()> {
    let more = match access {
        Access::ReadExecute => MOUNT_ATTR_NODEV,
        Access::Read => MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        Access::Device => MOUNT_ATTR_NOEXEC,
    };
    let tree = open_tree(from)?;
    set_attributes(
        tree.as_raw_fd(),
        c"",
        libc::AT_EMPTY_PATH as libc::c_uint | AT_RECURSIVE,
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | more,
    )?;
    let at = CString::new(at.as_os_str().as_bytes())?;
    // SAFETY: two NUL-terminated strings that outlive the call; the rest are numbers.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(moved)?;
    Ok(())
}

/// Makes `root` the root, read-only, and lets go of the old one.
pub(crate) fn enter(root: &Path) -> io::Result<()> {
    chdir(root)?;
    // The old root comes to lie over the new one, and is what `.` then names.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    set_attributes(libc::AT_FDCWD, c"/", 0, MOUNT_ATTR_RDONLY)
}

/// A copy of the mount at `from` and of those below it, attached nowhere.
fn open_tree(from: &Path) -> io::Result<OwnedFd> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | AT_RECURSIVE;
    // SAFETY: a NUL-terminated string that outlives the call; the rest are numbers.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags) };
    let tree = i32::try_from(Errno::result(tree)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: made by the kernel just now, and known to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(tree) })
}

fn set_attributes(folder: i32, path: &std::ffi::CStr, flags: libc::c_uint, set: u64) -> io::Result<()> {
    let attributes = Attributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: a NUL-terminated string and a struct of the size that is passed with it, both outliving the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    Errno::result(done)?;
    Ok(())
}
