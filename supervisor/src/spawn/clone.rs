//! One clone3 and what the child does before it becomes `mortise-init`.
//!
//! The child shares this process's memory until its exec (`CLONE_VM | CLONE_VFORK`), so nothing is copied, however large the
//! supervisor is: 0.74 of a posix_spawn where a fork of 100 MiB costs twenty. The price is that the child may make system calls and
//! touch its own stack and [`Shared`], and nothing else: no allocation, no lock, no formatting, no panic.
#![allow(unsafe_code, reason = "clone3 onto a stack of its own; raw system calls in the child")]

use std::ffi::{CString, c_char, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// Everything the child needs, made before it exists.
pub(super) struct Order<'a> {
    /// Namespaces, `CLONE_NEW…`.
    pub namespaces: u64,
    /// The v2 group to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The `tasks` files of v1 groups to join, open for writing.
    pub tasks: &'a [OwnedFd],
    /// The child's descriptors: number i becomes descriptor i. Each is at least as large as the length of this list.
    pub descriptors: &'a [RawFd],
    /// With `CLONE_NEWUSER`: what to write to gid_map and uid_map.
    pub user_map: Option<&'a [Vec<u8>; 2]>,
    /// What to become.
    pub path: &'a CString,
    /// Its arguments.
    pub arguments: &'a [CString],
}

/// A child that has become `mortise-init`.
#[derive(Debug)]
pub(super) struct Child {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub what: Stage,
    pub errno: Errno,
}

/// Where the child failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Stage {
    Clone,
    Groups,
    UserMap,
    Descriptors,
    Exec,
}

impl Stage {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clone => "clone3",
            Self::Groups => "join the groups",
            Self::UserMap => "map the user",
            Self::Descriptors => "place the descriptors",
            Self::Exec => "execute mortise-init",
        }
    }
}

const CLONE_VM: u64 = 0x100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The stack of a child until its exec: raw system calls need some hundred bytes; a page below it is a guard.
pub(super) struct Stack {
    base: usize,
}

const STACK_BYTES: usize = 64 * 1024;
const GUARD_BYTES: usize = 64 * 1024;

impl Stack {
    pub fn new() -> Result<Self, Errno> {
        let length = STACK_BYTES + GUARD_BYTES;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Self { base: base.expose_provenance() };
        // SAFETY: the first GUARD_BYTES of the mapping made above; nobody has a pointer into it yet.
        Errno::result(unsafe { libc::mprotect(base, GUARD_BYTES, libc::PROT_NONE) })?;
        Ok(stack)
    }

    fn lowest(&self) -> u64 {
        (self.base + GUARD_BYTES) as u64
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`. A child that ran on it has exec'd or ended: clone3 with CLONE_VFORK returned only then.
        unsafe { libc::munmap(ptr::with_exposed_provenance_mut(self.base), STACK_BYTES + GUARD_BYTES) };
    }
}

/// What parent and child both see until the child execs. The parent is suspended all that time.
struct Shared<'a> {
    order: &'a Order<'a>,
    argv: *const *const c_char,
    envp: *const *const c_char,
    failed: Option<Failed>,
}

/// Makes the child. The caller's thread must outlive it only until this returns; no death signal is set.
///
/// All signals are blocked in the child until just before its exec, so that no handler of ours runs in it.
pub(super) fn clone(order: &Order<'_>, stack: &mut Stack) -> Result<Child, Failed> {
    let argv: Vec<*const c_char> = order.arguments.iter().map(|it| it.as_ptr()).chain([ptr::null()]).collect();
    let envp: [*const c_char; 1] = [ptr::null()];
    let mut shared = Shared { order, argv: argv.as_ptr(), envp: envp.as_ptr(), failed: None };
    let mut pidfd: RawFd = -1;
    let into_cgroup = if order.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let args = libc::clone_args {
        flags: CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | into_cgroup | order.namespaces,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.lowest(),
        stack_size: STACK_BYTES as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: order.cgroup.map_or(0, |it| it.as_raw_fd() as u64),
    };
    let mut before = SigSet::empty();
    let failed = |errno| Failed { what: Stage::Clone, errno };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before)).map_err(failed)?;
    // SAFETY: `args` names a stack that is ours alone (`&mut Stack`) and a place for the pidfd on ours. The child runs `child` on that
    // stack with `shared`, which outlives it: with CLONE_VFORK the kernel resumes us only after it has exec'd or ended, and until
    // then this thread, and with it every borrow in `shared`, stands still.
    let pid = unsafe { clone3(&args, child, (&raw mut shared).cast()) };
    let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    let pid = match u32::try_from(pid) {
        Ok(pid) => pid,
        Err(_) => return Err(failed(Errno::from_raw(i32::try_from(-pid).unwrap_or(libc::EIO)))),
    };
    // SAFETY: the kernel has stored a new descriptor there (close-on-exec), as clone3 succeeded with CLONE_PIDFD.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    restored.map_err(failed)?;
    match shared.failed {
        None => Ok(Child { pid, pidfd }),
        Some(failed) => {
            use nix::sys::wait::{Id, WaitPidFlag, waitid};
            use std::os::fd::AsFd;
            // It has called exit: this collects it and waits for nothing.
            let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED);
            Err(failed)
        }
    }
}

/// # Safety
/// With `CLONE_VM`, `args` must name a stack that nobody else uses until the child has exec'd or ended, and `argument` must point to
/// what `entry` expects for as long.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: &libc::clone_args, entry: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> i64 {
    let result: i64;
    // SAFETY: in the parent this is a plain system call. The child begins behind `syscall` with rax = 0 and
    // rsp = the top of the new stack, 16-aligned, and never comes back from `entry`.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: &libc::clone_args, entry: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> i64 {
    let result: i64;
    // SAFETY: as on x86-64; x0 is the result, and x21 and x22 are ours to choose.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x22",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x21") entry,
            in("x22") argument,
        );
    }
    result
}

/// The child's whole life as a part of this process.
extern "C" fn child(shared: *mut c_void) -> ! {
    let shared: *mut Shared<'_> = shared.cast();
    // SAFETY: the parent made it, keeps it alive and stands still until we are gone (see `clone`), so this is the only reference.
    let shared = unsafe { &mut *shared };
    shared.failed = Some(become_init(shared));
    // SAFETY: ends this process and touches nothing.
    unsafe { libc::_exit(127) }
}

/// Returns only if something failed.
fn become_init(shared: &Shared<'_>) -> Failed {
    let order = shared.order;
    let failed = |what| Failed { what, errno: Errno::last() };
    // First of all, so that memory which the kernel takes for this process from here on is charged to its own group. `0` is the writer
    // itself; any other number costs milliseconds under a kernel-wide lock.
    for tasks in order.tasks {
        if !write(tasks.as_raw_fd(), b"0") {
            return failed(Stage::Groups);
        }
    }
    if let Some([gid_map, uid_map]) = order.user_map {
        let files = [
            (c"/proc/self/setgroups", &b"deny"[..]),
            (c"/proc/self/gid_map", gid_map),
            (c"/proc/self/uid_map", uid_map),
        ];
        for (path, content) in files {
            // SAFETY: a NUL-terminated constant.
            let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
            if file < 0 || !write(file, content) {
                return failed(Stage::UserMap);
            }
            // SAFETY: opened just now, in this process's own descriptor table.
            unsafe { libc::close(file) };
        }
    }
    for (number, source) in order.descriptors.iter().enumerate() {
        // SAFETY: our descriptor table is a copy, so whatever had this number here is not the parent's any more. No source is below
        // the numbers that are taken here, so none is overwritten before it is used.
        if unsafe { libc::dup2(*source, number as RawFd) } < 0 {
            return failed(Stage::Descriptors);
        }
    }
    // SAFETY: numbers only; closes in our own table. The two signal calls change this process alone, which has its own copy of the
    // dispositions (no CLONE_SIGHAND) and of the mask. SIGPIPE is ignored in every Rust program, and only handlers are reset by clone.
    unsafe {
        if libc::syscall(libc::SYS_close_range, order.descriptors.len() as u32, u32::MAX, 0) < 0 {
            return failed(Stage::Descriptors);
        }
        libc::setsid();
        libc::umask(0o022);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let none: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(order.path.as_ptr(), shared.argv, shared.envp);
    }
    failed(Stage::Exec)
}

fn write(file: RawFd, bytes: &[u8]) -> bool {
    // SAFETY: `bytes` is readable for its length.
    unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) == bytes.len() as isize }
}
