//! The fate of calls that are never answered: after a close, a death, a lie.

use super::entry::Progress;
use super::{Calls, is_before};
use crate::arena::Block;
use crate::control;
use crate::port::Port;
use crate::{CallError, Violation};

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
    /// Whether nothing will come from the callee any more.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::PeerGone | Self::Violation(_))
    }
}

impl Calls {
    /// What a call gets that is not sent.
    #[cold]
    pub(super) fn refusal(&self) -> CallError {
        match self.shut {
            None | Some(Shut::Here | Shut::ByCallee) => CallError::Draining,
            Some(Shut::PeerGone) => CallError::NotStarted,
            Some(Shut::Violation(violation)) => CallError::ProtocolViolation(violation),
        }
    }

    /// The callee is gone: everything that it published is delivered, and the fate of the rest is decided.
    #[cold]
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
    #[cold]
    pub(crate) fn accuse(&mut self, violation: Violation) -> CallError {
        let error = CallError::ProtocolViolation(violation);
        self.shut = Some(Shut::Violation(violation));
        for index in 0..self.entries.len() {
            // Blocks are not given back: the callee may still be reading, and nothing is sent any more anyway.
            self.settle(index, &error);
        }
        error
    }

    #[cold]
    pub(super) fn fail_all(&mut self, port: &Port, fate: impl Fn(u32) -> Option<CallError>) {
        for index in 0..self.entries.len() {
            if !self.entries[index].is_under_way() {
                continue;
            }
            let Some(error) = fate(self.entries[index].position) else { continue };
            if let Some(block) = self.settle(index, &error) {
                port.outbox.give(block);
            }
        }
    }

    /// Ends a call that is under way with an error.
    fn settle(&mut self, index: usize, error: &CallError) -> Option<Block> {
        let entry = &mut self.entries[index];
        if !entry.is_under_way() {
            return None;
        }
        let block = entry.block.take();
        if entry.progress == Progress::Abandoned {
            self.vacate(index);
        } else {
            entry.progress = Progress::Done;
            entry.outcome = Some(Err(error.clone()));
            if let Some(waiter) = entry.waiter.take() {
                self.tasks -= usize::from(waiter.is_task());
                self.due.push(waiter);
            }
        }
        self.one_less();
        block
    }
}
