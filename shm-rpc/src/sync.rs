//! The façade behind which loom takes the place of std.

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, atomic};

/// Locks; a panic of another holder does not matter, because no invariant is open while foreign code runs.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Between a publishing swap and the look at the peer's flags, and between setting such a flag and the look at the ring.
///
/// All four accesses are SeqCst, which is enough by itself: each side's write comes before its own load in the single order
/// of SeqCst operations, so not both can miss the other. loom knows SeqCst only as fences, so it gets one.
pub(crate) fn handshake_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
}
