//! The private books of a caller's end: which calls are under way, and what became of each.
//!
//! ```text
//!   Free ──start──▶ Waiting ──answer, close, death──▶ Done ──collect──▶ Free
//!                      │                                                  ▲
//!                      └──abandon──▶ Abandoned ──answer, death────────────┘
//!                                    (its buffers are in quarantine)
//! ```

use std::task::Waker;
use std::thread::Thread;

use crate::arena::Block;
use crate::control::{self, Parked, Wake, Woken};
use crate::message::{Kind, Place, Slot};
use crate::port::Port;
use crate::ring::{Peek, Receiver, Sender};
use crate::{CallError, CallOptions, RETRY_AFTER, Violation};

/// A call under way: the place of its entry, and how often that place has been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

impl Ticket {
    fn index(self) -> usize {
        (self.0 & 0xffff) as usize
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
}

/// An answer as it was taken from the ring: checked, its payload, if it has one, not released yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) slot: Slot,
    /// Its position in the callee's ring.
    pub(crate) position: u32,
}

#[derive(Debug)]
enum Progress {
    Free,
    Waiting { position: u32, block: Option<Block>, waiter: Option<Waiter> },
    Done(Result<Answer, CallError>),
    Abandoned { position: u32, block: Option<Block> },
}

#[derive(Debug)]
struct Entry {
    generation: u16,
    progress: Progress,
}

/// Why nothing more is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// This end was closed.
    Here,
    /// The callee has closed, or is closing, our ring.
    ByCallee,
    /// The callee is gone.
    PeerGone,
    /// The callee lied.
    Violation(Violation),
}

impl Shut {
    /// What a call gets that is not sent for this reason.
    fn refusal(&self) -> CallError {
        match *self {
            Self::Here | Self::ByCallee => CallError::Draining,
            Self::PeerGone => CallError::NotStarted,
            Self::Violation(violation) => CallError::ProtocolViolation(violation),
        }
    }

    /// Whether nothing will come from the callee any more.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::PeerGone | Self::Violation(_))
    }
}

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
        let entry = |_| Entry { generation: 0, progress: Progress::Free };
        Self {
            sender: Sender::new(own),
            receiver: Receiver::new(peer),
            parked: Parked::default(),
            woken: Woken::default(),
            entries: (0..credits).map(entry).collect(),
            free: (0..credits).rev().collect(),
            outstanding: 0,
            finished: 0,
            shut: None,
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

    /// Whoever must be woken once the lock is released.
    pub(crate) fn take_due(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.due)
    }

    pub(crate) const fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether a task waits, so that the bell must be armed.
    #[cfg(feature = "tokio")]
    pub(crate) const fn has_tasks(&self) -> bool {
        self.tasks > 0
    }

    /// Publishes a request.
    #[inline(always)]
    pub(crate) fn start(
        &mut self,
        port: &Port,
        method: u32,
        options: &CallOptions,
        slot: &mut Slot,
        block: &mut Option<Block>,
    ) -> Result<(Ticket, Wake), CallError> {
        if let Some(shut) = &self.shut {
            return Err(shut.refusal());
        }
        let needed = if options.has_context() { 2 } else { 1 };
        self.make_room(port, needed)?;
        let index = self.free.pop().ok_or(CallError::Overloaded { retry_after: RETRY_AFTER })?;
        let entry = &mut self.entries[usize::from(index)];
        let ticket = Ticket(u32::from(index) | u32::from(entry.generation) << 16);
        let memory = &port.outbox.memory;
        if needed == 2 {
            self.sender.publish(memory, &Slot::context(options));
        }
        slot.set_low_and_id(method, ticket.0);
        let position = self.sender.publish(memory, slot);
        entry.progress = Progress::Waiting { position, block: block.take(), waiter: None };
        self.outstanding += 1;
        Ok((ticket, self.look_up(port)))
    }

    /// After a publication: is the callee asleep, has it closed?
    #[inline(always)]
    fn look_up(&mut self, port: &Port) -> Wake {
        let wake = self.woken.look(&port.peer.memory, &self.sender);
        if control::is_closed(&port.peer.memory) && self.shut.is_none() {
            // Whether what was just sent lies before the close is told by the `Closed` that comes.
            self.shut = Some(Shut::ByCallee);
        }
        wake
    }

    /// Makes sure that `needed` slots are free.
    #[inline(always)]
    fn make_room(&mut self, port: &Port, needed: u32) -> Result<(), CallError> {
        if self.sender.free() >= needed {
            return Ok(());
        }
        self.sender
            .check_taken(control::load_taken_through(&port.peer.memory))
            .map_err(|violation| self.accuse(violation))?;
        if self.sender.free() >= needed { Ok(()) } else { Err(CallError::Overloaded { retry_after: RETRY_AFTER }) }
    }

    /// Takes everything that the callee has published.
    #[inline(always)]
    pub(crate) fn drain(&mut self, port: &Port) {
        if self.shut.as_ref().is_some_and(Shut::is_final) {
            return;
        }
        let before = self.receiver.position();
        if let Err(violation) = self.drain_ring(port) {
            self.accuse(violation);
        }
        if self.receiver.position() != before {
            control::store_taken_through(&port.outbox.memory, self.receiver.position());
        }
    }

    #[inline(always)]
    fn drain_ring(&mut self, port: &Port) -> Result<(), Violation> {
        let mut answer = Answer { slot: Slot::EMPTY, position: 0 };
        loop {
            answer.position = self.receiver.position();
            if self.receiver.take(&port.peer.memory, &mut answer.slot)? == Peek::Empty {
                return Ok(());
            }
            match answer.slot.check_response(port.peer.geometry.arena())? {
                Kind::Closed => self.closed(port, answer.slot.low())?,
                _ => self.answered(port, &answer)?,
            }
        }
    }

    #[inline(always)]
    fn answered(&mut self, port: &Port, answer: &Answer) -> Result<(), Violation> {
        let id = answer.slot.id();
        let unknown = Violation::UnknownCall { id };
        let ticket = Ticket(id);
        let entry = self.entries.get_mut(ticket.index()).ok_or(unknown)?;
        if u32::from(entry.generation) != id >> 16 {
            return Err(unknown);
        }
        let block = match &mut entry.progress {
            Progress::Waiting { position, block, waiter } => {
                self.sender.note_taken(position.wrapping_add(1));
                if let Some(waiter) = waiter.take() {
                    self.tasks -= usize::from(matches!(waiter, Waiter::Task(_)));
                    self.due.push(waiter);
                }
                let block = block.take();
                entry.progress = Progress::Done(Ok(*answer));
                block
            }
            Progress::Abandoned { position, block } => {
                self.sender.note_taken(position.wrapping_add(1));
                let block = block.take();
                release(port, answer);
                self.vacate(ticket.index());
                block
            }
            Progress::Free | Progress::Done(_) => return Err(unknown),
        };
        if let Some(block) = block {
            port.outbox.give(block);
        }
        self.one_less();
        Ok(())
    }

    /// The callee has said where it stops: what lies there or behind will certainly not be taken.
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

    /// The callee is gone: everything that it published is delivered, and the fate of the rest is decided.
    pub(crate) fn peer_gone(&mut self, port: &Port) {
        self.drain(port);
        if self.shut.as_ref().is_some_and(Shut::is_final) {
            return;
        }
        let taken = match self.sender.check_taken(control::load_taken_through(&port.peer.memory)) {
            Ok(taken) => taken,
            Err(violation) => {
                self.accuse(violation);
                return;
            }
        };
        self.shut = Some(Shut::PeerGone);
        self.fail_all(port, |position| {
            Some(if is_before(position, taken) { CallError::MaybeExecuted } else { CallError::NotStarted })
        });
    }

    /// Nothing that the callee wrote can be believed any more.
    pub(crate) fn accuse(&mut self, violation: Violation) -> CallError {
        let error = CallError::ProtocolViolation(violation);
        self.shut = Some(Shut::Violation(violation));
        for index in 0..self.entries.len() {
            // Blocks are not given back: the callee may still be reading, and nothing is sent any more anyway.
            self.settle(index, &error);
        }
        error
    }

    fn fail_all(&mut self, port: &Port, fate: impl Fn(u32) -> Option<CallError>) {
        for index in 0..self.entries.len() {
            let position = match self.entries[index].progress {
                Progress::Waiting { position, .. } | Progress::Abandoned { position, .. } => position,
                Progress::Free | Progress::Done(_) => continue,
            };
            let Some(error) = fate(position) else { continue };
            if let Some(block) = self.settle(index, &error) {
                port.outbox.give(block);
            }
        }
    }

    /// Ends a call that is under way with an error.
    fn settle(&mut self, index: usize, error: &CallError) -> Option<Block> {
        let block = match &mut self.entries[index].progress {
            Progress::Waiting { block, waiter, .. } => {
                if let Some(waiter) = waiter.take() {
                    self.tasks -= usize::from(matches!(waiter, Waiter::Task(_)));
                    self.due.push(waiter);
                }
                let block = block.take();
                self.entries[index].progress = Progress::Done(Err(error.clone()));
                block
            }
            Progress::Abandoned { block, .. } => {
                let block = block.take();
                self.vacate(index);
                block
            }
            Progress::Free | Progress::Done(_) => return None,
        };
        self.one_less();
        block
    }

    fn one_less(&mut self) {
        self.outstanding -= 1;
        self.finished += 1;
        if self.outstanding == 0 && !self.idle.is_empty() {
            for waiter in self.idle.drain(..) {
                self.tasks -= usize::from(matches!(waiter, Waiter::Task(_)));
                self.due.push(waiter);
            }
        }
    }

    fn vacate(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.progress = Progress::Free;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index as u16);
    }

    /// The outcome of a call, once, if it is there.
    #[inline(always)]
    pub(crate) fn collect(&mut self, ticket: Ticket) -> Option<Result<Answer, CallError>> {
        let entry = &mut self.entries[ticket.index()];
        if !matches!(entry.progress, Progress::Done(_)) {
            return None;
        }
        let Progress::Done(outcome) = std::mem::replace(&mut entry.progress, Progress::Free) else {
            unreachable!("looked at above")
        };
        self.vacate(ticket.index());
        Some(outcome)
    }

    /// Registers who is to be told that the call is done; replaces who was registered before.
    pub(crate) fn register(&mut self, ticket: Ticket, waiter: Waiter) {
        if let Progress::Waiting { waiter: place, .. } = &mut self.entries[ticket.index()].progress {
            self.tasks += usize::from(matches!(waiter, Waiter::Task(_)));
            if let Some(before) = place.replace(waiter) {
                self.tasks -= usize::from(matches!(before, Waiter::Task(_)));
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
            self.tasks += usize::from(matches!(waiter, Waiter::Task(_)));
            self.idle.push(waiter);
        }
    }

    /// This thread no longer waits for anything.
    pub(crate) fn forget_thread(&mut self) {
        let here = std::thread::current().id();
        let is_here = |it: &Waiter| matches!(it, Waiter::Thread(thread) if thread.id() == here);
        self.idle.retain(|it| !is_here(it));
        for entry in &mut self.entries {
            if let Progress::Waiting { waiter, .. } = &mut entry.progress
                && waiter.as_ref().is_some_and(is_here)
            {
                *waiter = None;
            }
        }
    }

    /// The caller no longer waits: asks the callee to cancel, and tells whether the callee has taken the call. None: it was
    /// done already, and its outcome is thrown away.
    pub(crate) fn abandon(&mut self, port: &Port, ticket: Ticket) -> (Option<bool>, Wake) {
        let entry = &mut self.entries[ticket.index()];
        let Progress::Waiting { position, block, waiter } = &mut entry.progress else {
            if let Some(Ok(answer)) = self.collect(ticket) {
                release(port, &answer);
            }
            return (None, Wake::NOBODY);
        };
        let (position, block) = (*position, block.take());
        self.tasks -= usize::from(matches!(waiter, Some(Waiter::Task(_))));
        entry.progress = Progress::Abandoned { position, block };
        match self.sender.check_taken(control::load_taken_through(&port.peer.memory)) {
            Err(violation) => {
                self.accuse(violation);
                (Some(true), Wake::NOBODY)
            }
            Ok(taken) => {
                let started = is_before(position, taken);
                if self.shut.as_ref().is_some_and(Shut::is_final) || self.sender.free() == 0 {
                    return (Some(started), Wake::NOBODY);
                }
                self.sender.publish(&port.outbox.memory, &Slot::short(Kind::Cancel, 0, ticket.0));
                (Some(started), self.look_up(port))
            }
        }
    }

    /// Sends nothing more. The callee is told, if there is room.
    pub(crate) fn close(&mut self, port: &Port) -> Wake {
        if self.shut.is_some() {
            return Wake::NOBODY;
        }
        let room = self.make_room(port, 1).is_ok();
        if self.shut.is_none() {
            self.shut = Some(Shut::Here);
        }
        if !room {
            return Wake::NOBODY;
        }
        self.sender.publish(&port.outbox.memory, &Slot::short(Kind::End, 0, 0));
        self.look_up(port)
    }

    /// Arms a kind of sleep. False: an answer has come meanwhile, and nothing is armed.
    pub(crate) fn arm(&mut self, port: &Port, bit: u64) -> bool {
        self.parked.set(&port.outbox.memory, bit, self.receiver.position());
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

    /// Lets another waiting thread take answers for all, now that Wake::NOBODY does.
    pub(crate) fn promote(&mut self) {
        if self.has_leader {
            return;
        }
        let waiters = self.entries.iter_mut().filter_map(|it| match &mut it.progress {
            Progress::Waiting { waiter, .. } => waiter.as_ref(),
            Progress::Free | Progress::Done(_) | Progress::Abandoned { .. } => None,
        });
        let thread = waiters.chain(&self.idle).find_map(|it| match it {
            Waiter::Thread(thread) => Some(thread.clone()),
            Waiter::Task(_) => None,
        });
        self.due.extend(thread.map(Waiter::Thread));
    }
}

/// Whether `position` lies before `mark`, as positions wrap: they are never further apart than a ring is long.
const fn is_before(position: u32, mark: u32) -> bool {
    (position.wrapping_sub(mark) as i32) < 0
}

/// Tells the callee that an answer's payload is not read any more.
pub(crate) fn release(port: &Port, answer: &Answer) {
    if let Place::Arena { .. } = answer.slot.place() {
        control::store_released(&port.outbox.memory, answer.slot.release_place(), answer.position);
    }
}
