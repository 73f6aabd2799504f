//! The private books of a caller's end: which calls are under way, and what became of each.
//!
//! ```text
//!   Free ──start──▶ Waiting ──answer, close, death──▶ Done ──collect──▶ Free
//!                      │                                                  ▲
//!                      ├──answer, seen by who waits for it────────────────┤
//!                      └──abandon──▶ Abandoned ──answer, death────────────┘
//!                                    (its buffers are in quarantine)
//! ```
//! Requests go out in `requests`, answers come in in `answers`; `fates` decides what is never answered, `waiters` knows who sleeps.

mod answers;
mod entry;
mod fates;
mod requests;
mod waiters;

use crate::control::{Parked, Woken};
use crate::port::Port;
use crate::ring::{Receiver, Sender};
use entry::{Entry, Progress};

pub(crate) use answers::{Took, release};
pub(crate) use entry::{Answer, Ticket, Waiter};
pub(crate) use fates::Shut;

/// The books. One lock holds them; nothing here waits.
#[derive(Debug)]
pub(crate) struct Calls {
    sender: Sender,
    receiver: Receiver,
    pub(crate) parked: Parked,
    woken: Woken,
    entries: Box<[Entry]>,
    free: Vec<u16>,
    outstanding: usize,
    finished: u64,
    shut: Option<Shut>,
    /// Requests were published without a look at the callee behind them.
    unlooked: bool,
    /// A thread sleeps on the ring, and takes answers for all.
    pub(crate) has_leader: bool,
    /// Waiters that are tasks: as long as there is one the bell must be armed.
    tasks: usize,
    /// Who waits for `outstanding` to be 0.
    idle: Vec<Waiter>,
    /// Who is to be woken as soon as the lock is released.
    due: Vec<Waiter>,
}

impl Calls {
    pub(crate) fn new(port: &Port) -> Self {
        let (own, peer) = (port.outbox.geometry.slots(), port.peer.geometry.slots());
        // One slot of the callee's ring stays free for its `Closed`, so that it never has to look whether there is room.
        let credits = own.min(peer - 1) as u16;
        Self {
            sender: Sender::new(own),
            receiver: Receiver::new(peer),
            parked: Parked::default(),
            woken: Woken::default(),
            entries: (0..credits).map(|_| Entry::FREE).collect(),
            free: (0..credits).rev().collect(),
            outstanding: 0,
            finished: 0,
            shut: None,
            unlooked: false,
            has_leader: false,
            tasks: 0,
            idle: Vec::new(),
            due: Vec::new(),
        }
    }

    pub(crate) const fn outstanding(&self) -> usize {
        self.outstanding
    }

    pub(crate) const fn finished(&self) -> u64 {
        self.finished
    }

    pub(crate) const fn shut(&self) -> Option<&Shut> {
        self.shut.as_ref()
    }

    /// Position, slot and empty sequence of the next answer.
    pub(crate) const fn next(&self) -> (u32, usize, u32) {
        (self.receiver.position(), self.receiver.offset(), self.receiver.previous())
    }

    #[inline(always)]
    fn vacate(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.progress = Progress::Free;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index as u16);
    }

    #[inline(always)]
    fn one_less(&mut self) {
        self.outstanding -= 1;
        self.finished += 1;
        if self.outstanding == 0 && !self.idle.is_empty() {
            self.nothing_is_under_way();
        }
    }
}

/// Whether `position` lies before `mark`, as positions wrap: they are never further apart than a ring is long.
const fn is_before(position: u32, mark: u32) -> bool {
    (position.wrapping_sub(mark) as i32) < 0
}
