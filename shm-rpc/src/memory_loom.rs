//! Segment memory under loom: the words that a test names, as loom's atomics, and futexes out of loom's mutex and condition.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::layout::SLOT_WORDS;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock};

#[derive(Debug)]
struct Words {
    words: BTreeMap<usize, AtomicU64>,
    sleepers: Mutex<()>,
    wake: loom::sync::Condvar,
}

/// A segment as its writer has it.
#[derive(Debug)]
pub(crate) struct OwnMemory(Arc<Words>);

/// The same segment as its reader has it.
#[derive(Debug)]
pub(crate) struct PeerMemory(Arc<Words>);

/// A segment with these words, by their offsets.
pub(crate) fn segment(words: impl IntoIterator<Item = (usize, u64)>) -> (OwnMemory, PeerMemory) {
    let words = words.into_iter().map(|(at, value)| (at, AtomicU64::new(value))).collect();
    let shared = Arc::new(Words { words, sleepers: Mutex::new(()), wake: loom::sync::Condvar::new() });
    (OwnMemory(Arc::clone(&shared)), PeerMemory(shared))
}

impl OwnMemory {
    pub(crate) fn store(&self, offset: usize, value: u64, order: Ordering) {
        self.0.words[&offset].store(value, order);
    }

    pub(crate) fn store_slot(&self, offset: usize, first: u64, words: &[u64; SLOT_WORDS]) {
        for (index, value) in words.iter().enumerate().skip(1) {
            self.store(offset + 8 * index, *value, Ordering::Relaxed);
        }
        self.store(offset, first, Ordering::Release);
    }

    pub(crate) fn store_half(&self, _: usize, _: u32, _: Ordering) {
        unreachable!("payloads are not part of the models");
    }

    pub(crate) fn wake(&self, _: usize) {
        drop(lock(&self.0.sleepers));
        self.0.wake.notify_all();
    }
}

impl PeerMemory {
    pub(crate) fn prefetch(&self, _: usize) {}

    pub(crate) fn load(&self, offset: usize, order: Ordering) -> u64 {
        self.0.words[&offset].load(order)
    }

    pub(crate) fn load_slot(&self, offset: usize, first: u64, words: &mut [u64; SLOT_WORDS]) {
        let word = |index| self.0.words.get(&(offset + 8 * index)).map_or(0, |it| it.load(Ordering::Relaxed));
        *words = std::array::from_fn(|index| if index == 0 { first } else { word(index) });
    }

    /// The kernel compares under the lock that the waker takes, and sees the newest value.
    pub(crate) fn wait(&self, offset: usize, expected: u32, _: Option<Duration>) {
        let guard = lock(&self.0.sleepers);
        if self.0.words[&offset].load(Ordering::SeqCst) as u32 == expected {
            drop(self.0.wake.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }
}
