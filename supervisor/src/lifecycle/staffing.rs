//! Which workers a module should have: instances of the cohort in charge, of the one beside it, and of the one that a swap is
//! bringing up.
//!
//! Cohorts carry the order number of the operation that made them, so a cohort below the one in charge was superseded and
//! one above it runs beside it, or did until just now, or was never committed.

use std::sync::Arc;

use mortise_control::WorkerId;
use semver::Version;

use super::operation::Stage;
use super::state::State;
use super::step::Step;
use super::turn::{About, Turn};
use super::worker::{Appointment, LeaveStage, Leaving, Life, Outcome, Why, Worker, role};
use super::{ModuleKey, Timer};
use crate::api::{EventKind, Request};

impl State {
    /// The rule for a module: hire who is missing, send away who is not wanted.
    pub(super) fn staff(&mut self, key: &ModuleKey, turn: &mut Turn<'_>) {
        self.recall(key, turn);
        let Some(module) = self.modules.get(key) else { return };
        let (runs, current) = (module.runs(), module.record.cohort);
        let kept = module.record.kept.as_ref().map(|it| it.cohort);
        let standing = module.standing();
        let dismissed = self.dismisses(key);
        let incoming = self.incoming(key);
        // One that has handed its state over must not be called again, whoever is ready.
        let staffed = (self.staffed(key) || self.has_handed_over(key)) && !self.is_held(key);
        let workers: Vec<WorkerId> = module.workers.iter().copied().collect();
        for id in workers {
            let Some(worker) = self.slots.get(id) else { continue };
            let cohort = worker.cohort;
            let idle = !worker.alive() && !matches!(worker.life, Life::Removing(_));
            if self.stopping {
                if idle || self.may_leave(key) {
                    self.leave(id, Why::Stopped, turn);
                }
            } else if incoming.iter().chain(&standing).any(|(it, _)| *it == cohort && cohort > current) {
            } else if cohort > current && !dismissed {
                self.leave(id, Why::RolledBack, turn);
            } else if !runs || cohort > current {
                self.leave(id, Why::Stopped, turn);
            } else if kept == Some(cohort) && (staffed || idle) {
                self.leave(id, Why::Kept, turn);
            } else if cohort < current && kept != Some(cohort) && (staffed || idle || worker.leaving.is_some()) {
                self.leave(id, Why::Superseded, turn);
            }
        }
        if self.stopping {
            return;
        }
        self.expire_kept(key, turn);
        for (cohort, version) in standing {
            self.hire(key, cohort, &version, turn);
            self.dismiss(key, cohort, &version, turn);
        }
        if let Some((cohort, version)) = incoming
            && !self.discards(key)
        {
            self.hire(key, cohort, &version, turn);
        }
    }

    /// Whether workers of a version that was kept are on their way out: no third generation comes before they are gone.
    fn discards(&self, key: &ModuleKey) -> bool {
        let Some(module) = self.modules.get(key) else { return false };
        let mut workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        workers.any(|it| it.cohort < module.record.cohort && it.leaving.is_some())
    }

    /// Whether a cohort above the one in charge is one that has served and is let go, rather than one that never came to.
    fn dismisses(&self, key: &ModuleKey) -> bool {
        let Some(op) = self.operations.on(key).filter(|it| it.accepted()) else { return false };
        let judged = op.verdict.is_some() && op.has_taken(Step::Beside);
        judged || matches!(op.request(), Request::Discard { .. } | Request::Stop { .. })
    }

    /// The cohort that a swap is bringing up and has not committed, with its version.
    pub(super) fn incoming(&self, key: &ModuleKey) -> Option<(u64, Version)> {
        let op = self.operations.on(key)?;
        let module = self.modules.get(key)?;
        let made = op.order <= module.record.cohort || module.is_beside(op.order);
        if !matches!(op.stage, Stage::Running | Stage::Committing) || made {
            return None;
        }
        match op.request() {
            Request::Swap { version, .. } if module.record.version.as_ref() != Some(version) => {
                Some((op.order, version.clone()))
            }
            Request::StartBeside { version, .. } => Some((op.order, version.clone())),
            Request::Restart { .. } => Some((op.order, module.record.version.clone()?)),
            Request::Rollback { .. } => Some((op.order, module.record.kept.as_ref()?.version.clone())),
            _ => None,
        }
    }

    /// Whether the cohort in charge has all its workers ready.
    pub(super) fn staffed(&self, key: &ModuleKey) -> bool {
        let Some(module) = self.modules.get(key) else { return false };
        module.current().is_some_and(|it| self.cohort_ready(key, module.record.cohort, module.wanted(&it.spec)))
    }

    pub(super) fn cohort_ready(&self, key: &ModuleKey, cohort: u64, instances: u32) -> bool {
        let Some(module) = self.modules.get(key) else { return false };
        let workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        workers.filter(|it| it.cohort == cohort && it.stays()).count() >= instances as usize
    }

    fn hire(&mut self, key: &ModuleKey, cohort: u64, version: &Version, turn: &mut Turn<'_>) {
        let Some(module) = self.modules.get(key) else { return };
        let Some(installed) = module.versions.get(version) else { return };
        let Some(role) = role(&installed.spec.runtime) else { return };
        let (spec, digest) = (Arc::clone(&installed.spec), installed.digest.clone());
        let (wanted, said) = (module.wanted(&spec) as usize, module.record.limits);
        let present = module
            .workers
            .iter()
            .filter_map(|it| self.slots.get(*it))
            .filter(|it| it.cohort == cohort && it.leaving.is_none())
            .count();
        for _ in present..wanted {
            let id = self.slots.allot();
            let made = Appointment {
                id,
                key: key.clone(),
                role,
                spec: Arc::clone(&spec),
                digest: digest.clone(),
                cohort,
                token: turn.draw.token(),
                uid: self.config.first_uid.saturating_add(id.slot),
                said,
            };
            self.enlist(Worker::new(made, turn.now.wall));
        }
    }

    /// Workers beyond those that the module should have leave: first who is of no use yet, then the youngest places.
    fn dismiss(&mut self, key: &ModuleKey, cohort: u64, version: &Version, turn: &mut Turn<'_>) {
        let Some(module) = self.modules.get(key) else { return };
        let Some(installed) = module.versions.get(version) else { return };
        let wanted = module.wanted(&installed.spec) as usize;
        let present = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let mut present: Vec<&Worker> = present.filter(|it| it.cohort == cohort && it.leaving.is_none()).collect();
        present.sort_by_key(|it| (!it.stays(), it.id));
        let surplus: Vec<WorkerId> = present.into_iter().skip(wanted).map(|it| it.id).collect();
        for id in surplus {
            self.leave(id, Why::Stopped, turn);
        }
    }

    /// The worker is in the table, its module's list and the indexes.
    pub(super) fn enlist(&mut self, worker: Worker) {
        let id = worker.id;
        for service in worker.called_services() {
            let key = (worker.key.tenant.clone(), service.clone());
            self.index.callers.entry(key).or_default().insert(id);
        }
        if worker.role == mortise_control::Role::Base {
            self.index.bases.insert(id);
        }
        if let Some(module) = self.modules.get_mut(&worker.key) {
            module.workers.insert(id);
        }
        self.slots.occupy(worker);
        self.touched.workers.insert(id);
        self.touched.slots.insert(id.slot);
    }

    /// The worker is in none of them any more. Its slot is free; the record says so with the next save.
    pub(super) fn delist(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.slots.vacate(id)?;
        for service in worker.called_services() {
            let key = (worker.key.tenant.clone(), service.clone());
            if let Some(callers) = self.index.callers.get_mut(&key) {
                callers.remove(&id);
                if callers.is_empty() {
                    self.index.callers.remove(&key);
                }
            }
        }
        self.index.bases.remove(&id);
        self.recovering.remove(&id);
        if let Some(module) = self.modules.get_mut(&worker.key) {
            module.workers.remove(&id);
        }
        self.touched.slots.insert(id.slot);
        for resource in &worker.pinned {
            self.touched.resources.insert(resource.clone());
        }
        self.touch_module(&worker.key);
        if self.stopping {
            // Somebody may have waited for this caller to be gone.
            self.touched.modules.extend(self.modules.keys().cloned());
        }
        Some(worker)
    }

    /// The worker is on its way out, for good.
    pub(super) fn leave(&mut self, id: WorkerId, why: Why, turn: &mut Turn<'_>) {
        let flip_within = self.config.flip_within;
        let Some(worker) = self.slots.get_mut(id) else { return };
        match &mut worker.leaving {
            // Somebody waits for the module to be gone: nobody is given time to take a successor that will not be.
            Some(leaving) if leaving.why == Why::Superseded && !why.makes_way() => leaving.why = why,
            Some(leaving) if leaving.why == Why::Kept && why != Why::Kept => {
                leaving.why = why;
                if leaving.stage == LeaveStage::Kept {
                    leaving.stage = LeaveStage::Withdrawing;
                    leaving.flip_over = true;
                    // A base that has connected again meanwhile counts as one that may use it, and says nothing of it any more.
                    worker.http_timed = false;
                }
            }
            Some(_) => return,
            None => worker.leaving = Some(Leaving { why, stage: LeaveStage::Withdrawing, flip_over: false }),
        }
        if worker.alive() {
            worker.since = turn.now.wall;
            if why.makes_way() {
                turn.timer(Timer::Flip(id), flip_within);
            }
            let text = match why {
                Why::Kept => "leaves, to be kept for a rollback: other workers have taken its place",
                Why::Superseded => "leaves: other workers have taken its place",
                Why::Stopped => "leaves: it is not wanted any more",
                Why::RolledBack => "leaves: it was never put in charge",
            };
            let about = About {
                key: Some(&worker.key),
                version: Some(&worker.spec.version),
                worker: Some(id),
                ..About::default()
            };
            turn.tell(EventKind::Worker, about, text);
        }
        let (key, channels) = (worker.key.clone(), worker.channels.clone());
        if why == Why::RolledBack {
            self.condemn(id, "its cohort was rolled back", turn);
        }
        self.touched.workers.insert(id);
        self.touched.channels.extend(channels);
        self.touched.http = true;
        self.touch_module(&key);
        self.touch_provider(&key);
    }

    /// The same instance again: the same slot, the next generation, a new token.
    pub(super) fn respawn(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.delist(id) else { return };
        if id.generation == u32::MAX {
            return; // the slot is used up; `staff` finds another
        }
        let next = self.slots.reuse(id.slot);
        self.enlist(worker.successor(next, turn.draw.token(), turn.now.wall));
    }

    /// Nothing of the worker is left on the host and it is not tried again.
    pub(super) fn vacate(&mut self, id: WorkerId) {
        if let Some(worker) = self.delist(id)
            && let Some(module) = self.modules.get_mut(&worker.key)
            && worker.process.is_some()
        {
            module.show_ended(super::snapshot::stopped(&worker));
        }
    }

    /// What follows the end of a worker.
    pub(super) fn outcome(&self, worker: &Worker, clean: bool) -> Outcome {
        use super::RestartPolicy::{Always, Never, OnFailure};
        if worker.leaving.is_some() || self.stopping {
            return Outcome::Vacate;
        }
        match worker.spec.restart {
            Never | OnFailure if clean => Outcome::Exit,
            Never => Outcome::Fail { again: false },
            Always | OnFailure => Outcome::Fail { again: true },
        }
    }
}
