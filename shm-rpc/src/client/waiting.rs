//! How a thread waits for an answer: it spins a little, then sleeps, as leader on the ring or as follower on itself.

use std::time::Duration;

use super::{Answer, Calls, Shared, Shut, Ticket, Waiter};
use crate::CallError;
use crate::Deadline;
use crate::control::FUTEX;
use crate::layout::slot_offset;
use crate::spin::{Spin, Turn};
use crate::sync::atomic::Ordering::Acquire;

/// How long a leader sleeps before it looks whether its peer is still there. Only calls under way cost this; a futex, unlike
/// a socket, does not tell when the process at the other end is gone.
const LIVENESS: Duration = Duration::from_millis(50);

/// The deadline came first.
struct TimedOut;

impl Shared {
    /// Sleeps until a call is answered.
    pub(super) fn sleep_for(&self, ticket: Ticket, deadline: Option<Deadline>) -> Result<Answer, CallError> {
        let collect = |calls: &mut Calls| calls.collect(ticket);
        let register = |calls: &mut Calls, waiter| calls.register(ticket, waiter);
        match self.sleep_until(deadline, collect, register) {
            Ok(outcome) => outcome,
            Err(TimedOut) => match self.abandon(ticket) {
                Some(started) => Err(CallError::Deadline { started }),
                // The answer came between the last look and now, and is gone: the deadline has passed anyway.
                None => Err(CallError::Deadline { started: true }),
            },
        }
    }

    /// Waits until no call is under way.
    pub(super) fn wait_idle(&self, deadline: Option<Deadline>) -> bool {
        let is_idle = |calls: &mut Calls| (calls.outstanding() == 0).then_some(());
        self.sleep_until(deadline, is_idle, Calls::register_idle).is_ok()
    }

    /// Looks at the ring again and again, for as long as that may pay, and takes the books only when something is there.
    pub(super) fn spin_for(&self, ticket: Ticket, deadline: Option<Deadline>) -> Option<Result<Answer, CallError>> {
        let slots = self.port.peer.geometry.slots();
        let mut seen = None;
        let mut spin = Spin::new(&self.learned, &self.port.outbox.memory, &self.port.peer.memory, deadline);
        loop {
            let next = self.next_answer.load(Acquire);
            let word = self.port.peer.memory.load(slot_offset(next & (slots - 1)), Acquire);
            let empty = next.wrapping_add(1).wrapping_sub(slots);
            if seen != Some(next) || word as u32 != empty {
                let mut calls = self.lock();
                calls.drain(&self.port);
                seen = Some(calls.next().0);
                let outcome = calls.collect(ticket);
                self.unlock(calls);
                if outcome.is_some() {
                    spin.found();
                    return outcome;
                }
            }
            match spin.turn() {
                Turn::Again => {}
                Turn::Sleep => return None,
            }
        }
    }

    /// Sleeps until `ready` gives something. `register` says where a follower wants to be told.
    fn sleep_until<T>(
        &self,
        deadline: Option<Deadline>,
        mut ready: impl FnMut(&mut Calls) -> Option<T>,
        mut register: impl FnMut(&mut Calls, Waiter),
    ) -> Result<T, TimedOut> {
        loop {
            let mut calls = self.lock();
            calls.drain(&self.port);
            let found = ready(&mut calls);
            let remaining = deadline.map(Deadline::remaining);
            let timed_out = remaining.is_some_and(|it| it.is_zero());
            if found.is_some() || timed_out {
                calls.forget_thread();
                calls.promote();
                self.unlock(calls);
                return found.ok_or(TimedOut);
            }
            if calls.has_leader {
                register(&mut calls, Waiter::Thread(std::thread::current()));
                self.unlock(calls);
                remaining.map_or_else(std::thread::park, std::thread::park_timeout);
            } else if calls.arm(&self.port, FUTEX) {
                calls.has_leader = true;
                let (_, offset, empty) = calls.next();
                self.unlock(calls);
                let timeout = remaining.map_or(LIVENESS, |it| it.min(LIVENESS));
                self.port.peer.memory.wait(offset, empty, Some(timeout));
                self.wake_up(empty, offset);
            } else {
                self.unlock(calls);
            }
        }
    }

    /// Nothing comes any more: the thread that sleeps on the ring for all need not wait for its next look. It may be about to
    /// sleep, so one wake is not enough.
    #[cold]
    pub(super) fn wake_leader(&self) {
        loop {
            let calls = self.lock();
            let asleep_on = calls.has_leader.then(|| calls.next().1);
            self.unlock(calls);
            let Some(offset) = asleep_on else { return };
            self.port.peer.memory.wake(offset);
            std::thread::yield_now();
        }
    }

    /// The leader is awake.
    fn wake_up(&self, empty: u32, offset: usize) {
        let mut calls = self.lock();
        calls.has_leader = false;
        calls.parked.clear(&self.port.outbox.memory, FUTEX);
        // Nothing came: a timeout, a signal, or the end of the peer.
        let nothing_came = self.port.peer.memory.load(offset, Acquire) as u32 == empty;
        if nothing_came && !calls.shut().is_some_and(Shut::is_final) && self.port.peer_is_gone() {
            calls.peer_gone(&self.port);
        }
        self.unlock(calls);
    }
}
