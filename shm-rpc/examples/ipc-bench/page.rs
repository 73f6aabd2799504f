//! A page that two processes write, for the limit programs only: nothing is checked there, so nothing is slower than it must be.
#![allow(unsafe_code, reason = "the limit programs are the bare machine")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Lines for words, then room for a bulk payload.
pub const LINES: usize = 64;
pub const BULK: usize = 1 << 20;
const BULK_AT: usize = (2 * LINES * 64usize).next_multiple_of(4096);
pub const BYTES: usize = BULK_AT + BULK;

/// Who may write what the other side writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Both sides: the bare machine.
    Both,
    /// Neither: each has what it reads mapped for reading only, as the sides of a channel do. A line that is polled through such a
    /// mapping takes longer to travel.
    Apart,
}

/// Which side of a page this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Asking,
    Answering,
}

/// Two areas, one written by each side.
pub struct Page {
    asks: MmapRaw,
    answers: MmapRaw,
    side: Side,
}

impl Page {
    pub fn map(asks: impl AsFd, answers: impl AsFd, side: Side, sharing: Sharing) -> Self {
        let map = |fd: BorrowedFd<'_>, is_own: bool| {
            let mut options = MmapOptions::new();
            options.len(BYTES);
            let fd = fd.as_raw_fd();
            if is_own || sharing == Sharing::Both { options.map_raw(fd) } else { options.map_raw_read_only(fd) }
                .unwrap()
        };
        let (asks, answers) = (map(asks.as_fd(), side == Side::Asking), map(answers.as_fd(), side == Side::Answering));
        Self { asks, answers, side }
    }

    /// Clears the words that this side writes.
    pub fn reset(&self) {
        for line in 0..LINES {
            for group in [0, 2] {
                self.word(group + usize::from(self.side == Side::Answering), line).store(0, Ordering::SeqCst);
            }
        }
    }

    /// The first word of line `line` of one of four groups of [`LINES`]: the even ones are written by the asking side.
    pub fn word(&self, group: usize, line: usize) -> &AtomicU64 {
        assert!(group < 4 && line < LINES);
        let area = if group.is_multiple_of(2) { &self.asks } else { &self.answers };
        // SAFETY: inside the mapping, aligned to a line; the transient reference is to an atomic.
        unsafe { AtomicU64::from_ptr(area.as_mut_ptr().add((group / 2 * LINES + line) * 64).cast()) }
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
        unsafe { self.asks.as_mut_ptr().add(BULK_AT + line * 64).cast::<[u64; 8]>().write(words) };
    }

    /// Reads the words of line `line` of the bulk area, as plain memory.
    pub fn read_line(&self, line: usize) -> [u64; 8] {
        assert!(line < BULK / 64);
        // SAFETY: inside the mapping, aligned; the peer writes there only after the release store that follows.
        unsafe { self.asks.as_ptr().add(BULK_AT + line * 64).cast::<[u64; 8]>().read() }
    }

    /// Fills the bulk area, as plain memory.
    pub fn fill(&self, value: u8) {
        // SAFETY: inside the mapping; the peer reads only after the release store that follows.
        unsafe { std::ptr::write_bytes(self.asks.as_mut_ptr().add(BULK_AT), value, BULK) };
    }

    /// Sums the bulk area, as plain memory.
    pub fn sum(&self) -> u64 {
        // SAFETY: inside the mapping; the peer writes only after the release store that follows.
        let bytes: &[u64] = unsafe { std::slice::from_raw_parts(self.asks.as_ptr().add(BULK_AT).cast(), BULK / 8) };
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
