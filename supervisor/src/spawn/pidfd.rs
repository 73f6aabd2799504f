//! Processes by descriptor: a pidfd names one process for ever, a number only until it is used again.
#![allow(unsafe_code, reason = "pidfd system calls that nix does not have, and the descriptor they return")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The pidfd of a process (a thread group's leader).
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and touches no memory of ours.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec), and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal. `ESRCH`: it has ended and was collected.
pub(crate) fn signal(process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    send(process, signal as i32)
}

/// Whether it has not been collected yet.
pub(crate) fn is_there(process: BorrowedFd<'_>) -> bool {
    send(process, 0).is_ok()
}

fn send(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<nix::libc::siginfo_t>();
    // SAFETY: a null siginfo is what the call takes for "as kill(2) would fill it in"; the rest are numbers.
    let sent = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, none, 0) };
    Errno::result(sent)?;
    Ok(())
}

/// Gives a descriptor that fcntl(F_DUPFD_CLOEXEC) has just returned its owner.
pub(super) fn own(number: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: the only caller passes the number that the kernel has just made for it and passes it nowhere else.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// In the tokio reactor of the caller, to wait for its end.
pub(super) fn in_reactor(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open description from here until the `AsyncFd` that owns it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}

/// `struct pidfd_info`, as far as every kernel that has it fills it in.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// _IOWR(0xff, 11, struct pidfd_info), whose first published size is 64 bytes.
const GET_INFO: nix::libc::c_ulong = 0xc040_ff0b;
/// PIDFD_INFO_EXIT
const WITH_EXIT: u64 = 1 << 3;

const _: () = assert!(size_of::<Info>() == 64);

/// The wait status of a process that has ended and was collected by somebody else: Linux 6.15 and later remember it as long as
/// there is a pidfd. None: not remembered, or not collected yet.
pub(crate) fn exit_code(process: BorrowedFd<'_>) -> Option<i32> {
    let mut info = Info { mask: WITH_EXIT, ..Info::default() };
    // SAFETY: the request's number says that 64 bytes are read and written, which is the size of `Info` (asserted above).
    let asked = unsafe { nix::libc::ioctl(process.as_raw_fd(), GET_INFO, &raw mut info) };
    (asked == 0 && info.mask & WITH_EXIT != 0).then_some(info.exit_code)
}
