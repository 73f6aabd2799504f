//! Sleeping on a word of a segment, and waking who sleeps there, through writable and read-only mappings alike.
#![allow(unsafe_code, reason = "std and nix have no futex for memory shared between processes")]

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
