//! One call under way, as the books have it.

use std::task::Waker;
use std::thread::Thread;

use crate::CallError;
use crate::arena::Block;
use crate::message::Slot;

/// A call under way: the place of its entry, and how often that place has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(super) u32);

impl Ticket {
    pub(super) fn new(index: u16, generation: u16) -> Self {
        Self(u32::from(index) | u32::from(generation) << 16)
    }

    pub(super) fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    pub(super) fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Who is to be told that a call is done.
#[derive(Debug)]
pub(crate) enum Waiter {
    Thread(Thread),
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "only tokio tasks wait as tasks"))]
    Task(Waker),
}

impl Waiter {
    pub(crate) fn wake(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }

    pub(super) const fn is_task(&self) -> bool {
        matches!(self, Self::Task(_))
    }
}

/// An answer as it was taken from the ring: checked, its payload, if it has one, not released yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) slot: Slot,
    /// Its position in the callee's ring.
    pub(crate) position: u32,
}

impl Answer {
    pub(crate) const EMPTY: Self = Self { slot: Slot::EMPTY, position: 0 };
}

/// How far the call of an entry is. The other fields of the entry are only meant where it says so: the states are plain bytes, so
/// that going from one to the next moves nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Free,
    /// `position`, perhaps `block`, perhaps `waiter`.
    Waiting,
    /// `outcome`.
    Done,
    /// `position`, perhaps `block`.
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) generation: u16,
    pub(super) progress: Progress,
    /// Where its request lies.
    pub(super) position: u32,
    pub(super) block: Option<Block>,
    pub(super) waiter: Option<Waiter>,
    pub(super) outcome: Option<Result<Answer, CallError>>,
}

impl Entry {
    pub(super) const FREE: Self =
        Self { generation: 0, progress: Progress::Free, position: 0, block: None, waiter: None, outcome: None };

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.progress, Progress::Waiting | Progress::Abandoned)
    }
}
