//! A version that was replaced and is kept for a rollback: frozen when nobody calls it, thawed to take its place again or to end.
//!
//! ```text
//!   Withdrawing ──nobody calls it──▶ Kept: lets its own channels go ──▶ Recording ──on disk──▶ Freezing ──▶ Frozen
//!                                                                          rollback, discard, stop, swap:  Thawing ──▶ as any other
//! ```
//!
//! That a worker is frozen is on disk before it is: a supervisor that comes later does not wait for its hello.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mortise_control::WorkerId;

use super::operation::Op;
use super::state::State;
use super::turn::Turn;
use super::worker::{Frost, LeaveStage, Life, Link, Why, Worker};
use super::workers::about;
use super::{Action, ModuleKey, Runtime, Timer};
use crate::api::{EventKind, KeptStatus, OperationId, Request};
use crate::store::KeptRecord;

impl Worker {
    /// Whether it is one of a version that is kept, and nobody calls it any more.
    pub(super) fn is_kept(&self) -> bool {
        self.leaving.as_ref().is_some_and(|it| it.why == Why::Kept && it.stage == LeaveStage::Kept)
    }
}

impl State {
    /// What a swap or a rollback keeps of the version that it replaces. A base holds clients' connections, and what only
    /// has resources has no workers: neither is kept.
    pub(super) fn keeps_after(&self, key: &ModuleKey, request: &Request, now: Timestamp) -> Option<KeptRecord> {
        let module = self.modules.get(key)?;
        let current = module.current()?;
        let asked = match request {
            Request::Swap { keep_ms, .. } | Request::Rollback { keep_ms, .. } => keep_ms.map(Duration::from_millis),
            _ => return None,
        };
        let keep = asked.unwrap_or(current.spec.keep);
        if keep.is_zero() || matches!(current.spec.runtime, Runtime::Base | Runtime::Resource { .. }) {
            return None;
        }
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let until = now.checked_add(keep).unwrap_or(Timestamp::MAX);
        Some(KeptRecord { version: current.spec.version.clone(), cohort: module.record.cohort, until })
    }

    /// The time of a kept version begins, or goes on in this life of the supervisor.
    pub(super) fn time_kept(&self, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some(kept) = self.modules.get(key).and_then(|it| it.record.kept.as_ref()) else { return };
        let left = Duration::try_from(kept.until.duration_since(turn.now.wall)).unwrap_or_default();
        turn.timer(Timer::Keep { key: key.clone(), cohort: kept.cohort }, left);
    }

    /// The time of a kept version is over: it is discarded as soon as no operation has the module.
    pub(super) fn keep_over(&mut self, key: &ModuleKey, cohort: u64) {
        let Some(module) = self.modules.get_mut(key) else { return };
        if module.record.kept.as_ref().is_some_and(|it| it.cohort == cohort) {
            module.keep_over = true;
            self.touched.modules.insert(key.clone());
        }
    }

    /// The rule for a module whose kept version has had its time: an operation like any other, asked by nobody.
    pub(super) fn expire_kept(&mut self, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some(module) = self.modules.get(key) else { return };
        if !module.keep_over || self.stopping || self.operations.on(key).is_some() {
            return;
        }
        let (tenant, name) = (key.tenant.clone(), key.module.clone());
        if let Some(module) = self.modules.get_mut(key) {
            module.keep_over = false;
        }
        let Ok(plan) = self.plan_discard(&tenant, &name) else { return };
        let id = OperationId(format!("keep-{:016x}", turn.draw.number()));
        let request = Request::Discard { tenant, module: name };
        let op = Op::begun(id, request, Some(key.clone()), self.operations.next_order, turn.now.wall);
        self.propose_plan(op, plan, turn);
    }

    /// A rollback takes the workers that are kept as its own cohort. They have been ready; now they show it again.
    pub(super) fn recall(&mut self, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.on(key) else { return };
        let Some(module) = self.modules.get(key) else { return };
        let Some(kept) = &module.record.kept else { return };
        let cohort = op.order;
        if !matches!(op.request(), Request::Rollback { .. }) || self.incoming(key).is_none() {
            return;
        }
        let kept_workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let recalled: Vec<WorkerId> = kept_workers
            .filter(|it| [kept.cohort, cohort].contains(&it.cohort) && it.is_kept() && it.alive())
            .map(|it| it.id)
            .collect();
        for id in recalled {
            let Some(worker) = self.slots.get_mut(id) else { continue };
            worker.cohort = cohort;
            worker.leaving = None;
            worker.ready = false;
            worker.http_timed = false;
            worker.since = turn.now.wall;
            let start = worker.spec.timeouts.start;
            turn.tell(EventKind::Worker, about(worker), "is thawed: it takes its place again");
            turn.timer(Timer::Ready(id), start);
            self.touched.workers.insert(id);
            self.touched.slots.insert(id.slot);
            self.touched.callers.insert(id);
        }
    }

    /// The rule for a worker that is, or is to be, frozen. False: something is on its way, and nothing else is done with it.
    pub(super) fn advance_frost(&mut self, id: WorkerId, turn: &mut Turn<'_>) -> bool {
        let Some(worker) = self.slots.get(id) else { return true };
        let wanted = worker.is_kept();
        let free = worker.channels.is_empty() && worker.reported.is_empty();
        let saved = self.slots.slot(id.slot).is_some_and(|it| it.saved == it.record(id.slot));
        let (frost, greeted) = (worker.frost, worker.connected());
        let Some(worker) = self.slots.get_mut(id) else { return true };
        match (frost, wanted) {
            (Frost::None, false) => return true,
            (Frost::None, true) if free => {
                worker.frost = Frost::Recording;
                self.touched.slots.insert(id.slot);
                self.touched.workers.insert(id);
            }
            (Frost::Recording, true) if saved => {
                worker.frost = Frost::Freezing;
                turn.act(Action::Freeze { worker: id });
            }
            (Frost::Recording, false) => {
                worker.frost = Frost::None;
                self.can_be_spoken_to(id, turn);
            }
            (Frost::Frozen, false) => {
                worker.frost = Frost::Thawing;
                turn.act(Action::Thaw { worker: id });
                if !greeted {
                    turn.timer(Timer::Reconnect(id), self.config.reconnect_within);
                }
                self.touched.slots.insert(id.slot);
            }
            (Frost::None | Frost::Recording | Frost::Frozen, true) | (Frost::Freezing | Frost::Thawing, _) => {}
        }
        false
    }

    pub(super) fn frozen(&mut self, id: WorkerId, memory_bytes: u64, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.frost != Frost::Freezing {
            return;
        }
        worker.frost = Frost::Frozen;
        worker.since = turn.now.wall;
        let (key, kept) = (worker.key.clone(), worker.is_kept());
        turn.tell(EventKind::Worker, about(worker), "frozen: kept for a rollback");
        if let Some(op) = self.operations.on_mut(&key).filter(|_| kept) {
            op.receipt.frozen += 1;
            op.receipt.frozen_bytes += memory_bytes;
        }
        self.touched.workers.insert(id);
        self.touch_module(&key);
    }

    pub(super) fn thawed(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        if self.slots.get(id).is_some_and(|it| it.frost == Frost::Thawing)
            && let Some(worker) = self.slots.get_mut(id)
        {
            worker.frost = Frost::None;
            self.can_be_spoken_to(id, turn);
        }
    }

    /// It is not frozen (any more). One that takes its place again is asked whether it is well before it counts as ready.
    fn can_be_spoken_to(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.leaving.is_none() && !worker.ready && worker.connected() {
            let nonce = turn.draw.number();
            worker.ping = Some(nonce);
            turn.act(Action::SendPing { worker: id, nonce });
        }
        let key = worker.key.clone();
        self.touched.workers.insert(id);
        self.touched.slots.insert(id.slot);
        self.touched.callers.insert(id);
        self.touch_module(&key);
        self.touch_provider(&key);
    }

    /// Its group could not be frozen or thawed: it cannot be kept, or is of no use.
    pub(super) fn frost_failed(&mut self, id: WorkerId, reason: &str, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        match worker.frost {
            Frost::Freezing => {
                worker.frost = Frost::None;
                let key = worker.key.clone();
                turn.tell(EventKind::Worker, about(worker), format!("could not be frozen, so it ends: {reason}"));
                self.touched.slots.insert(id.slot);
                self.leave(id, Why::Superseded, turn);
                self.touch_module(&key);
            }
            Frost::Thawing => self.condemn(id, format!("its group could not be thawed: {reason}"), turn),
            Frost::None | Frost::Recording | Frost::Frozen => {}
        }
    }

    /// Whether nothing more happens to a worker of a replaced cohort until its time is over.
    pub(super) fn rests(&self, worker: &Worker) -> bool {
        worker.is_kept() && worker.frost == Frost::Frozen && worker.life == Life::Running
    }

    /// What is shown of a worker that is kept.
    pub(super) fn kept_status(&self, worker: &Worker) -> Option<KeptStatus> {
        let kept = self.modules.get(&worker.key)?.record.kept.as_ref()?;
        (kept.cohort == worker.cohort && self.rests(worker)).then(|| KeptStatus {
            until: kept.until,
            maps: worker.pinned.iter().map(|it| it.resource.clone()).collect(),
        })
    }

    /// Workers of the version that is kept, frozen or on their way to it.
    pub(super) fn kept_workers(&self, key: &ModuleKey) -> impl Iterator<Item = &Worker> {
        let module = self.modules.get(key);
        let cohort = module.and_then(|it| it.record.kept.as_ref()).map(|it| it.cohort);
        let workers = module.into_iter().flat_map(|it| &it.workers).filter_map(|it| self.slots.get(*it));
        workers.filter(move |it| Some(it.cohort) == cohort && it.alive() && it.condemned.is_none())
    }

    /// A thawed worker is well, it says: it is ready again.
    pub(super) fn well_again(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.frost == Frost::None && worker.link == Link::Connected && !worker.ready {
            worker.since = turn.now.wall;
            self.become_ready(id, turn);
        }
    }
}
