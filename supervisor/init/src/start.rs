//! Descriptors that were inherited by number, and the fork of the program.
#![allow(unsafe_code, reason = "numbers that become descriptors, and a fork")]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use mortise_control::plan::Program;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, chdir, execve, fork, getpid, pipe2};

/// Takes a descriptor that the supervisor has put at this number, and closes it in whatever is executed.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: only asked whether it is open, before anything owns it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and init takes each number of the plan, the status pipe and the boot record once: nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The number at which a program finds its listener (`SD_LISTEN_FDS_START`).
const LISTEN_FD: RawFd = 3;

/// Starts the program as a child, with the listener as descriptor 3 if there is one, and nothing else beside 0, 1 and 2.
pub(crate) fn program(program: &Program, listener: Option<BorrowedFd<'_>>) -> io::Result<Pid> {
    let text = |it: &String| CString::new(it.as_str());
    let path = CString::new(program.path.as_os_str().as_bytes())?;
    let arguments = program.arguments.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let mut environment = program.environment.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let (failed, failing) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: init has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(failing);
            // It closes when the program runs.
            let mut errno = [0; 4];
            match File::from(failed).read(&mut errno)? {
                4 => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
                _ => Ok(child),
            }
        }
        ForkResult::Child => {
            environment.extend(listener.and_then(|_| CString::new(format!("LISTEN_PID={}", getpid())).ok()));
            let errno =
                match chdir(&program.folder).and_then(|()| become_program(&path, &arguments, &environment, listener)) {
                    Ok(never) => match never {},
                    Err(errno) => errno as i32,
                };
            let _ = File::from(failing).write_all(&errno.to_ne_bytes());
            // SAFETY: ends the child without running what the parent has registered for its own end.
            unsafe { nix::libc::_exit(127) }
        }
    }
}

/// Every descriptor of init closes on exec, but the listener.
fn become_program(
    path: &CString,
    arguments: &[CString],
    environment: &[CString],
    listener: Option<BorrowedFd<'_>>,
) -> Result<std::convert::Infallible, Errno> {
    if let Some(listener) = listener {
        if listener.as_raw_fd() == LISTEN_FD {
            fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
        } else {
            // SAFETY: whatever has this number is the child's copy, which is of no use to it.
            Errno::result(unsafe { nix::libc::dup2(listener.as_raw_fd(), LISTEN_FD) })?;
        }
    }
    // SAFETY: the default action runs no code of ours. Rust ignores SIGPIPE, and an ignored signal stays ignored through an exec.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    execve(path, arguments, environment)
}

/// Connections that a TCP listener holds and nobody has accepted.
pub(crate) fn waiting_connections(listener: &std::net::TcpListener) -> Option<u32> {
    // SAFETY: all zero is a valid value of every field.
    let mut info: nix::libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<nix::libc::tcp_info>() as nix::libc::socklen_t;
    let (level, option) = (nix::libc::IPPROTO_TCP, nix::libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`, and both outlive the call.
    let asked =
        unsafe { nix::libc::getsockopt(listener.as_raw_fd(), level, option, (&raw mut info).cast(), &raw mut length) };
    // Of a listener this field is the length of its queue.
    (asked == 0).then_some(info.tcpi_unacked)
}
