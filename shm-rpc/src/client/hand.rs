//! The books in one thread's hand: a call that is sent, spun for and taken without letting go of them in between. Whoever else
//! wants them says so, and gets them at once.

use std::sync::MutexGuard;

use super::{Answer, Calls, Shared, Ticket, Waiter};
use crate::client::calls::Took;
use crate::error::Refused;
use crate::message::{BODY, BODY_BEFORE_DEADLINE, CONTEXT, DEADLINE, Kind, Slot};
use crate::payload::{Attached, Writer};
use crate::spin::{Spin, Turn};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::{CallError, CallOptions, Deadline, Payload};

/// A request that is encoded and not sent. It is made where it is sent from: to move it would cost more than to make it.
#[derive(Debug)]
pub(super) struct Request {
    slot: Slot,
    attached: Option<Attached>,
}

impl Request {
    pub(super) const EMPTY: Self = Self { slot: Slot::EMPTY, attached: None };

    /// Encodes it. This runs foreign code, so the books should not be held.
    #[inline(always)]
    pub(super) fn encode(
        &mut self,
        shared: &Shared,
        options: &CallOptions,
        payload: impl Payload,
    ) -> Result<(), Refused> {
        let (room, mut flags) = match options.deadline {
            None => (BODY, 0),
            Some(deadline) => {
                self.slot.set_deadline(deadline);
                (BODY_BEFORE_DEADLINE, DEADLINE)
            }
        };
        if options.has_context() {
            flags |= CONTEXT;
        }
        let mut writer = Writer::new(&shared.port.outbox, &mut self.slot, room);
        payload.write(&mut writer)?;
        self.attached = writer.finish(Kind::Call, flags);
        Ok(())
    }
}

/// The lock on the books, while a thread makes calls.
#[derive(Debug)]
pub(super) struct Hand<'c> {
    pub(super) shared: &'c Arc<Shared>,
    /// None: let go of.
    calls: Option<MutexGuard<'c, Calls>>,
}

impl<'c> Hand<'c> {
    #[inline(always)]
    pub(super) fn new(shared: &'c Arc<Shared>) -> Self {
        Self { shared, calls: Some(shared.lock()) }
    }

    /// The books, locked again if they were let go of.
    #[inline(always)]
    pub(super) fn calls(&mut self) -> &mut Calls {
        self.calls.get_or_insert_with(|| self.shared.lock())
    }

    /// Publishes a request. [`Hand::look_up`] or a wait must follow.
    #[inline(always)]
    pub(super) fn start(
        &mut self,
        method: u32,
        options: &CallOptions,
        request: &mut Request,
    ) -> Result<Ticket, Refused> {
        let port = &self.shared.port;
        let started = self.calls().start(port, method, options, &mut request.slot, &mut request.attached);
        if let Some(attached) = request.attached.take() {
            port.outbox.give_attached(attached);
        }
        started
    }

    /// Wakes the callee if it sleeps, and finds out whether it has closed.
    #[inline(always)]
    pub(super) fn look_up(&mut self) {
        let port = &self.shared.port;
        let wake = self.calls().look_up(port);
        port.wake(wake);
    }

    /// Waits for the answer to a call.
    #[inline(always)]
    pub(super) fn wait(
        &mut self,
        ticket: Ticket,
        deadline: Option<Deadline>,
        answer: &mut Answer,
    ) -> Result<(), Refused> {
        self.look_up();
        if self.spin(ticket, deadline, answer) {
            return Ok(());
        }
        *answer = self.wait_elsewhere(ticket, deadline)?;
        Ok(())
    }

    /// Looks at the ring again and again, for as long as that may pay and nobody else wants the books.
    #[inline(always)]
    fn spin(&mut self, ticket: Ticket, deadline: Option<Deadline>, answer: &mut Answer) -> bool {
        let shared = self.shared;
        let calls = self.calls();
        if !calls.is_waiting(ticket) {
            return false;
        }
        let port = &shared.port;
        if calls.take(port, Some(ticket), answer) == Took::Mine {
            return true;
        }
        let mut spin = Spin::new(&shared.learned, &port.outbox.memory, &port.peer.memory, deadline);
        loop {
            match calls.take(port, Some(ticket), answer) {
                Took::Mine => {
                    spin.found();
                    return true;
                }
                Took::Another if calls.is_waiting(ticket) => {}
                Took::Another => return false,
                Took::Nothing => {}
            }
            if shared.wanted.load(Relaxed) != 0 || spin.turn() == Turn::Sleep {
                return false;
            }
        }
    }

    /// Waits without the books: the answer is there already, or others want them, or it is time to sleep.
    #[cold]
    fn wait_elsewhere(&mut self, ticket: Ticket, deadline: Option<Deadline>) -> Result<Answer, CallError> {
        if let Some(outcome) = self.calls().collect(ticket) {
            return outcome;
        }
        let is_wanted = self.shared.wanted.load(Relaxed) != 0;
        self.let_go();
        if is_wanted && let Some(outcome) = self.shared.spin_for(ticket, deadline) {
            return outcome;
        }
        self.shared.sleep_for(ticket, deadline)
    }

    /// Lets others have the books, and wakes whoever has become due.
    #[inline(always)]
    pub(super) fn let_go(&mut self) {
        if let Some(mut calls) = self.calls.take() {
            let wake = calls.look_up(&self.shared.port);
            self.shared.unlock(calls);
            self.shared.port.wake(wake);
        }
    }

    /// Lets others have the books if they want them.
    #[inline(always)]
    pub(super) fn give_way(&mut self) {
        if self.shared.wanted.load(Relaxed) != 0 {
            self.let_go();
            std::thread::yield_now();
        }
    }
}

impl Drop for Hand<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Shared {
    /// Locks the books.
    #[inline(always)]
    pub(super) fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.try_lock().unwrap_or_else(|_| self.lock_from_another())
    }

    /// Somebody has them: perhaps a thread that holds them while it spins, and lets go when it hears of this.
    #[cold]
    fn lock_from_another(&self) -> MutexGuard<'_, Calls> {
        self.wanted.fetch_add(1, Relaxed);
        let calls = crate::sync::lock(&self.calls);
        self.wanted.fetch_sub(1, Relaxed);
        calls
    }

    /// Releases the lock, then wakes whoever has become due.
    #[inline(always)]
    pub(super) fn unlock(&self, calls: MutexGuard<'_, Calls>) {
        self.next_answer.store(calls.next().0, Release);
        if calls.has_due() {
            wake_due(calls);
        }
    }
}

#[cold]
fn wake_due(mut calls: MutexGuard<'_, Calls>) {
    let due = calls.take_due();
    drop(calls);
    due.into_iter().for_each(Waiter::wake);
}
