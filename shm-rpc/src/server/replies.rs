//! The answering side: whoever has a call publishes its answer here, under one lock.

use std::collections::HashMap;

use super::Shared;
use super::call::Interest;
use crate::arena::Block;
use crate::control::{self, RELEASE_PLACES, Wake, Woken};
use crate::message::{BODY, BODY_AT, Kind, Slot};
use crate::payload::Writer;
use crate::port::Port;
use crate::ring::Sender;
use crate::sync::atomic::Ordering::{Relaxed, Release};
use crate::sync::{Arc, lock};
use crate::wire_error::{self, Detail};
use crate::{CallError, Payload};

/// A payload that the caller may still be reading.
#[derive(Debug)]
struct Lent {
    place: u16,
    position: u32,
    block: Block,
}

/// The books of the answering side.
#[derive(Debug)]
pub(super) struct Replies {
    sender: Sender,
    woken: Woken,
    lent: Vec<Lent>,
    /// Release places that no payload uses, the one used last on top.
    places: Vec<u16>,
    /// Calls that can be cancelled while they run.
    interests: HashMap<u32, Arc<Interest>>,
}

/// The release place of an answer that has no payload.
const NO_PLACE: u16 = 0;

impl Replies {
    pub(super) fn new(port: &Port) -> Self {
        Self {
            sender: Sender::new(port.outbox.geometry.slots()),
            woken: Woken::default(),
            lent: Vec::new(),
            places: (0..RELEASE_PLACES).rev().collect(),
            interests: HashMap::new(),
        }
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

    /// Publishes a message to the caller. There is always a slot for it: the caller has no more calls under way than the ring
    /// has slots less one. A caller that breaks this rule loses answers of its own.
    #[inline(always)]
    fn publish(&mut self, port: &Port, slot: &Slot) -> (u32, Wake) {
        let position = self.sender.position();
        self.sender.note_taken(position);
        self.sender.publish(&port.outbox.memory, slot);
        (position, self.woken.look(&port.peer.memory, &self.sender))
    }

    pub(super) fn watch(&mut self, id: u32, interest: &Arc<Interest>) {
        self.interests.insert(id, Arc::clone(interest));
    }

    pub(super) fn cancel(&mut self, id: u32) -> Option<Arc<Interest>> {
        self.interests.remove(&id)
    }
}

impl Shared {
    /// Answers a call with a payload, or, if that cannot be sent, with the reason.
    #[inline(always)]
    pub(super) fn answer(&self, kind: Kind, id: u32, payload: impl Payload) {
        self.reclaim();
        let mut slot = Slot::EMPTY;
        let mut writer = Writer::new(&self.port.outbox, &mut slot, BODY_AT);
        match payload.write(&mut writer) {
            Ok(()) => {
                let block = writer.finish(kind, 0);
                self.send(0, id, &mut slot, block);
            }
            // Whatever it was, the handler has run: no error that permits a retry may be sent now.
            Err(error) => self.fail(id, &CallError::Internal(format!("the answer cannot be sent: {error}"))),
        }
    }

    /// Answers a call with an error.
    #[cold]
    pub(super) fn fail(&self, id: u32, error: &CallError) {
        let (code, detail) = wire_error::encode(error);
        let mut slot = Slot::EMPTY;
        let mut writer = Writer::new(&self.port.outbox, &mut slot, BODY_AT);
        let written = match detail {
            Detail::None => Ok(()),
            Detail::Numbers(numbers) => numbers.iter().try_for_each(|it| writer.put(&it.to_le_bytes())),
            Detail::Text(text) => writer.put(text.as_bytes()).or_else(|_| {
                // No room in the arena: the beginning must do.
                writer.put(&text.as_bytes()[..BODY])
            }),
        };
        debug_assert!(written.is_ok(), "numbers and shortened texts fit into a slot");
        let block = writer.finish(Kind::Error, 0);
        self.send(code, id, &mut slot, block);
    }

    #[inline(always)]
    fn send(&self, code: u16, id: u32, slot: &mut Slot, block: Option<Block>) {
        let mut replies = lock(&self.replies);
        let place = match &block {
            None => NO_PLACE,
            Some(_) => match replies.places.pop() {
                Some(place) => place,
                None => {
                    drop(replies);
                    block.into_iter().for_each(|it| self.port.outbox.give(it));
                    let reason = "the answer cannot be sent: the caller holds too many payloads";
                    return self.fail(id, &CallError::Internal(reason.into()));
                }
            },
        };
        slot.set_low_and_id(u32::from(code) | u32::from(place) << 16, id);
        let (position, wake) = replies.publish(&self.port, slot);
        if let Some(block) = block {
            replies.lent.push(Lent { place, position, block });
        }
        if !replies.interests.is_empty() {
            replies.interests.remove(&id);
        }
        self.answered.store(self.answered.load(Relaxed) + 1, Release);
        drop(replies);
        self.port.wake(wake);
        self.stop.answered();
    }

    /// Tells the caller where its ring was closed.
    pub(super) fn announce_close(&self, at: u32) {
        let mut replies = lock(&self.replies);
        let (_, wake) = replies.publish(&self.port, &Slot::short(Kind::Closed, at, 0));
        drop(replies);
        self.port.wake(wake);
    }

    /// Takes back what the caller no longer reads.
    #[inline(always)]
    pub(super) fn reclaim(&self) {
        if self.port.outbox.is_lent() {
            lock(&self.replies).reclaim(&self.port);
        }
    }

    /// Calls taken and not answered.
    pub(super) fn in_flight(&self) -> u64 {
        // Answers first: a call is taken before it is answered, so the difference is never negative.
        let answered = self.answered.load(std::sync::atomic::Ordering::Acquire);
        self.taken.load(Relaxed).saturating_sub(answered)
    }
}
