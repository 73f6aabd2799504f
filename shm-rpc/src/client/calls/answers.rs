//! What comes in: everything that the callee has published.

use super::entry::{Answer, Progress, Ticket, Waiter};
use super::{Calls, Shut, is_before};
use crate::CallError;
use crate::Violation;
use crate::blob::Rings;
use crate::control::{self, SOCKET};
use crate::message::{Kind, Place};
use crate::port::Port;
use crate::ring::Peek;

/// What a message was that somebody took who waits for one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Took {
    /// There was none.
    Nothing,
    /// That answer. Its call is no longer in the books.
    Mine,
    /// Another, which has been dealt with.
    Another,
}

impl Calls {
    /// Takes everything that the callee has published.
    pub(crate) fn drain(&mut self, port: &Port) {
        let mut answer = Answer::EMPTY;
        while self.take(port, None, &mut answer) != Took::Nothing {}
    }

    /// Takes one message. The answer to `mine` goes straight to who waits for it; it must be a call that is `Waiting`.
    #[inline(always)]
    pub(crate) fn take(&mut self, port: &Port, mine: Option<Ticket>, answer: &mut Answer) -> Took {
        match self.try_take(port, mine, answer) {
            Ok(took) => took,
            Err(violation) => self.nothing_believable(violation),
        }
    }

    #[cold]
    fn nothing_believable(&mut self, violation: Violation) -> Took {
        self.accuse(violation);
        Took::Nothing
    }

    #[inline(always)]
    fn try_take(&mut self, port: &Port, mine: Option<Ticket>, answer: &mut Answer) -> Result<Took, Violation> {
        if self.shut.as_ref().is_some_and(Shut::is_final) {
            return Ok(Took::Nothing);
        }
        answer.position = self.receiver.position();
        if self.receiver.take(&port.peer.memory, &mut answer.slot)? == Peek::Empty {
            return Ok(Took::Nothing);
        }
        control::store_taken_through(&port.outbox.memory, self.receiver.position());
        let kind = answer.slot.check_response(&port.peer.filled)?;
        if answer.slot.is_blob() {
            self.take_blob(port, answer)?;
        }
        if let Some(mine) = mine
            && answer.slot.id() == mine.0
            && kind != Kind::Closed
        {
            self.answered_to_who_waits(port, mine);
            return Ok(Took::Mine);
        }
        match kind {
            Kind::Closed => self.closed(port, answer.slot.low())?,
            _ => self.answered(port, answer)?,
        }
        Ok(Took::Another)
    }

    /// Takes the blob that an answer names, so that the next answer's lies in front.
    #[cold]
    fn take_blob(&mut self, port: &Port, answer: &Answer) -> Result<(), Violation> {
        let Place::Blob { len } = answer.slot.place() else { return Ok(()) };
        let (come, rings) = port.carriage.take(&port.bell, len);
        if rings == Rings::Taken {
            self.ring_again(port);
        }
        port.carriage.keep(answer.position, come?);
        Ok(())
    }

    /// Rings were taken off the bell that the task which listens to it may have slept for: whoever waits looks himself.
    fn ring_again(&mut self, port: &Port) {
        self.parked.clear(&port.outbox.memory, SOCKET);
        let tasks = self.entries.iter_mut().filter_map(|it| it.waiter.take_if(|it| it.is_task()));
        let before = self.due.len();
        self.due.extend(tasks);
        self.tasks -= self.due.len() - before;
        let (tasks, threads) = std::mem::take(&mut self.idle).into_iter().partition(Waiter::is_task);
        self.idle = threads;
        let tasks: Vec<Waiter> = tasks;
        self.tasks -= tasks.len();
        self.due.extend(tasks);
    }

    #[inline(always)]
    fn answered_to_who_waits(&mut self, port: &Port, mine: Ticket) {
        let entry = &mut self.entries[mine.index()];
        debug_assert_eq!((entry.progress, entry.generation), (Progress::Waiting, mine.generation()));
        self.sender.note_taken(entry.position.wrapping_add(1));
        if entry.block.is_some() || entry.waiter.is_some() {
            self.let_go(port, mine.index());
        }
        self.vacate(mine.index());
        self.one_less();
    }

    /// What hangs on a call that is answered.
    #[cold]
    fn let_go(&mut self, port: &Port, index: usize) {
        let entry = &mut self.entries[index];
        if let Some(waiter) = entry.waiter.take() {
            self.tasks -= usize::from(waiter.is_task());
            self.due.push(waiter);
        }
        if let Some(block) = entry.block.take() {
            port.outbox.give(block);
        }
    }

    fn answered(&mut self, port: &Port, answer: &Answer) -> Result<(), Violation> {
        let id = answer.slot.id();
        let unknown = Violation::UnknownCall { id };
        let ticket = Ticket(id);
        let entry = self.entries.get_mut(ticket.index()).ok_or(unknown)?;
        if entry.generation != ticket.generation() || !entry.is_under_way() {
            return Err(unknown);
        }
        self.sender.note_taken(entry.position.wrapping_add(1));
        let is_wanted = entry.progress == Progress::Waiting;
        if is_wanted {
            entry.progress = Progress::Done;
            entry.outcome = Some(Ok(*answer));
        }
        if entry.block.is_some() || entry.waiter.is_some() {
            self.let_go(port, ticket.index());
        }
        if !is_wanted {
            release(port, answer);
            self.vacate(ticket.index());
        }
        self.one_less();
        Ok(())
    }

    /// The callee has said where it stops: what lies there or behind will certainly not be taken.
    #[cold]
    fn closed(&mut self, port: &Port, at: u32) -> Result<(), Violation> {
        let (low, high) = (self.sender.taken(), self.sender.position());
        if at.wrapping_sub(low) > high.wrapping_sub(low) {
            return Err(Violation::ClosedAt { found: at, low, high });
        }
        if self.shut.is_none() {
            self.shut = Some(Shut::ByCallee);
        }
        self.fail_all(port, |position| (!is_before(position, at)).then_some(CallError::Draining));
        Ok(())
    }

    /// Whether a call is still under way: its outcome cannot be collected yet.
    #[inline(always)]
    pub(crate) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.entries[ticket.index()].progress == Progress::Waiting
    }

    /// The outcome of a call, once, if it is there.
    #[inline(always)]
    pub(crate) fn collect(&mut self, ticket: Ticket) -> Option<Result<Answer, CallError>> {
        let entry = &mut self.entries[ticket.index()];
        if entry.progress != Progress::Done {
            return None;
        }
        let outcome = entry.outcome.take();
        self.vacate(ticket.index());
        outcome
    }
}

/// An answer's payload is not read any more: tells the callee, or lets go of the blob.
#[inline(always)]
pub(crate) fn release(port: &Port, answer: &Answer) {
    match answer.slot.place() {
        Place::Inline { .. } => {}
        Place::Arena { .. } => {
            control::store_released(&port.outbox.memory, answer.slot.release_place(), answer.position);
        }
        Place::Blob { .. } => drop(port.carriage.collect(answer.position)),
    }
}
