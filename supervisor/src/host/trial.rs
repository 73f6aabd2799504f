//! Trying what a kernel lets this process do, in a child that is thrown away.
#![allow(unsafe_code, reason = "a fork of a process with threads, and system calls that nix does not have")]

use std::io::Write;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Runs `attempt` in a child. It may only make system calls: this process has threads, and one of them may hold any lock.
fn in_child(attempt: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    // SAFETY: the child calls `attempt`, which by this function's contract (it is private, and all callers are below) allocates nothing
    // and takes no lock, and then `_exit`, which runs nothing of ours.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let code = attempt().err().map_or(0, |errno| (errno as i32).clamp(1, 254));
            // SAFETY: as above.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, code)) => return Err(Errno::from_raw(code)),
                Ok(WaitStatus::Signaled(..)) => return Err(Errno::EINTR),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        },
    }
}

/// How this process would come to make namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As root.
    Direct,
    /// As root of a user namespace that anybody may make.
    InUserNamespace,
}

/// Whether a namespace can be made.
pub(super) fn namespace(way: Way, flag: CloneFlags) -> Result<(), Errno> {
    in_child(|| {
        if way == Way::InUserNamespace {
            unshare(CloneFlags::CLONE_NEWUSER)?;
        }
        unshare(flag)
    })
}

/// Whether a view of its own can be mounted in a mount namespace and a pid namespace: without root a host may refuse a new /proc
/// where parts of its own are covered.
pub(super) fn mounts(way: Way) -> Result<(), Errno> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    // Written down before the fork, which may not allocate.
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
    ];
    in_child(|| {
        if way == Way::InUserNamespace {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            for (path, content) in &maps {
                let file = nix::fcntl::open(*path, nix::fcntl::OFlag::O_WRONLY, nix::sys::stat::Mode::empty())?;
                std::fs::File::from(file).write_all(content.as_bytes()).map_err(|_| Errno::EPERM)?;
            }
        }
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
        in_child(|| {
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("proc"), "/proc", Some("proc"), flags, none)?;
            // With a null attribute the call fails in any case: EFAULT or EINVAL where it exists, ENOSYS before Linux 5.12.
            // SAFETY: a NUL-terminated path; the null pointer is never read for a size of 0.
            let called =
                unsafe { libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, c"/".as_ptr(), 0, 0_usize, 0_usize) };
            if called < 0 && Errno::last() == Errno::ENOSYS { Err(Errno::ENOSYS) } else { Ok(()) }
        })
    })
}

/// Whether the kernel takes seccomp filters that can kill a process.
pub(super) fn seccomp() -> Result<(), Errno> {
    const GET_ACTION_AVAIL: libc::c_uint = 2;
    let action: u32 = 0x8000_0000;
    // SAFETY: reads one word, which outlives the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) })?;
    Ok(())
}

/// The version of landlock.
pub(super) fn landlock() -> Result<i64, Errno> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the pointer must be null and the size 0.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0_usize, 0_usize, VERSION) })
}
