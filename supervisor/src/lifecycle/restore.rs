//! The return of the supervisor: what the store says is taken up where it was left.

use std::sync::Arc;

use mortise_control::Role;

use super::module::{Installed, Module};
use super::operation::{Op, Stage};
use super::slots::Slots;
use super::state::{EVENT_BLOCK, State};
use super::turn::{About, Turn};
use super::worker::{Appointment, Frost, LeaveStage, Leaving, Life, Outcome, Why, Worker, role};
use super::{Action, AdoptOrder, Config, ModuleSpec, Now, Runtime, Timeouts};
use crate::api::{ApiError, Blame, ErrorCode, EventKind, LimitsStatus, OperationState, Request};
use crate::lifecycle::RestartPolicy;
use crate::store::{OccupantRecord, Records, WorkerRecord};

impl State {
    /// The state of a host with this store, and what is to be done first: workers that may still live are adopted,
    /// operations that were under way go on, desired modules start. An empty store gives an empty state.
    #[must_use]
    pub fn restore(config: Config, records: Records, now: &Now) -> (Self, Vec<Action>) {
        let mut turn = Turn::new(now);
        let mut state = Self::empty(config);
        state.meta.record = records.meta;
        state.meta.record.incarnation += 1;
        state.meta.events = records.meta.events_reserved;
        state.meta.record.events_reserved += EVENT_BLOCK;
        turn.tell(EventKind::Supervisor, About::default(), "started");
        for record in records.modules {
            let key = record.key.clone();
            state.operations.next_order = state.operations.next_order.max(record.cohort + 1);
            let beside = record.beside.as_ref().map_or(0, |it| it.cohort.max(it.shadow_run) + 1);
            state.operations.next_order = state.operations.next_order.max(beside);
            state.modules.insert(key.clone(), Module { record, ..Module::new(key) });
        }
        for record in records.versions {
            let module = state.modules.get_or_insert_with(&record.key, || Module::new(record.key.clone()));
            let installed = Installed { spec: Arc::new(record.spec), digest: record.digest, at: record.installed };
            module.versions.insert(installed.spec.version.clone(), installed);
        }
        let keys: Vec<_> = state.modules.keys().cloned().collect();
        for key in &keys {
            state.index(key);
            state.time_kept(key, &mut turn);
        }
        for record in records.tenants {
            state.put_tenant(record);
        }
        state.restore_quotas(&mut turn);
        for record in records.routes {
            state.routes.put(record);
        }
        for record in records.groups {
            state.groups.put(record);
        }
        state.slots = Slots::restore(&records.workers);
        for record in records.workers {
            state.restore_worker(record, &mut turn);
        }
        let mut operations = records.operations;
        operations.sort_by_key(|it| it.order);
        for record in operations {
            let key = match &record.operation.request {
                // They end with their acceptance; they never are under way.
                Request::Install { .. } | Request::SteerSwap { .. } => None,
                request => request
                    .module()
                    .map(|module| super::ModuleKey { tenant: request.tenant().clone(), module: module.clone() }),
            };
            let mut op = Op::new(record.operation, key, record.order);
            op.removes = record.removes;
            op.verdict = record.verdict;
            op.part_of = record.part_of;
            state.operations.insert(op);
        }
        state.resume_operations(&mut turn);
        state.touch_everything();
        state.settle(&mut turn);
        (state, turn.actions)
    }

    fn restore_worker(&mut self, record: WorkerRecord, turn: &mut Turn<'_>) {
        let Some(occupant) = record.occupant else { return };
        let OccupantRecord { key, version, digest, cohort, token, uid, process, restarts, failures, frozen, ended } =
            occupant;
        self.operations.next_order = self.operations.next_order.max(cohort + 1);
        let installed = self.modules.get(&key).and_then(|it| it.versions.get(&version));
        let spec = installed.map_or_else(|| Arc::new(unknown(&key, version)), |it| Arc::clone(&it.spec));
        let role = role(&spec.runtime).unwrap_or(Role::Sdk);
        let said = self.modules.get(&key).map(|it| it.record.limits).unwrap_or_default();
        let made = Appointment { id: record.worker, key: key.clone(), role, spec, digest, cohort, token, uid, said };
        let mut worker = Worker::new(made, turn.now.wall);
        worker.restarts = restarts;
        worker.failures = failures;
        worker.process = process;
        match (ended, process) {
            (Some(ended), _) => {
                worker.life = Life::Settled(ended.kind);
                worker.since = ended.at;
                worker.reason = Some(ended.reason);
            }
            (None, Some((pid, start_time))) => {
                worker.life = Life::Adopting;
                worker.adopted = true;
                worker.pinned = worker.maps().iter().filter_map(|name| self.provided_resource(&key, name)).collect();
                turn.act(Action::Adopt(Box::new(AdoptOrder { spawn: worker.order(), pid, start_time })));
                if frozen {
                    worker.frost = Frost::Frozen;
                    worker.leaving = Some(Leaving { why: Why::Kept, stage: LeaveStage::Kept, flip_over: true });
                } else {
                    self.recovering.insert(worker.id);
                }
            }
            // It was about to be started, or it was between two tries: whatever there is of it goes.
            (None, None) => {
                worker.life = Life::Removing(Outcome::Again);
                turn.act(Action::RemoveGroup { worker: worker.id });
            }
        }
        self.enlist(worker);
    }

    /// A swap that was not committed rolls back; everything else goes on by the rules.
    fn resume_operations(&mut self, turn: &mut Turn<'_>) {
        let swaps: Vec<_> = self
            .operations
            .unended()
            .filter(|it| it.operation.state == OperationState::Running && it.replaces())
            // What a rollback needs is there already: it goes on.
            .filter(|it| !matches!(it.request(), Request::Rollback { .. }))
            .filter(|it| {
                it.key
                    .as_ref()
                    .and_then(|key| self.modules.get(key))
                    .is_some_and(|module| module.record.cohort < it.order)
            })
            .map(|it| it.operation.id.clone())
            .collect();
        for id in swaps {
            let key = self.operations.get(&id).and_then(|it| it.key.clone());
            let incoming = key.and_then(|it| self.incoming(&it));
            // Without a cohort of its own it only waits for the one in charge.
            if incoming.is_none() {
                continue;
            }
            let verdict = self.operations.get(&id).and_then(|it| it.verdict.clone());
            let error = verdict.unwrap_or_else(|| {
                ApiError::new(ErrorCode::Failed, Blame::Host, "the supervisor was restarted before the commit")
                    .remedy("Ask again, with a new operation id.")
            });
            debug_assert!(self.operations.get(&id).is_some_and(|it| it.stage == Stage::Running));
            self.roll_back(&id, error, turn);
        }
    }
}

/// What stands for the module.toml of a worker whose version is not in the store any more. The worker is only removed.
fn unknown(key: &super::ModuleKey, version: semver::Version) -> ModuleSpec {
    ModuleSpec {
        module: key.module.clone(),
        version,
        runtime: Runtime::Sdk,
        provides: Vec::new(),
        requires: Vec::new(),
        maps: Vec::new(),
        instances: 1,
        restart: RestartPolicy::Never,
        crash_limit: None,
        backoff: super::Backoff::default(),
        health: None,
        timeouts: Timeouts {
            start: std::time::Duration::ZERO,
            drain: std::time::Duration::ZERO,
            stop: std::time::Duration::ZERO,
        },
        keep: std::time::Duration::ZERO,
        gates: Vec::new(),
        handover: None,
        limits: LimitsStatus::default(),
    }
}
