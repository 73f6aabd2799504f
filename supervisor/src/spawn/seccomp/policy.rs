//! What is allowed.
//!
//! Refused are calls that reach beyond the worker (mounts, namespaces, keys, clocks, modules, other processes' memory), that have no
//! use in it, or that are new and large attack surfaces (io_uring, userfaultfd, bpf). A call this list has never heard of
//! answers ENOSYS, so that a C library falls back to an older one.

use nix::libc::{self, c_long};

/// What a system call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    /// It fails with this errno.
    Fail(i32),
    /// It depends on an argument.
    Check(Check),
}

/// A decision on the lower half of one argument: `Fail(errno)` if the test holds, else it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Which argument, from 0.
    pub argument: u32,
    pub test: Test,
    pub errno: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Any of these bits is set.
    AnyBit(u32),
    /// It is one of these.
    OneOf(&'static [u32]),
    /// It is none of these.
    NoneOf(&'static [u32]),
}

/// Numbers from here on are not known to this list.
pub(super) const UNKNOWN_FROM: u32 = 463;

const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

const FAMILIES: &[u32] = &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_NETLINK as u32];

/// Bytes pushed into a terminal's input, and the console's own calls.
const TERMINAL_INPUT: &[u32] = &[0x5412, 0x541c];

/// What the system call of this number gets.
pub(super) fn answer(number: u32) -> Answer {
    let call = c_long::from(number);
    match call {
        libc::SYS_clone => Answer::Check(Check { argument: 0, test: Test::AnyBit(NEW_NAMESPACES), errno: libc::EPERM }),
        // Its flags are in memory, where no filter can look. C libraries fall back to clone.
        libc::SYS_clone3 => Answer::Fail(libc::ENOSYS),
        libc::SYS_socket | libc::SYS_socketpair => {
            Answer::Check(Check { argument: 0, test: Test::NoneOf(FAMILIES), errno: libc::EAFNOSUPPORT })
        }
        libc::SYS_ioctl => Answer::Check(Check { argument: 1, test: Test::OneOf(TERMINAL_INPUT), errno: libc::EPERM }),
        libc::SYS_personality => {
            Answer::Check(Check { argument: 0, test: Test::NoneOf(&[0, u32::MAX]), errno: libc::EPERM })
        }
        // What they queue is counted for the whole host (fs.aio-max-nr): one worker could take all of it from the others.
        libc::SYS_io_setup
        | libc::SYS_io_destroy
        | libc::SYS_io_submit
        | libc::SYS_io_cancel
        | libc::SYS_io_getevents => Answer::Fail(libc::ENOSYS),
        _ if ALLOWED.contains(&call) || ALLOWED_HERE.contains(&call) => Answer::Allow,
        _ if number >= UNKNOWN_FROM => Answer::Fail(libc::ENOSYS),
        _ => Answer::Fail(libc::EPERM),
    }
}

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

#[rustfmt::skip]
const ALLOWED: &[c_long] = calls! {
    // Files
    SYS_read SYS_write SYS_close SYS_fstat SYS_lseek SYS_pread64 SYS_pwrite64 SYS_readv SYS_writev SYS_preadv SYS_pwritev
    SYS_preadv2 SYS_pwritev2 SYS_openat SYS_openat2 SYS_close_range SYS_dup SYS_dup3 SYS_fcntl SYS_flock SYS_fsync
    SYS_fdatasync SYS_sync SYS_syncfs SYS_sync_file_range SYS_truncate SYS_ftruncate SYS_fallocate SYS_fadvise64
    SYS_readahead SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_mkdirat SYS_mknodat SYS_unlinkat SYS_linkat SYS_symlinkat
    SYS_renameat SYS_renameat2 SYS_readlinkat SYS_faccessat SYS_faccessat2 SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat
    SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_utimensat SYS_umask SYS_setxattr SYS_lsetxattr SYS_fsetxattr
    SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_removexattr SYS_lremovexattr
    SYS_fremovexattr SYS_sendfile SYS_splice SYS_tee SYS_vmsplice SYS_copy_file_range SYS_pipe2 SYS_inotify_init1
    SYS_inotify_add_watch SYS_inotify_rm_watch SYS_memfd_create SYS_fchmodat2
    // Waiting
    SYS_ppoll SYS_pselect6 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_signalfd4
    SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime SYS_futex SYS_futex_waitv SYS_set_robust_list
    SYS_get_robust_list SYS_restart_syscall
    // Memory
    SYS_mmap SYS_mprotect SYS_munmap SYS_mremap SYS_msync SYS_mincore SYS_madvise SYS_brk SYS_mlock SYS_mlock2 SYS_munlock
    SYS_mlockall SYS_munlockall SYS_membarrier SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_memfd_secret SYS_mseal
    SYS_get_mempolicy
    // Processes and threads
    SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_kill SYS_tkill SYS_tgkill SYS_getpid SYS_getppid
    SYS_gettid SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_set_tid_address SYS_pidfd_open SYS_pidfd_send_signal SYS_prctl
    SYS_rseq SYS_getrusage SYS_times SYS_prlimit64 SYS_getrlimit SYS_setrlimit SYS_getpriority SYS_setpriority SYS_ioprio_get
    SYS_ioprio_set SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity SYS_sched_getparam SYS_sched_setparam
    SYS_sched_getscheduler SYS_sched_setscheduler SYS_sched_getattr SYS_sched_setattr SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_getcpu SYS_capget SYS_capset SYS_seccomp
    SYS_landlock_create_ruleset SYS_landlock_add_rule SYS_landlock_restrict_self
    // Signals
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigtimedwait SYS_rt_sigsuspend
    SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_sigaltstack
    // Users: without capabilities only what changes nothing succeeds
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid SYS_setreuid
    SYS_setregid SYS_setresuid SYS_setresgid SYS_setfsuid SYS_setfsgid SYS_setgroups
    // Time
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_getitimer SYS_setitimer
    SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete
    // Sockets (socket and socketpair are checked by family)
    SYS_connect SYS_accept SYS_accept4 SYS_bind SYS_listen SYS_getsockname SYS_getpeername SYS_sendto SYS_recvfrom SYS_sendmsg
    SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown SYS_setsockopt SYS_getsockopt
    // System V and POSIX IPC, in a namespace of its own
    SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semtimedop SYS_semctl SYS_msgget SYS_msgsnd SYS_msgrcv
    SYS_msgctl SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
    // The system
    SYS_uname SYS_sysinfo SYS_getrandom
};

/// Calls that have a number on this architecture only, and numbers that `libc` has no name for yet.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_poll, libc::SYS_select,
    libc::SYS_pipe, libc::SYS_dup2, libc::SYS_getdents, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_mknod, libc::SYS_link,
    libc::SYS_unlink, libc::SYS_symlink, libc::SYS_rename, libc::SYS_readlink, libc::SYS_chmod, libc::SYS_chown,
    libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_fork, libc::SYS_vfork,
    libc::SYS_getpgrp, libc::SYS_alarm, libc::SYS_pause, libc::SYS_time, libc::SYS_arch_prctl, libc::SYS_epoll_create,
    libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_signalfd, libc::SYS_inotify_init,
    451 /* cachestat */, 453 /* map_shadow_stack */, 454 /* futex_wake */, 455 /* futex_wait */, 456 /* futex_requeue */,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] =
    &[451 /* cachestat */, 454 /* futex_wake */, 455 /* futex_wait */, 456 /* futex_requeue */];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_beyond_the_worker_is_refused() {
        let refused = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_sethostname,
            libc::SYS_clock_settime,
            libc::SYS_settimeofday,
            libc::SYS_adjtimex,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_fsopen,
            libc::SYS_fsmount,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_mount_setattr,
            libc::SYS_fanotify_init,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_syslog,
        ];
        for call in refused {
            assert_eq!(answer(u32::try_from(call).unwrap()), Answer::Fail(libc::EPERM), "system call {call}");
        }
    }

    #[test]
    fn what_the_host_counts_for_all_is_not_there() {
        for call in [libc::SYS_io_setup, libc::SYS_io_submit, libc::SYS_io_getevents] {
            assert_eq!(answer(u32::try_from(call).unwrap()), Answer::Fail(libc::ENOSYS), "system call {call}");
        }
    }

    #[test]
    fn what_is_new_is_not_there() {
        assert_eq!(answer(UNKNOWN_FROM), Answer::Fail(libc::ENOSYS));
        assert_eq!(answer(0x4000_0000), Answer::Fail(libc::ENOSYS), "x32");
        assert_eq!(answer(u32::MAX), Answer::Fail(libc::ENOSYS));
    }
}
