//! A listening socket of an earlier supervisor, fetched from the process that still has it.
#![allow(unsafe_code, reason = "pidfd_open, pidfd_getfd and SO_COOKIE are not in nix")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// The number that the kernel gives to one socket and, until the next boot, to no other. A peer can show any socket; it cannot
/// show one with this number unless it is the very one that was handed to it.
pub(super) fn cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `len` are ours and live until the call returns; the kernel writes at most `len` bytes, and `len` says
    // how many there are.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    Errno::result(asked)?;
    Ok(cookie)
}

/// The socket with this inode and cookie, if the process has it.
///
/// It does not matter that the process may lie or have become another one meanwhile: the cookie says whether this is the socket.
pub(super) fn from_process(pid: u32, inode: u64, wanted: u64) -> Option<OwnedFd> {
    let name = format!("socket:[{inode}]");
    let number = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().find_map(|entry| {
        let is_it = fs::read_link(entry.path()).is_ok_and(|it| it.as_os_str() == name.as_str());
        is_it.then(|| entry.file_name().to_str()?.parse::<i32>().ok()).flatten()
    })?;
    let process = pidfd_open(pid).ok()?;
    let socket = pidfd_getfd(process.as_fd(), number)
        .inspect_err(|error| tracing::warn!(pid, %error, "a listening socket cannot be fetched from the base"))
        .ok()?;
    cookie(&socket).is_ok_and(|found| found == wanted).then_some(socket)
}

/// Another descriptor, closed by an exec, for what this process has under a number already, as somebody who started it has said.
pub(super) fn own_descriptor(number: i32) -> io::Result<OwnedFd> {
    pidfd_getfd(pidfd_open(std::process::id())?.as_fd(), number)
}

/// Lets an exec close every descriptor of this process but the first three.
pub(super) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: numbers only. Nothing is closed: the flag of descriptors that others own is set, which all of ours have but those that
    // are meant for a child, and these are made where nobody can run in between.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

fn pidfd_getfd(process: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes three numbers and touches no memory of ours.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// The owner of a descriptor that a system call has just returned.
fn own(returned: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(Errno::result(returned)?).map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: both callers pass what the kernel has just returned to them, a descriptor made for this call (close-on-exec) whose
    // number nothing else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
