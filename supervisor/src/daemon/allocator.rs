//! What the allocator keeps.
#![allow(unsafe_code, reason = "mallopt is not in nix")]

/// Blocks from this size on are given back to the kernel as soon as they are free.
const LARGE: libc::c_int = 1 << 20;

/// Keeps glibc from raising that size by itself. Unpacking one package takes a window of 8 MiB; with a threshold that follows such a
/// block, each thread's arena would keep one for ever, and a supervisor would grow by what its operators once did.
///
/// Called before any thread is made.
pub(super) fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers and changes how later blocks are made; blocks that there are stay what they are. There is no
    // other thread that could be inside the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
