//! What goes out: requests, cancellations, the end.

use super::answers::release;
use super::entry::{Progress, Ticket};
use super::{Calls, Shut, is_before};
use crate::control::{self, Wake};
use crate::error::Refused;
use crate::message::{Kind, Slot};
use crate::payload::Attached;
use crate::port::Port;
use crate::ring::fence_before_looks;
use crate::{CallError, CallOptions, RETRY_AFTER};

impl Calls {
    /// Publishes a request. Sooner or later [`Calls::look_up`] must follow.
    #[inline(always)]
    pub(crate) fn start(
        &mut self,
        port: &Port,
        method: u32,
        options: &CallOptions,
        slot: &mut Slot,
        attached: &mut Option<Attached>,
    ) -> Result<Ticket, Refused> {
        if self.shut.is_some() {
            return Err(self.refusal().into());
        }
        let needed = if options.has_context() { 2 } else { 1 };
        if self.sender.free() < needed {
            self.make_room(port, needed)?;
        }
        let Some(index) = self.free.pop() else { return Err(overloaded().into()) };
        if attached.is_some() {
            self.attach(port, index, attached)?;
        }
        let entry = &mut self.entries[usize::from(index)];
        let ticket = Ticket::new(index, entry.generation);
        let memory = &port.outbox.memory;
        if needed == 2 {
            self.sender.publish(memory, &Slot::context(options));
        }
        slot.set_low_and_id(method, ticket.0);
        entry.position = self.sender.publish(memory, slot);
        entry.progress = Progress::Waiting;
        self.outstanding += 1;
        self.unlooked = true;
        Ok(ticket)
    }

    /// Keeps the block of a request that is published next, or sends its blob ahead.
    #[cold]
    fn attach(&mut self, port: &Port, index: u16, attached: &mut Option<Attached>) -> Result<(), Refused> {
        match attached.take() {
            Some(Attached::Block(block)) => self.entries[usize::from(index)].block = Some(block),
            Some(Attached::Blob(kept)) => {
                port.send_blob(kept).inspect_err(|_| self.free.push(index))?;
            }
            None => {}
        }
        Ok(())
    }

    /// After publications: is the callee asleep, has it closed?
    #[inline(always)]
    pub(crate) fn look_up(&mut self, port: &Port) -> Wake {
        if !std::mem::take(&mut self.unlooked) {
            return Wake::NOBODY;
        }
        fence_before_looks();
        let wake = self.woken.look(&port.peer.memory, &self.sender);
        if control::is_closed(&port.peer.memory) && self.shut.is_none() {
            // Whether what was just sent lies before the close is told by the `Closed` that comes.
            self.shut = Some(Shut::ByCallee);
        }
        wake
    }

    /// Makes sure that `needed` slots are free, judging by what the callee says.
    #[cold]
    fn make_room(&mut self, port: &Port, needed: u32) -> Result<(), Refused> {
        self.sender
            .check_taken(control::load_taken_through(&port.peer.memory))
            .map_err(|violation| self.accuse(violation))?;
        if self.sender.free() >= needed { Ok(()) } else { Err(overloaded().into()) }
    }

    /// The caller no longer waits: asks the callee to cancel, and tells whether the callee has taken the call. None: it was
    /// done already, and its outcome is thrown away.
    #[cold]
    pub(crate) fn abandon(&mut self, port: &Port, ticket: Ticket) -> (Option<bool>, Wake) {
        let entry = &mut self.entries[ticket.index()];
        if entry.progress != Progress::Waiting {
            if let Some(Ok(answer)) = self.collect(ticket) {
                release(port, &answer);
            }
            return (None, Wake::NOBODY);
        }
        entry.progress = Progress::Abandoned;
        let position = entry.position;
        let waiter = entry.waiter.take();
        self.tasks -= usize::from(waiter.is_some_and(|it| it.is_task()));
        match self.sender.check_taken(control::load_taken_through(&port.peer.memory)) {
            Err(violation) => {
                self.accuse(violation);
                (Some(true), Wake::NOBODY)
            }
            Ok(taken) => {
                let started = is_before(position, taken);
                if !self.shut.as_ref().is_some_and(Shut::is_final) && self.sender.free() > 0 {
                    self.sender.publish(&port.outbox.memory, &Slot::short(Kind::Cancel, 0, ticket.0));
                    self.unlooked = true;
                }
                (Some(started), self.look_up(port))
            }
        }
    }

    /// Sends nothing more. The callee is told, if there is room.
    pub(crate) fn close(&mut self, port: &Port) -> Wake {
        if self.shut.is_some() {
            return self.look_up(port);
        }
        let room = self.sender.free() > 0 || self.make_room(port, 1).is_ok();
        if self.shut.is_none() {
            self.shut = Some(Shut::Here);
        }
        if room {
            self.sender.publish(&port.outbox.memory, &Slot::short(Kind::End, 0, 0));
            self.unlooked = true;
        }
        self.look_up(port)
    }
}

#[cold]
fn overloaded() -> CallError {
    CallError::Overloaded { retry_after: RETRY_AFTER }
}
