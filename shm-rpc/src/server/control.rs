//! Ending a server from outside, and how it finds out wherever it waits.

use std::sync::{Condvar, OnceLock, PoisonError};

use super::Shared;
use super::set::Told;
use crate::release::Released;
use crate::sync::Arc;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};

/// What other threads and tasks can do with a [`crate::Server`] while it serves.
#[derive(Clone, Debug)]
pub struct ServerControl {
    shared: Arc<Shared>,
}

const CLOSE: u32 = 1;
const GONE: u32 = 2;

/// Requests to end, and the places where the server may be asleep.
#[derive(Debug, Default)]
pub(super) struct Stop {
    flags: AtomicU32,
    /// The offset of the slot that the serving thread sleeps on; 0 while it is awake.
    asleep_on: AtomicUsize,
    /// Serving ends as soon as nothing is in flight: whoever answers must tell.
    draining: AtomicBool,
    drained: std::sync::Mutex<()>,
    changed: Condvar,
    #[cfg(feature = "tokio")]
    pub(super) task: futures_util::task::AtomicWaker,
    /// The set that serves it, if one does.
    set: OnceLock<Told>,
}

impl Stop {
    #[inline]
    pub(super) fn close_wanted(&self) -> bool {
        self.flags.load(Relaxed) & CLOSE != 0
    }

    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.flags.load(Relaxed) & GONE != 0
    }

    /// The bell has told that the caller is gone.
    pub(super) fn note_gone(&self) {
        self.flags.fetch_or(GONE, SeqCst);
    }

    /// Whether anything is wanted at all.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.flags.load(SeqCst) != 0
    }

    /// The serving thread is about to sleep on the slot at `offset`. It must look at the wishes once more after this.
    pub(super) fn falls_asleep(&self, offset: usize) {
        self.asleep_on.store(offset, SeqCst);
    }

    pub(super) fn wakes_up(&self) {
        self.asleep_on.store(0, SeqCst);
    }

    /// An answer was published.
    #[inline]
    pub(super) fn answered(&self) {
        if self.draining.load(Acquire) {
            self.tell_drain();
        }
    }

    #[cold]
    fn tell_drain(&self) {
        drop(self.drained.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        #[cfg(feature = "tokio")]
        self.task.wake();
        // Whoever has set a flag sees the set, or the set, which looks at the flags after it has made itself known, sees that.
        fence(SeqCst);
        if let Some(set) = self.set.get() {
            set.tell();
        }
    }

    /// A set serves it from now on, and must look at the wishes after this.
    pub(super) fn join(&self, set: Told) {
        let joined = self.set.set(set);
        debug_assert!(joined.is_ok(), "a server moves into a set once");
        fence(SeqCst);
    }

    /// From now on answers are told to whoever waits for the drain.
    pub(super) fn begin_drain(&self) {
        self.draining.store(true, SeqCst);
    }

    /// Sleeps until `done`, which is looked at after every answer.
    pub(super) fn wait_drained(&self, done: impl Fn() -> bool) {
        let mut guard = self.drained.lock().unwrap_or_else(PoisonError::into_inner);
        while !done() {
            guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl ServerControl {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn want(&self, flag: u32) {
        let shared = &self.shared;
        shared.stop.flags.fetch_or(flag, SeqCst);
        shared.stop.tell_drain();
        // A thread asleep on the ring: it says when it is awake. It may have looked at the flags just before and not be
        // asleep yet, so one wake is not enough.
        loop {
            let offset = shared.stop.asleep_on.load(SeqCst);
            if offset == 0 {
                return;
            }
            shared.port.peer.memory.wake(offset);
            std::thread::yield_now();
        }
    }

    /// Closes the caller's ring: what was sent before is served, what is sent later certainly not. Serving ends when all of the
    /// former is answered.
    pub fn close(&self) {
        self.want(CLOSE);
    }

    /// Somebody knows that the caller's process has ended: serving ends now. A serving task notices by itself; a serving
    /// thread that sleeps does not, because that would cost an idle channel CPU.
    pub fn peer_gone(&self) {
        self.want(GONE);
    }

    /// Calls answered so far, well or not.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.answered.load(Relaxed)
    }

    /// Calls taken and not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.shared.in_flight()
    }

    /// Resolves when the server, its controls, calls and loans are gone and both segments are unmapped.
    pub fn released(&self) -> Released {
        self.shared.held.released()
    }
}
