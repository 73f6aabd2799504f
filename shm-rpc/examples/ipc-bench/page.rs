//! A page that two processes write, for the limit programs only: nothing is checked there, so nothing is slower than it must be.
#![allow(unsafe_code, reason = "the limit programs are the bare machine")]

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Lines for words, then room for a bulk payload.
pub const LINES: usize = 64;
pub const BULK: usize = 1 << 20;
const BULK_AT: usize = (4 * LINES * 64usize).next_multiple_of(4096);
pub const BYTES: usize = BULK_AT + BULK;

pub struct Page(MmapRaw);

impl Page {
    pub fn map(fd: impl AsFd) -> Self {
        Self(MmapOptions::new().len(BYTES).map_raw(fd.as_fd().as_raw_fd()).unwrap())
    }

    /// The first word of line `line` of one of four groups of [`LINES`].
    pub fn word(&self, group: usize, line: usize) -> &AtomicU64 {
        assert!(group < 4 && line < LINES);
        // SAFETY: inside the mapping, aligned to a line; the transient reference is to an atomic.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add((group * LINES + line) * 64).cast()) }
    }

    pub fn futex(&self, group: usize) -> &AtomicU32 {
        let word: *const AtomicU64 = self.word(group, 0);
        // SAFETY: the low half of an aligned word on a little-endian machine.
        unsafe { &*word.cast() }
    }

    /// Writes the words of line `line` of the bulk area, as plain memory.
    pub fn write_line(&self, line: usize, words: [u64; 8]) {
        assert!(line < BULK / 64);
        // SAFETY: inside the mapping, aligned; the peer reads only after the release store that follows.
        unsafe { self.0.as_mut_ptr().add(BULK_AT + line * 64).cast::<[u64; 8]>().write(words) };
    }

    /// Reads the words of line `line` of the bulk area, as plain memory.
    pub fn read_line(&self, line: usize) -> [u64; 8] {
        assert!(line < BULK / 64);
        // SAFETY: inside the mapping, aligned; the peer writes there only after the release store that follows.
        unsafe { self.0.as_ptr().add(BULK_AT + line * 64).cast::<[u64; 8]>().read() }
    }

    /// Fills the bulk area, as plain memory.
    pub fn fill(&self, value: u8) {
        // SAFETY: inside the mapping; the peer reads only after the release store that follows.
        unsafe { std::ptr::write_bytes(self.0.as_mut_ptr().add(BULK_AT), value, BULK) };
    }

    /// Sums the bulk area, as plain memory.
    pub fn sum(&self) -> u64 {
        // SAFETY: inside the mapping; the peer writes only after the release store that follows.
        let bytes: &[u64] = unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(BULK_AT).cast(), BULK / 8) };
        bytes.iter().fold(0, |sum, it| sum.wrapping_add(*it))
    }
}

pub fn futex_wait(word: &AtomicU32, expected: u32) {
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: a live word and no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, expected, none) };
}

pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: a live word.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, 1) };
}

pub fn spin_until(word: &AtomicU64, value: u64) {
    while word.load(Ordering::Acquire) != value {
        std::hint::spin_loop();
    }
}

/// Takes over an inherited descriptor.
pub fn inherited(fd: i32) -> std::os::fd::OwnedFd {
    // SAFETY: the parent passed this number for exactly this purpose, and it is taken over once.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

pub fn epoll_read_one(epoll: &nix::sys::epoll::Epoll, socket: &impl AsFd) {
    let mut events = [nix::sys::epoll::EpollEvent::empty()];
    let mut byte = [0; 8];
    loop {
        epoll.wait(&mut events, nix::sys::epoll::EpollTimeout::NONE).unwrap();
        if nix::unistd::read(socket.as_fd(), &mut byte).is_ok_and(|n| n > 0) {
            return;
        }
    }
}
