//! What is on its way to the disk, and what follows when it is there or is known not to be.
//!
//! Everything that one call of `step` wants to save goes into one transaction. Transactions end in the order in which they were
//! asked for. A change that an operation depends on is part of its own purpose; records that only mirror the state (workers,
//! steps of operations) are compared with what is on disk and saved again until they are the same.

use std::collections::VecDeque;

use super::state::State;
use super::turn::Turn;
use super::{Action, CommitId, Timer};
use crate::api::{ApiError, Blame, ErrorCode, OperationId};
use crate::store::{Change, GroupRecord, MetaRecord, ModuleRecord, WorkerRecord};

#[derive(Debug, Default)]
pub(super) struct Journal {
    next: u64,
    flight: VecDeque<Flight>,
    staged: Vec<Change>,
    purposes: Vec<Purpose>,
    /// The store has failed: what only mirrors the state waits for the timer.
    paused: bool,
}

#[derive(Debug)]
struct Flight {
    commit: CommitId,
    purposes: Vec<Purpose>,
}

/// Why something is saved.
#[derive(Debug)]
pub(super) enum Purpose {
    /// An operation is accepted.
    Accept(OperationId),
    /// A swap is committed: from here on it rolls forward.
    Commit(OperationId, ModuleRecord),
    /// A group is as its operation declares, together with the commits of its parts.
    Declare(OperationId, GroupRecord),
    /// An operation's steps, or its end.
    Operation(OperationId),
    /// A slot of the worker table.
    Worker(WorkerRecord),
    /// The counters.
    Meta(MetaRecord),
}

impl Journal {
    pub(super) fn stage(&mut self, purpose: Purpose, changes: impl IntoIterator<Item = Change>) {
        self.staged.extend(changes);
        self.purposes.push(purpose);
    }

    /// The number of the transaction that is being put together.
    pub(super) fn coming(&self) -> CommitId {
        CommitId(self.next)
    }

    pub(super) fn idle(&self) -> bool {
        self.flight.is_empty() && self.purposes.is_empty()
    }

    fn send(&mut self, turn: &mut Turn<'_>) {
        if self.purposes.is_empty() {
            return;
        }
        let commit = self.coming();
        self.next += 1;
        self.flight.push_back(Flight { commit, purposes: std::mem::take(&mut self.purposes) });
        turn.act(Action::Persist { commit, changes: std::mem::take(&mut self.staged) });
    }
}

impl State {
    /// The last rule of every turn: what is not on disk as it should be goes there.
    pub(super) fn save(&mut self, turn: &mut Turn<'_>) {
        if !self.journal.paused {
            self.save_meta();
            while let Some(slot) = self.touched.slots.pop_first() {
                let coming = self.journal.coming();
                let Some(place) = self.slots.slot_mut(slot) else { continue };
                if place.unsaved(slot)
                    && let Some(record) = place.record(slot)
                {
                    place.writing = Some(coming);
                    self.journal.stage(Purpose::Worker(record.clone()), [Change::PutWorker(record)]);
                }
            }
            for (id, change) in self.operations.write() {
                self.journal.stage(Purpose::Operation(id), [change]);
            }
        }
        self.journal.send(turn);
    }

    fn save_meta(&mut self) {
        if !self.meta.writing && self.meta.saved != Some(self.meta.record) {
            self.meta.writing = true;
            self.journal.stage(Purpose::Meta(self.meta.record), [Change::PutMeta(self.meta.record)]);
        }
    }

    pub(super) fn persisted(&mut self, commit: CommitId, result: &Result<(), String>, turn: &mut Turn<'_>) {
        if self.journal.flight.front().is_none_or(|it| it.commit != commit) {
            return;
        }
        let Some(flight) = self.journal.flight.pop_front() else { return };
        if result.is_err() && !self.journal.paused {
            self.journal.paused = true;
            turn.timer(Timer::Persist, self.config.retry_after);
        }
        if result.is_ok() && self.journal.paused {
            self.persist_again();
        }
        for purpose in flight.purposes {
            self.purpose_ended(purpose, commit, result, turn);
        }
    }

    fn purpose_ended(&mut self, purpose: Purpose, commit: CommitId, result: &Result<(), String>, turn: &mut Turn<'_>) {
        match (purpose, result) {
            (Purpose::Accept(id), Ok(())) => self.accepted(&id, turn),
            (Purpose::Accept(id), Err(reason)) => self.not_accepted(&id, storage(reason), turn),
            (Purpose::Commit(id, record), Ok(())) => self.committed(&id, record, turn),
            (Purpose::Commit(id, _), Err(reason)) => {
                if !self.stall_rollout(&id, turn) {
                    self.roll_back(&id, storage(reason), turn);
                }
                self.release_held(&id, turn);
            }
            (Purpose::Declare(id, record), Ok(())) => self.group_committed(&id, record, turn),
            // Its parts say so.
            (Purpose::Declare(..), Err(_)) => {}
            (Purpose::Operation(id), Ok(())) => self.operation_saved(&id, turn),
            (Purpose::Operation(id), Err(_)) => self.operations.not_saved(&id),
            (Purpose::Worker(record), _) => {
                let slot = record.worker.slot;
                let Some(place) = self.slots.slot_mut(slot) else { return };
                if place.writing == Some(commit) {
                    place.writing = None;
                }
                if result.is_ok() {
                    place.saved = Some(record);
                }
                if let Some(worker) = &place.worker {
                    self.touched.workers.insert(worker.id);
                }
                self.touched.slots.insert(slot);
            }
            (Purpose::Meta(record), _) => {
                self.meta.writing = false;
                if result.is_ok() {
                    let first = self.meta.saved.is_none();
                    self.meta.saved = Some(record);
                    if first {
                        self.touch_all_routes();
                    }
                }
            }
        }
    }

    /// The pause after a failure of the store is over.
    pub(super) fn persist_again(&mut self) {
        self.journal.paused = false;
        let slots: Vec<u32> = self.slots.numbers().collect();
        self.touched.slots.extend(slots);
    }
}

fn storage(reason: &str) -> ApiError {
    ApiError::new(ErrorCode::Storage, Blame::Host, format!("the state could not be written to disk: {reason}"))
        .remedy("Nothing was changed. Make room on the state directory's disk or mend it, then ask again.")
}
