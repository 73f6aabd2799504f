//! The answering side. As long as every call is answered in the server's own loop, the loop alone writes the ring of the answers
//! and needs no lock. With the first call that leaves it, that end of the ring moves under one, until all of those are answered.
//!
//! ```text
//!   Home: the loop has it ──── a call is detached ───▶ Shared: whoever answers locks it
//!         ▲                                                       │
//!         └── the loop answers, and no detached call is left ─────┘
//! ```

use super::Shared;
use super::intake::Intake;
use crate::arena::Block;
use crate::control::{self, Fence, RELEASE_PLACES, Wake, Woken};
use crate::message::{BODY, Kind, Slot};
use crate::payload::{Attached, Writer};
use crate::port::Port;
use crate::ring::Sender;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::lock;
use crate::wire_error::{self, Detail};
use crate::{CallError, Payload};

/// The writing end of the answers' ring.
#[derive(Debug)]
pub(super) struct Answers {
    sender: Sender,
    woken: Woken,
}

impl Answers {
    fn new(port: &Port) -> Self {
        Self { sender: Sender::new(port.outbox.geometry.slots()), woken: Woken::default() }
    }

    /// Publishes a message to the caller. There is always a slot for it: the caller has no more calls under way than the ring
    /// has slots less one. A caller that breaks this rule loses answers of its own.
    #[inline(always)]
    fn publish(&mut self, port: &Port, slot: &Slot, fence: Fence) -> (u32, Wake) {
        self.sender.note_taken(self.sender.position());
        let position = self.sender.publish(&port.outbox.memory, slot);
        fence.make();
        (position, self.woken.look(&port.peer.memory, &self.sender))
    }
}

/// A payload that the caller may still be reading.
#[derive(Debug)]
struct Lent {
    place: u16,
    position: u32,
    block: Block,
}

/// The payloads of answers that are in the caller's hands.
#[derive(Debug)]
pub(super) struct Lending {
    lent: Vec<Lent>,
    /// Release places that no payload uses, the one used last on top.
    places: Vec<u16>,
}

impl Lending {
    pub(super) fn new() -> Self {
        Self { lent: Vec::new(), places: (0..RELEASE_PLACES).rev().collect() }
    }

    /// Takes back the payloads that the caller no longer reads.
    fn reclaim(&mut self, port: &Port) {
        let mut index = 0;
        while let Some(lent) = self.lent.get(index) {
            if control::is_released(&port.peer.memory, lent.place, lent.position) {
                let lent = self.lent.swap_remove(index);
                self.places.push(lent.place);
                port.outbox.give(lent.block);
            } else {
                index += 1;
            }
        }
    }
}

/// The loop's side of the answers.
#[derive(Debug)]
pub(super) struct Home {
    /// None: it is under the lock.
    answers: Option<Answers>,
    /// Calls that have left the loop.
    detached: u64,
}

impl Home {
    pub(super) fn new(port: &Port) -> Self {
        Self { answers: Some(Answers::new(port)), detached: 0 }
    }

    /// A call leaves the loop.
    #[inline]
    pub(super) fn let_go(&mut self, shared: &Shared) {
        if let Some(answers) = self.answers.take() {
            *lock(&shared.answers) = Some(answers);
        }
        self.detached += 1;
    }

    /// Takes the ring back, if nobody else can write it any more.
    #[cold]
    fn come_back(&mut self, shared: &Shared) {
        // Everything that others have published comes before this.
        if shared.answered_away.load(Acquire) == self.detached {
            self.answers = lock(&shared.answers).take();
        }
    }
}

impl Shared {
    /// Answers a call of the loop with a payload, or, if that cannot be sent, with the reason.
    #[inline(always)]
    pub(super) fn answer_here(&self, home: &mut Home, intake: &Intake, kind: Kind, payload: impl Payload) {
        let id = intake.slot.id();
        let mut slot = Slot::EMPTY;
        match self.encode(kind, &mut slot, payload) {
            Ok(attached) => self.send_here(home, intake, 0, id, &mut slot, attached),
            Err(error) => self.fail_here(home, intake, &error),
        }
    }

    /// Answers a call of the loop with an error.
    #[cold]
    pub(super) fn fail_here(&self, home: &mut Home, intake: &Intake, error: &CallError) {
        let mut slot = Slot::EMPTY;
        let (code, attached) = self.encode_error(error, &mut slot);
        self.send_here(home, intake, code, intake.slot.id(), &mut slot, attached);
    }

    /// Answers a detached call with a payload, or, if that cannot be sent, with the reason.
    pub(super) fn answer_away(&self, kind: Kind, id: u32, payload: impl Payload) {
        let mut slot = Slot::EMPTY;
        match self.encode(kind, &mut slot, payload) {
            Ok(attached) => self.send_away(0, id, &mut slot, attached),
            Err(error) => self.fail_away(id, &error),
        }
    }

    /// Answers a detached call with an error.
    #[cold]
    pub(super) fn fail_away(&self, id: u32, error: &CallError) {
        let mut slot = Slot::EMPTY;
        let (code, attached) = self.encode_error(error, &mut slot);
        self.send_away(code, id, &mut slot, attached);
    }

    #[inline(always)]
    fn encode(&self, kind: Kind, slot: &mut Slot, payload: impl Payload) -> Result<Option<Attached>, CallError> {
        self.reclaim();
        let mut writer = Writer::new(&self.port.outbox, slot, BODY);
        // Whatever it was, the handler has run: no error that permits a retry may be sent now.
        payload.write(&mut writer).map_err(unsendable)?;
        Ok(writer.finish(kind, 0))
    }

    fn encode_error(&self, error: &CallError, slot: &mut Slot) -> (u16, Option<Attached>) {
        self.reclaim();
        let (code, detail) = wire_error::encode(error);
        let mut writer = Writer::new(&self.port.outbox, slot, BODY);
        let written = match detail {
            Detail::None => Ok(()),
            Detail::Numbers(numbers) => numbers.iter().try_for_each(|it| writer.put(&it.to_le_bytes())),
            Detail::Text(text) => writer.put(text.as_bytes()).or_else(|_| {
                // No room in the arena: the beginning must do.
                writer.put(&text.as_bytes()[..BODY])
            }),
        };
        debug_assert!(written.is_ok(), "numbers and shortened texts fit into a slot");
        (code, writer.finish(Kind::Error, 0))
    }

    #[inline(always)]
    fn send_here(
        &self,
        home: &mut Home,
        intake: &Intake,
        code: u16,
        id: u32,
        slot: &mut Slot,
        attached: Option<Attached>,
    ) {
        slot.set_low_and_id(u32::from(code), id);
        if home.answers.is_none() {
            home.come_back(self);
        }
        let Some(answers) = &mut home.answers else { return self.send_locked(slot, attached, None) };
        let fence =
            if self.caller_makes_fences && intake.sees_a_call(&self.port) { Fence::Readers } else { Fence::Ours };
        let wake = match attached {
            None => answers.publish(&self.port, slot, fence).1,
            Some(attached) => self.send_attached(slot, attached, |slot| answers.publish(&self.port, slot, fence)),
        };
        self.count_answer();
        self.port.wake(wake);
        self.stop.answered();
    }

    fn send_away(&self, code: u16, id: u32, slot: &mut Slot, attached: Option<Attached>) {
        slot.set_low_and_id(u32::from(code), id);
        lock(&self.interests).remove(&id);
        self.send_locked(slot, attached, Some(&self.answered_away));
    }

    /// Answers while detached calls are open.
    fn send_locked(&self, slot: &mut Slot, attached: Option<Attached>, count: Option<&AtomicU64>) {
        let publish = |slot: &mut Slot| {
            let mut guard = lock(&self.answers);
            let answers = guard.as_mut().expect("the ring is not at home");
            let published = answers.publish(&self.port, slot, Fence::Ours);
            self.count_answer();
            if let Some(count) = count {
                // The last thing that is done with the ring here: the loop may take it back now.
                count.store(count.load(Relaxed) + 1, Release);
            }
            published
        };
        let wake = match attached {
            None => publish(slot).1,
            Some(attached) => self.send_attached(slot, attached, publish),
        };
        self.port.wake(wake);
        self.stop.answered();
    }

    /// Written by whoever has the ring, so never by two at once.
    #[inline(always)]
    fn count_answer(&self) {
        self.answered.store(self.answered.load(Relaxed) + 1, Release);
    }

    /// Sends an answer with what is attached: a block is remembered until the caller no longer reads it, a blob goes ahead of it.
    /// One lock for all such answers: the blobs go in the order of their messages.
    #[cold]
    fn send_attached(
        &self,
        slot: &mut Slot,
        attached: Attached,
        publish: impl FnOnce(&mut Slot) -> (u32, Wake),
    ) -> Wake {
        let mut lending = lock(&self.lending);
        match attached {
            Attached::Block(block) => {
                let Some(place) = lending.places.pop() else {
                    self.port.outbox.give(block);
                    return self.refuse(slot, "the caller holds too many payloads", publish);
                };
                slot.set_release_place(place);
                let (position, wake) = publish(slot);
                lending.lent.push(Lent { place, position, block });
                self.lent.store(lending.lent.len(), Relaxed);
                wake
            }
            Attached::Blob(kept) => match self.port.send_blob(kept) {
                Ok(()) => publish(slot).1,
                Err(_) => self.refuse(slot, "no descriptor or buffer for it is left", publish),
            },
        }
    }

    /// Sends the reason instead of an answer, in the slot alone.
    #[cold]
    fn refuse(&self, slot: &Slot, reason: &str, publish: impl FnOnce(&mut Slot) -> (u32, Wake)) -> Wake {
        let mut short = Slot::EMPTY;
        short.set_low_and_id(u32::from(wire_error::INTERNAL), slot.id());
        let reason = format!("the answer: {reason}");
        let mut writer = Writer::new(&self.port.outbox, &mut short, BODY);
        let written = writer.put(&reason.as_bytes()[..reason.len().min(BODY)]);
        debug_assert!(written.is_ok(), "it fits into the slot");
        let none = writer.finish(Kind::Error, 0);
        debug_assert!(none.is_none(), "it fits into the slot");
        publish(&mut short).1
    }

    /// Tells the caller where its ring was closed.
    pub(super) fn announce_close(&self, home: &mut Home, at: u32) {
        let slot = Slot::short(Kind::Closed, at, 0);
        let wake = match &mut home.answers {
            Some(answers) => answers.publish(&self.port, &slot, Fence::Ours).1,
            None => {
                let mut guard = lock(&self.answers);
                let answers = guard.as_mut().expect("the ring is not at home");
                answers.publish(&self.port, &slot, Fence::Ours).1
            }
        };
        self.port.wake(wake);
    }

    /// Takes back what the caller no longer reads.
    #[inline(always)]
    pub(super) fn reclaim(&self) {
        if self.lent.load(Relaxed) > 0 {
            self.reclaim_some();
        }
    }

    #[cold]
    fn reclaim_some(&self) {
        let mut lending = lock(&self.lending);
        lending.reclaim(&self.port);
        self.lent.store(lending.lent.len(), Relaxed);
    }

    /// Calls taken and not answered.
    pub(super) fn in_flight(&self) -> u64 {
        // Answers first: a call is taken before it is answered, so the difference is never negative.
        let answered = self.answered.load(Acquire);
        self.taken.load(Relaxed).saturating_sub(answered)
    }
}

#[cold]
fn unsendable(error: CallError) -> CallError {
    CallError::Internal(format!("the answer cannot be sent: {error}"))
}
