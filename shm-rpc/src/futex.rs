//! Sleeping on a word of a segment, and waking who sleeps there, through writable and read-only mappings alike; and the barrier
//! with which a sleeper spares its wakers theirs.
#![allow(unsafe_code, reason = "std and nix have no futex for memory shared between processes")]

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while the word at `address` is `expected`, until a wake, a signal or the end of `timeout`. The caller looks again in
/// every case, so the outcome is not told.
pub(crate) fn wait(address: *const AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|it| libc::timespec {
        tv_sec: i64::try_from(it.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(it.subsec_nanos()),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: FUTEX_WAIT compares the word in the kernel, which answers EFAULT for a bad address; the timespec outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAIT, expected, timeout) };
}

/// Wakes everybody who sleeps on the word at `address`.
pub(crate) fn wake(address: *const AtomicU32) {
    // SAFETY: FUTEX_WAKE uses the address only to find sleepers.
    unsafe { libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, i32::MAX) };
}

/// Whether [`everyones_barrier`] works here, for threads of processes that have called this.
pub(crate) fn has_everyones_barrier() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let (barrier, register) =
            (libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED as i64, libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED as i64);
        let known = membarrier(libc::MEMBARRIER_CMD_QUERY as i64);
        known >= 0 && known & barrier != 0 && known & register != 0 && membarrier(register) == 0
    })
}

/// A full fence in this thread and, at some moment during the call, in every running thread of the registered processes.
pub(crate) fn everyones_barrier() {
    membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED as i64);
}

fn membarrier(command: i64) -> i64 {
    // SAFETY: none of the commands used here touches memory of the caller.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
}
