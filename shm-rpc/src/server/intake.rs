//! Taking requests off the caller's ring.

use super::Shared;
use super::replies::Home;
use crate::blob::{Frozen, Rings};
use crate::control::{self, Barrier, Parked, SOCKET};
use crate::message::{Kind, Place, Slot};
use crate::options::Context;
use crate::port::Port;
use crate::ring::{Peek, Receiver};
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::lock;
use crate::{CallError, RETRY_AFTER, Violation, clock};

/// Messages that are dealt with here in one go. Before a call there is at most its context; a caller that sends nothing but
/// cancellations, or calls that are too late, as fast as they are taken, would keep whoever serves others, too, in this loop.
const PASSES: u32 = 4;

/// The reading end of the caller's ring, and how far its closing has come.
#[derive(Debug)]
pub(super) struct Intake {
    receiver: Receiver,
    pub(super) parked: Parked,
    /// The message that was taken last: where a call's handler reads it.
    pub(super) slot: Slot,
    /// Trace and tags of the call that was taken last, or must come next.
    pub(super) context: Option<Box<Context>>,
    /// The blob of the call that was taken last.
    pub(super) blob: Option<Frozen>,
    phase: Phase,
    /// How many calls an honest caller has under way at most.
    credits: u32,
    /// The time of a moment ago, if somebody has looked. It is good for one message.
    now: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// `closed` is set; at most so many messages are still looked at. An honest caller sends far fewer.
    Closing {
        left: u32,
    },
    /// The caller has been told where its ring ends.
    Closed,
    /// The caller has sent its `End`.
    CallerDone,
}

/// What the ring had.
#[derive(Debug)]
pub(super) enum Next {
    /// A call to be executed, in [`Intake::slot`].
    Call,
    /// Messages, none of them a call to be executed, and maybe more: others have their turn first.
    PassedOver,
    /// Nothing now.
    Empty,
    /// Nothing any more: the ring is closed, by either side.
    Over,
}

impl Intake {
    pub(super) fn new(port: &Port) -> Self {
        let (caller, callee) = (port.peer.geometry.slots(), port.outbox.geometry.slots());
        Self {
            receiver: Receiver::new(caller),
            parked: Parked::default(),
            slot: Slot::EMPTY,
            context: None,
            blob: None,
            phase: Phase::Open,
            credits: caller.min(callee - 1),
            now: None,
        }
    }

    /// Somebody has looked at the clock, just before the next message came.
    #[inline(always)]
    pub(super) fn note_time(&mut self, now: u64) {
        self.now = Some(now);
    }

    /// Whether the caller has said that it is done.
    pub(super) fn caller_is_done(&self) -> bool {
        self.phase == Phase::CallerDone
    }

    /// The slot that the next request will be in, and its sequence until then.
    pub(super) const fn next_slot(&self) -> (usize, u32) {
        (self.receiver.offset(), self.receiver.previous())
    }

    /// The call that was taken last has been handed out: what came with it does not belong to the next one.
    #[inline(always)]
    pub(super) fn forget_context(&mut self) {
        if self.slot.has_more() {
            self.forget();
        }
    }

    #[cold]
    fn forget(&mut self) {
        (self.context, self.blob) = (None, None);
    }

    /// The next call. Everything else on the ring is dealt with here.
    #[inline(always)]
    pub(super) fn next(&mut self, shared: &Shared, home: &mut Home) -> Result<Next, Violation> {
        for _ in 0..PASSES {
            match self.phase {
                Phase::Open if shared.stop.close_wanted() => {
                    control::set_closed(&shared.port.outbox.memory);
                    self.phase = Phase::Closing { left: shared.port.peer.geometry.slots() - 1 };
                }
                Phase::Open => {}
                Phase::Closing { left: 0 } => {
                    self.finish_close(shared, home);
                    return Ok(Next::Over);
                }
                Phase::Closing { left } => self.phase = Phase::Closing { left: left - 1 },
                Phase::Closed | Phase::CallerDone => return Ok(Next::Over),
            }
            if self.receiver.take(&shared.port.peer.memory, &mut self.slot)? == Peek::Empty {
                if let Phase::Closing { .. } = self.phase {
                    self.finish_close(shared, home);
                    return Ok(Next::Over);
                }
                return Ok(Next::Empty);
            }
            // Before anything is executed: after our death the caller knows by this what was never started.
            control::store_taken_through(&shared.port.outbox.memory, self.receiver.position());
            let kind = self.slot.check_request(&shared.port.peer.filled)?;
            if kind != Kind::Call {
                self.note(shared, kind)?;
            } else if self.admit(shared, home)? {
                return Ok(Next::Call);
            }
        }
        Ok(Next::PassedOver)
    }

    /// The first empty slot after `closed` was set is where the ring ends.
    fn finish_close(&mut self, shared: &Shared, home: &mut Home) {
        let at = self.receiver.position();
        shared.announce_close(home, at);
        self.phase = Phase::Closed;
    }

    /// Whether the call that was taken is to be executed.
    #[inline(always)]
    fn admit(&mut self, shared: &Shared, home: &mut Home) -> Result<bool, Violation> {
        if self.slot.has_context() != self.context.is_some() {
            return Err(Violation::Context);
        }
        let taken = shared.taken.load(Relaxed) + 1;
        shared.taken.store(taken, Relaxed);
        if taken.saturating_sub(shared.answered.load(Acquire)) > u64::from(self.credits) {
            return Err(Violation::TooMany { limit: self.credits });
        }
        if self.slot.is_blob() && !self.take_blob(shared, home)? {
            return Ok(false);
        }
        let now = self.now.take();
        if let Some(deadline) = self.slot.deadline()
            && deadline.has_passed_since(now.unwrap_or_else(clock::coarse))
        {
            self.forget_context();
            shared.fail_here(home, self, &CallError::Deadline { started: false });
            return Ok(false);
        }
        Ok(true)
    }

    /// Takes the blob that a call names, so that the next call's lies in front.
    /// False: there was no room for it, and the call has been answered.
    #[cold]
    fn take_blob(&mut self, shared: &Shared, home: &mut Home) -> Result<bool, Violation> {
        let Place::Blob { len } = self.slot.place() else { return Ok(true) };
        let (come, rings) = shared.port.carriage.take(&shared.port.bell, len);
        if rings == Rings::Taken {
            // The ring for what the serving task is armed for may be among them: it arms itself anew.
            self.parked.clear(&shared.port.outbox.memory, SOCKET);
        }
        if let Ok(blob) = come? {
            self.blob = Some(blob);
            return Ok(true);
        }
        // What this side has no room for has not begun.
        self.forget();
        shared.fail_here(home, self, &CallError::Overloaded { retry_after: RETRY_AFTER });
        Ok(false)
    }

    /// Deals with a message that is no call.
    #[cold]
    fn note(&mut self, shared: &Shared, kind: Kind) -> Result<(), Violation> {
        if self.context.is_some() {
            return Err(Violation::Context);
        }
        match kind {
            Kind::Context => self.context = Some(Box::new(self.slot.read_context()?)),
            Kind::Cancel => {
                if let Some(interest) = lock(&shared.interests).remove(&self.slot.id()) {
                    interest.lose();
                }
            }
            Kind::End => self.phase = Phase::CallerDone,
            Kind::Call | Kind::Reply | Kind::Fault | Kind::Error | Kind::Closed => {
                return Err(Violation::Kind { found: kind as u8 });
            }
        }
        Ok(())
    }

    /// Whether the next message is there already, and a call.
    #[inline(always)]
    pub(super) fn sees_a_call(&self, port: &Port) -> bool {
        // Acquire: a flag that the caller set before it sent that call is seen by whoever looks after this.
        let word = port.peer.memory.load(self.receiver.offset(), Acquire);
        self.receiver.is_next(word) && Slot::is_call(word)
    }

    /// Whether nothing has come since a sleep was armed.
    #[cfg(feature = "tokio")]
    pub(super) fn is_empty(&self, shared: &Shared) -> Result<bool, Violation> {
        Ok(self.receiver.peek(&shared.port.peer.memory)? == Peek::Empty)
    }

    /// Arms a kind of sleep. False: a request has come meanwhile, and nothing is armed.
    pub(super) fn arm(&mut self, shared: &Shared, bit: u64) -> Result<bool, Violation> {
        self.parked.set(&shared.port.outbox.memory, bit, self.receiver.position(), Barrier::Own);
        let peek = self.receiver.peek(&shared.port.peer.memory);
        if peek == Ok(Peek::Empty) {
            return Ok(true);
        }
        self.parked.clear(&shared.port.outbox.memory, bit);
        peek.map(|_| false)
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, PASSES};
    use crate::{CallOptions, Client, End, Geometry, Server};

    #[test]
    fn who_sends_nothing_but_cancellations_does_not_keep_the_server() {
        let geometry = Geometry::new(64, 4096).unwrap();
        let (caller, callee) = End::pair(geometry, geometry).unwrap();
        let (client, mut server) = (Client::new(caller), Server::new(callee));
        let mut under_way = Vec::new();
        let mut take = |server: &mut Server| server.take_one(&mut |call| under_way.push(call.detach())).unwrap();
        let calls: Vec<_> = (0..=PASSES).map(|_| client.start(1, &CallOptions::NONE, ()).unwrap()).collect();
        for _ in &calls {
            assert!(matches!(take(&mut server), Next::Call));
        }
        drop(calls);
        assert!(matches!(take(&mut server), Next::PassedOver), "others have their turn");
        let last = client.start(1, &CallOptions::NONE, ()).unwrap();
        assert!(matches!(take(&mut server), Next::Call), "and then it goes on where it was");
        drop(last);
    }
}
