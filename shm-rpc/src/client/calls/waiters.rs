//! Who waits for what, and who sleeps for all.

use super::Calls;
use super::entry::{Progress, Ticket, Waiter};
use crate::control::Barrier;
use crate::port::Port;
use crate::ring::Peek;

impl Calls {
    /// Whoever must be woken once the lock is released.
    pub(crate) fn take_due(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.due)
    }

    #[inline(always)]
    pub(crate) const fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether a task waits, so that the bell must be armed.
    #[cfg(feature = "tokio")]
    pub(crate) const fn has_tasks(&self) -> bool {
        self.tasks > 0
    }

    /// Registers who is to be told that the call is done; replaces who was registered before.
    pub(crate) fn register(&mut self, ticket: Ticket, waiter: Waiter) {
        let entry = &mut self.entries[ticket.index()];
        if entry.progress == Progress::Waiting {
            self.tasks += usize::from(waiter.is_task());
            if let Some(before) = entry.waiter.replace(waiter) {
                self.tasks -= usize::from(before.is_task());
            }
        }
    }

    /// Registers who is to be told that no call is under way.
    pub(crate) fn register_idle(&mut self, waiter: Waiter) {
        let same = |it: &Waiter| match (it, &waiter) {
            (Waiter::Thread(a), Waiter::Thread(b)) => a.id() == b.id(),
            (Waiter::Task(a), Waiter::Task(b)) => a.will_wake(b),
            (Waiter::Thread(_), Waiter::Task(_)) | (Waiter::Task(_), Waiter::Thread(_)) => false,
        };
        if !self.idle.iter().any(same) {
            self.tasks += usize::from(waiter.is_task());
            self.idle.push(waiter);
        }
    }

    /// The last call that was under way is done.
    #[cold]
    pub(super) fn nothing_is_under_way(&mut self) {
        for waiter in self.idle.drain(..) {
            self.tasks -= usize::from(waiter.is_task());
            self.due.push(waiter);
        }
    }

    /// This thread no longer waits for anything.
    pub(crate) fn forget_thread(&mut self) {
        let here = std::thread::current().id();
        let is_here = |it: &Waiter| matches!(it, Waiter::Thread(thread) if thread.id() == here);
        self.idle.retain(|it| !is_here(it));
        for entry in &mut self.entries {
            if entry.waiter.as_ref().is_some_and(is_here) {
                entry.waiter = None;
            }
        }
    }

    /// Arms a kind of sleep. False: an answer has come meanwhile, and nothing is armed.
    pub(crate) fn arm(&mut self, port: &Port, bit: u64) -> bool {
        // A callee leaves its fence out only behind an answer that another call of ours follows.
        let barrier = if self.outstanding > 1 { port.sleepers_barrier() } else { Barrier::Own };
        self.parked.set(&port.outbox.memory, bit, self.receiver.position(), barrier);
        match self.receiver.peek(&port.peer.memory) {
            Ok(Peek::Empty) => true,
            Ok(Peek::There) => {
                self.parked.clear(&port.outbox.memory, bit);
                false
            }
            Err(violation) => {
                self.parked.clear(&port.outbox.memory, bit);
                self.accuse(violation);
                false
            }
        }
    }

    /// Lets another waiting thread take answers for all, now that nobody does.
    pub(crate) fn promote(&mut self) {
        if self.has_leader {
            return;
        }
        let waiters = self.entries.iter().filter_map(|it| it.waiter.as_ref());
        let thread = waiters.chain(&self.idle).find_map(|it| match it {
            Waiter::Thread(thread) => Some(thread.clone()),
            Waiter::Task(_) => None,
        });
        self.due.extend(thread.map(Waiter::Thread));
    }
}
