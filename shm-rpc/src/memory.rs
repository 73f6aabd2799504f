//! The mapped memory of a segment, as 64-bit words and as bytes. Everything that dereferences it is in this file.
//!
//! Why this is sound against a peer that writes at any moment: no Rust reference to bytes of a peer's segment is ever
//! made. Single words are read by atomic instructions; longer stretches are copied into private memory by machine
//! instructions that the compiler knows nothing about (`rep movsb`) or by atomic word reads. Both give some mixture of old
//! and new bytes when the peer writes meanwhile, and nothing else. Offsets come from private geometry and are checked
//! against the private length of the mapping at each access.
#![allow(clippy::inline_always, reason = "with the ordering unknown every access would be a jump through a table")]
#![allow(unsafe_code, reason = "the one place where segment memory is touched")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::futex;

/// A segment that this process writes and its peer reads.
#[derive(Debug)]
pub(crate) struct OwnMemory(MmapRaw);

/// A segment that the peer writes and this process has mapped read-only.
#[derive(Debug)]
pub(crate) struct PeerMemory(MmapRaw);

/// The address of the word at `offset`.
#[inline(always)]
fn word(map: &MmapRaw, offset: usize) -> *mut u64 {
    if !(offset.is_multiple_of(8) && offset < map.len() && map.len() - offset >= 8) {
        outside(offset, 8);
    }
    // SAFETY: offset + 8 <= len was just checked, so the result stays inside the one mapping, which is as long as `map`.
    unsafe { map.as_mut_ptr().add(offset).cast() }
}

/// Loads the word at `offset`.
#[inline(always)]
fn load(map: &MmapRaw, offset: usize, order: Ordering) -> u64 {
    // SAFETY: the pointer is inside a live mapping and 8-aligned (mappings are page-aligned). The transient reference is to
    // an atomic, which permits that others write. A load of 8 bytes needs no write access on the 64-bit targets of this crate.
    unsafe { AtomicU64::from_ptr(word(map, offset)) }.load(order)
}

/// The futex word at `offset`: the low half of the 64-bit word there.
#[inline(always)]
fn futex_word(map: &MmapRaw, offset: usize) -> *const AtomicU32 {
    word(map, offset).cast_const().cast()
}

/// Checks that `len` bytes at `offset` lie in the mapping and gives their address.
#[inline(always)]
fn range(map: &MmapRaw, offset: usize, len: usize) -> *mut u8 {
    if !(offset <= map.len() && map.len() - offset >= len) {
        outside(offset, len);
    }
    // SAFETY: offset <= len of the mapping was just checked.
    unsafe { map.as_mut_ptr().add(offset) }
}

/// A mistake of this crate. It takes values, not references: what a message could refer to would have to be written to memory for
/// each access, and stores behind a slot's wait until the slot's line has come from the other core.
#[cold]
#[inline(never)]
fn outside(offset: usize, len: usize) -> ! {
    panic!("{len} bytes at {offset} are not aligned or lie outside a segment");
}

impl OwnMemory {
    /// Maps `len` bytes of `fd` for writing. A child that is forked does not inherit the mapping.
    pub(crate) fn map(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(fd.as_fd().as_raw_fd())?;
        map.advise(Advice::DontFork)?;
        Ok(Self(map))
    }

    #[inline(always)]
    pub(crate) fn store(&self, offset: usize, value: u64, order: Ordering) {
        // SAFETY: as in `load`; the mapping is writable.
        unsafe { AtomicU64::from_ptr(word(&self.0, offset)) }.store(value, order);
    }

    /// Stores the eight words of the slot at `offset`: first the last seven of `words`, then `first`, with Release.
    #[inline(always)]
    pub(crate) fn store_slot(&self, offset: usize, first: u64, words: &[u64; 8]) {
        if !offset.is_multiple_of(64) {
            outside(offset, 64);
        }
        let slot = range(&self.0, offset, 64);
        // SAFETY: `range` checked the 64 bytes; mappings begin at a page, so a line's offset is a line's address. Nobody else
        // writes them.
        unsafe { store_slot(slot.cast(), first, words) }
    }

    /// Stores the 32-bit word at `offset`.
    #[inline(always)]
    pub(crate) fn store_half(&self, offset: usize, value: u32, order: Ordering) {
        let pointer: *mut u32 = word(&self.0, offset & !7).cast();
        // SAFETY: `word` checked all 8 bytes that hold this half; nobody writes them but this process.
        unsafe { AtomicU32::from_ptr(pointer.add(usize::from(offset & 4 != 0))) }.store(value, order);
    }

    /// Wakes whoever sleeps on the word at `offset`.
    pub(crate) fn wake(&self, offset: usize) {
        futex::wake(futex_word(&self.0, offset));
    }

    /// `len` bytes at `offset`, to be filled.
    ///
    /// # Safety
    /// Nobody else in this process may touch these bytes while the slice lives. (The peer reads them at will; that is no
    /// write and cannot disturb the writer.)
    #[allow(clippy::mut_from_ref, reason = "the exclusivity is the caller's promise")]
    pub(crate) unsafe fn bytes_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        let pointer = range(&self.0, offset, len);
        // SAFETY: inside the mapping (`range`), initialised (a memfd's pages are zero), unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(pointer, len) }
    }
}

impl PeerMemory {
    /// Maps `len` bytes of `fd` for reading only. A child that is forked does not inherit the mapping.
    pub(crate) fn map(fd: impl AsFd, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw_read_only(fd.as_fd().as_raw_fd())?;
        map.advise(Advice::DontFork)?;
        Ok(Self(map))
    }

    #[inline(always)]
    pub(crate) fn load(&self, offset: usize, order: Ordering) -> u64 {
        load(&self.0, offset, order)
    }

    /// Asks for the line at `offset`, to be read soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: usize) {
        prefetch(range(&self.0, offset, 64));
    }

    /// Sleeps while the low half of the word at `offset` is `expected`; see [`futex::wait`].
    pub(crate) fn wait(&self, offset: usize, expected: u32, timeout: Option<Duration>) {
        futex::wait(futex_word(&self.0, offset), expected, timeout);
    }

    /// Wakes whoever sleeps on the word at `offset`: another thread of this process.
    pub(crate) fn wake(&self, offset: usize) {
        futex::wake(futex_word(&self.0, offset));
    }

    /// Copies the bytes at `offset` out.
    pub(crate) fn copy_to(&self, offset: usize, target: &mut [u8]) {
        let source = range(&self.0, offset, target.len());
        // SAFETY: `range` checked the source; the target is a private slice, so they do not overlap.
        unsafe { copy_out(source, target.as_mut_ptr(), target.len()) };
    }

    /// Appends the `len` bytes at `offset` to `target`.
    pub(crate) fn append_to(&self, offset: usize, len: usize, target: &mut Vec<u8>) {
        let source = range(&self.0, offset, len);
        target.reserve(len);
        // SAFETY: `range` checked the source; `reserve` made room for `len` bytes behind the vector's length, all of which
        // are written before the length says so.
        unsafe {
            copy_out(source, target.as_mut_ptr().add(target.len()), len);
            target.set_len(target.len() + len);
        }
    }

    /// Copies the slot at `offset` out, whose first word was loaded before and is `first`. It is written by four stores of 16
    /// bytes, so that it can be copied on by loads of any size without waiting for the stores.
    #[inline(always)]
    pub(crate) fn load_slot(&self, offset: usize, first: u64, words: &mut [u64; 8]) {
        let source = range(&self.0, offset, 64);
        // SAFETY: `range` checked the 64 bytes.
        unsafe { load_slot(source, first, words) }
    }

    /// Goes over `count` blocks of 64 bytes from `offset` on, as words: one load per 16 bytes where the machine has such, so that
    /// it is as fast as over private memory.
    #[inline(always)]
    pub(crate) fn fold_blocks<A>(
        &self,
        offset: usize,
        count: usize,
        start: A,
        step: &mut impl FnMut(A, [u64; 8]) -> A,
    ) -> A {
        let source = range(&self.0, offset, count * 64);
        let mut state = start;
        for index in 0..count {
            // SAFETY: `range` checked all the blocks.
            state = step(state, unsafe { load_block(source.add(index * 64)) });
        }
        state
    }

    /// Lets the kernel write the bytes at `offset` to `fd`; returns how many it took.
    pub(crate) fn write_to(&self, offset: usize, len: usize, fd: impl AsFd) -> io::Result<usize> {
        let source = range(&self.0, offset, len);
        // SAFETY: the kernel reads at most `len` bytes, which `range` checked, and copes with concurrent writers.
        let written = unsafe { libc::write(fd.as_fd().as_raw_fd(), source.cast(), len) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }
}

#[inline(always)]
fn prefetch(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that reads nothing into the program and faults nowhere.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Loads 64 bytes that a peer may be changing.
///
/// # Safety
/// `source` is readable for 64 bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_block(source: *const u8) -> [u64; 8] {
    use std::arch::x86_64::__m128i;
    let (a, b, c, d): (__m128i, __m128i, __m128i, __m128i);
    // SAFETY: reads the caller's 64 bytes; any two vectors are plain bits.
    unsafe {
        std::arch::asm!(
            "movdqu {a}, [{source}]", "movdqu {b}, [{source} + 16]", "movdqu {c}, [{source} + 32]", "movdqu {d}, [{source} + 48]",
            source = in(reg) source, a = out(xmm_reg) a, b = out(xmm_reg) b, c = out(xmm_reg) c, d = out(xmm_reg) d,
            options(nostack, preserves_flags, readonly));
        std::mem::transmute([a, b, c, d])
    }
}

/// Loads 64 bytes that a peer may be changing.
///
/// # Safety
/// `source` is readable for 64 bytes.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn load_block(source: *const u8) -> [u64; 8] {
    let mut words = [0_u64; 8];
    // SAFETY: the caller's 64 bytes, into private ones.
    unsafe { copy_out(source, words.as_mut_ptr().cast(), 64) };
    words
}

/// Stores a slot's words, `first` in place of the first one, last and with Release. As few stores as there can be: what is under way to other cores at
/// a time is counted in stores, not in lines.
///
/// # Safety
/// `slot` is writable for 64 bytes and aligned to 64; no other thread writes there.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn store_slot(slot: *mut u64, first: u64, words: &[u64; 8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_set_epi64x};
    // SAFETY: loads from private words. The stores go to the caller's 64 bytes; the machine keeps them in order, and gives every
    // aligned 8 bytes of them to a reader whole, so the last one is a Release store of the first word. The compiler moves no access
    // to memory over the assembly.
    unsafe {
        let source: *const __m128i = words.as_ptr().cast();
        let first = _mm_set_epi64x(words[1].cast_signed(), first.cast_signed());
        std::arch::asm!(
            "movaps [{slot} + 16], {b}", "movaps [{slot} + 32], {c}", "movaps [{slot} + 48], {d}", "movaps [{slot}], {a}",
            slot = in(reg) slot, a = in(xmm_reg) first, b = in(xmm_reg) _mm_loadu_si128(source.add(1)),
            c = in(xmm_reg) _mm_loadu_si128(source.add(2)), d = in(xmm_reg) _mm_loadu_si128(source.add(3)),
            options(nostack, preserves_flags));
    }
}

/// Stores a slot's words, `first` in place of the first one, last and with Release.
///
/// # Safety
/// `slot` is writable for 64 bytes and aligned to 8; no other thread writes there.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn store_slot(slot: *mut u64, first: u64, words: &[u64; 8]) {
    for (index, value) in words.iter().enumerate().skip(1) {
        // SAFETY: one of the caller's words; the transient reference is to an atomic, which permits that others read.
        unsafe { AtomicU64::from_ptr(slot.add(index)) }.store(*value, Ordering::Relaxed);
    }
    // SAFETY: the first of them.
    unsafe { AtomicU64::from_ptr(slot) }.store(first, Ordering::Release);
}

/// Copies 64 bytes that a peer may be changing, all but the first word, which is `first`.
///
/// # Safety
/// `source` is readable for 64 bytes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_slot(source: *const u8, first: u64, words: &mut [u64; 8]) {
    use std::arch::x86_64::{
        __m128i, _mm_castpd_si128, _mm_castsi128_pd, _mm_cvtsi64_si128, _mm_move_sd, _mm_storeu_si128,
    };
    let (a, b, c, d): (__m128i, __m128i, __m128i, __m128i);
    // SAFETY: reads the caller's 64 bytes; any vectors are plain bits. The stores go to the 64 bytes of `words`; SSE2 is part of
    // the target.
    unsafe {
        std::arch::asm!(
            "movdqu {a}, [{source}]", "movdqu {b}, [{source} + 16]", "movdqu {c}, [{source} + 32]", "movdqu {d}, [{source} + 48]",
            source = in(reg) source, a = out(xmm_reg) a, b = out(xmm_reg) b, c = out(xmm_reg) c, d = out(xmm_reg) d,
            options(nostack, preserves_flags, readonly));
        let first = _mm_castsi128_pd(_mm_cvtsi64_si128(first.cast_signed()));
        let a = _mm_castpd_si128(_mm_move_sd(_mm_castsi128_pd(a), first));
        let target: *mut __m128i = words.as_mut_ptr().cast();
        _mm_storeu_si128(target, a);
        _mm_storeu_si128(target.add(1), b);
        _mm_storeu_si128(target.add(2), c);
        _mm_storeu_si128(target.add(3), d);
    }
}

/// Copies 64 bytes that a peer may be changing, all but the first word, which is `first`.
///
/// # Safety
/// `source` is readable for 64 bytes.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn load_slot(source: *const u8, first: u64, words: &mut [u64; 8]) {
    // SAFETY: the caller's 64 bytes, into private ones.
    unsafe { copy_out(source, words.as_mut_ptr().cast(), 64) };
    words[0] = first;
}

/// Copies `len` bytes that a peer may be changing.
///
/// # Safety
/// `source` is readable and `target` writable for `len` bytes, and they do not overlap.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_out(source: *const u8, target: *mut u8, len: usize) {
    // SAFETY: the direction flag is clear by the ABI; the instruction reads and writes exactly the caller's ranges.
    unsafe {
        std::arch::asm!("rep movsb", inout("rcx") len => _, inout("rsi") source => _, inout("rdi") target => _,
            options(nostack, preserves_flags));
    }
}

/// Copies `len` bytes that a peer may be changing.
///
/// # Safety
/// `source` is readable and `target` writable for `len` bytes, and they do not overlap.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_out(source: *const u8, target: *mut u8, len: usize) {
    use std::sync::atomic::AtomicU8;
    let mut at = 0;
    while at < len {
        // SAFETY: at < len; words are only read where 8 aligned bytes remain.
        unsafe {
            let from = source.add(at).cast_mut();
            if from.addr().is_multiple_of(8) && len - at >= 8 {
                let word = AtomicU64::from_ptr(from.cast()).load(Ordering::Relaxed);
                target.add(at).cast::<u64>().write_unaligned(word);
                at += 8;
            } else {
                target.add(at).write(AtomicU8::from_ptr(from).load(Ordering::Relaxed));
                at += 1;
            }
        }
    }
}
