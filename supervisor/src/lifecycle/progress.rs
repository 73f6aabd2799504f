//! How far an operation has come: worked out from the state each time, so that it goes on the same way after the supervisor's
//! death. `docs/operations.md` has the table of steps.

use mortise_control::{ServiceName, WorkerId};
use semver::Version;

use super::callers::may_call;
use super::channel::{Edge, EdgeState, End, Stage as ChannelStage};
use super::journal::Purpose;
use super::operation::Stage;
use super::refusals as refuse;
use super::state::State;
use super::step::Step;
use super::turn::Turn;
use super::worker::{LeaveStage, Life, Worker};
use super::{Action, ModuleKey, Runtime, Timer};
use crate::api::{ApiError, Blame, Desired, ErrorCode, OperationId, Request};
use crate::store::{BesideRecord, Change, EndKind, ModuleRecord};

/// Who keeps a publish from being done.
pub(super) enum Unrouted {
    Nobody,
    Base,
    Caller(WorkerId),
}

impl State {
    /// The rule for an operation.
    pub(super) fn operate(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get(id) else { return };
        // However far a part has come, it may be what the others wait for, and what its old workers stay for may be over.
        if let Some(whole) = &op.part_of {
            self.touched.operations.insert(whole.clone());
            self.touched.modules.extend(op.key.clone());
        }
        let Some(key) = op.key.clone() else {
            if op.stage == Stage::Running && op.concerns_group() && !self.stopping {
                self.operate_group(id, turn);
            } else if op.stage == Stage::Running && op.concerns_routes() && !self.stopping {
                self.operate_routes(id, turn);
            } else if op.stage == Stage::Running && op.concerns_sharing() {
                self.operate_sharing(id, turn);
            } else if op.stage == Stage::Running && op.concerns_tenant() {
                self.operate_tenant(id, turn);
            }
            return;
        };
        match &op.stage {
            Stage::Accepting | Stage::Committing | Stage::Ending(_) | Stage::Ended => return,
            Stage::RollingBack(error) => {
                let error = error.clone();
                return self.operate_roll_back(id, &key, error, turn);
            }
            Stage::Running => {}
        }
        let order = op.order;
        match op.request().clone() {
            Request::Stop { .. } => self.operate_stop(id, &key, turn),
            Request::Discard { .. } => self.operate_discard(id, &key, turn),
            Request::Uninstall { .. } => self.operate_uninstall(id, turn),
            // What is to run goes on when the supervisor has been started again.
            _ if self.stopping => {}
            Request::Install { .. } => self.end_operation(id, Ok(()), turn),
            Request::Start { .. } => self.operate_start(id, &key, turn),
            Request::Scale { .. } => self.operate_scale(id, &key, turn),
            Request::SetLimits { .. } => self.operate_limits(id, &key, turn),
            Request::StartBeside { .. } => match self.incoming(&key) {
                Some((cohort, version)) => self.operate_swap(id, &key, cohort, &version, turn),
                None => self.operate_routing(id, &key, turn),
            },
            Request::Swap { .. } | Request::Restart { .. } | Request::Rollback { .. } => match self.incoming(&key) {
                Some((cohort, version)) if !self.has_no_workers(&key) || self.is_other_version(&key, &version) => {
                    self.operate_swap(id, &key, cohort, &version, turn);
                }
                Some(_) | None if self.modules.get(&key).is_some_and(|it| it.record.cohort == order) => {
                    self.operate_replace(id, &key, turn);
                }
                None if self.modules.get(&key).is_some_and(|it| it.is_beside(order)) => {
                    self.operate_rollout(id, &key, turn);
                }
                // It has put the version beside in charge.
                None if self.operations.get(id).is_some_and(|it| it.has_taken(Step::Commit)) => {
                    self.operate_replace(id, &key, turn);
                }
                Some(_) | None => self.operate_start(id, &key, turn),
            },
            Request::Publish { .. } | Request::Share { .. } | Request::Shadow { .. } => {
                self.operate_routing(id, &key, turn);
            }
            Request::Unpublish { .. } => {
                self.take_step(id, Step::Close, turn);
                if self.is_withdrawn(&key) {
                    self.end_operation(id, Ok(()), turn);
                }
            }
            // Of no module, or done as soon as it is on disk.
            Request::ApplyRoutes { .. }
            | Request::RollbackRoutes { .. }
            | Request::ApplyGroup { .. }
            | Request::RollbackGroup { .. }
            | Request::RemoveGroup { .. }
            | Request::SteerSwap { .. }
            | Request::AddTenant { .. }
            | Request::SetTenant { .. }
            | Request::RemoveTenant { .. }
            | Request::Export { .. }
            | Request::Unexport { .. }
            | Request::Import { .. }
            | Request::Unimport { .. } => {}
        }
    }

    /// Done when whoever may call the module's services can reach every worker that answers them.
    fn operate_routing(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        self.take_step(id, Step::Route, turn);
        let last = self.operations.get(id).and_then(|it| it.unrouted);
        match self.unrouted(key, last) {
            Unrouted::Nobody => self.end_operation(id, Ok(()), turn),
            Unrouted::Base => {}
            Unrouted::Caller(caller) => {
                if let Some(op) = self.operations.get_mut(id) {
                    op.unrouted = Some(caller);
                }
            }
        }
    }

    fn has_no_workers(&self, key: &ModuleKey) -> bool {
        let current = self.modules.get(key).and_then(|it| it.current());
        current.is_some_and(|it| matches!(it.spec.runtime, Runtime::Resource { .. }))
    }

    fn is_other_version(&self, key: &ModuleKey, version: &Version) -> bool {
        self.modules.get(key).is_some_and(|it| it.record.version.as_ref() != Some(version))
    }

    fn operate_start(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        self.take_step(id, Step::Start, turn);
        let Some(module) = self.modules.get(key) else { return };
        let Some(version) = module.record.version.clone() else { return };
        let cohort = module.record.cohort;
        let trouble = self.operations.get(id).and_then(|it| it.trouble.clone());
        if let Some(error) = trouble.or_else(|| self.hopeless(key, cohort)).or_else(|| self.starved(key, cohort)) {
            self.end_operation(id, Err(error), turn);
        } else if self.cohort_serves(key, cohort, &version) {
            self.take_step(id, Step::Ready, turn);
            self.end_operation(id, Ok(()), turn);
        }
    }

    fn operate_scale(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some(module) = self.modules.get(key) else { return };
        let standing = module.standing();
        let workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let leaves = workers.into_iter().any(|it| module.stands(it.cohort) && it.leaving.is_some());
        if standing.is_empty() {
            return self.end_operation(id, Ok(()), turn);
        }
        self.take_step(id, if leaves { Step::Drain } else { Step::Start }, turn);
        let trouble = self.operations.get(id).and_then(|it| it.trouble.clone());
        let fault = |(cohort, _): &(u64, Version)| self.hopeless(key, *cohort).or_else(|| self.starved(key, *cohort));
        let serves = standing.iter().all(|(cohort, version)| self.cohort_serves(key, *cohort, version));
        if let Some(error) = trouble.or_else(|| standing.iter().find_map(fault)) {
            self.end_operation(id, Err(error), turn);
        } else if !leaves && serves && self.peers_let_go(id, turn) {
            self.take_step(id, Step::Ready, turn);
            self.end_operation(id, Ok(()), turn);
        }
    }

    /// Before the commit.
    fn operate_swap(&mut self, id: &OperationId, key: &ModuleKey, cohort: u64, version: &Version, turn: &mut Turn<'_>) {
        let recalls = self.operations.get(id).is_some_and(|it| matches!(it.request(), Request::Rollback { .. }));
        self.take_step(id, if recalls { Step::Thaw } else { Step::Start }, turn);
        let trouble = self.operations.get(id).and_then(|it| it.trouble.clone());
        if let Some(error) = trouble.or_else(|| self.hopeless(key, cohort)).or_else(|| self.starved(key, cohort)) {
            self.roll_back(id, error, turn);
        } else if self.cohort_serves(key, cohort, version) {
            self.take_step(id, Step::Ready, turn);
            if self.operations.get(id).is_some_and(|it| it.part_of.is_none()) && self.hand_over(id, key, cohort, turn) {
                self.commit_swap(id, turn);
            }
        }
    }

    /// Puts the incoming cohort in charge, or beside the one that is, as soon as that is on disk.
    pub(super) fn commit_swap(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get(id) else { return };
        let (request, key) = (op.request().clone(), op.key.clone());
        let Some(key) = key else { return };
        let Some((cohort, version)) = self.incoming(&key) else { return };
        let by_steps = matches!(request, Request::Swap { rollout: Some(_), .. });
        self.take_step(id, if by_steps { Step::Beside } else { Step::Commit }, turn);
        let kept = self.keeps_after(&key, &request, turn.now.wall);
        let (Some(module), Some(op)) = (self.modules.get(&key), self.operations.get_mut(id)) else { return };
        let record = match request {
            Request::StartBeside { .. } | Request::Swap { rollout: Some(_), .. } => {
                let beside = Some(BesideRecord::new(version, cohort));
                ModuleRecord { beside, ..module.record.clone() }
            }
            // A module of a group may not have run before.
            _ => ModuleRecord {
                desired: Desired::Running,
                version: Some(version),
                cohort,
                kept,
                ..module.record.clone()
            },
        };
        op.stage = Stage::Committing;
        let changes = [Change::PutModule(record.clone()), Change::PutOperation(Box::new(op.record()))];
        self.journal.stage(Purpose::Commit(id.clone(), record), changes);
    }

    /// The commit is on disk: the new cohort is in charge, and there is no way back.
    pub(super) fn committed(&mut self, id: &OperationId, record: ModuleRecord, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        op.stage = Stage::Running;
        op.trouble = None;
        // Nothing flips where a version has come beside another, or gets more.
        let (flips, verdict) = (record.cohort == op.order, op.verdict.clone());
        let key = record.key.clone();
        self.apply(Change::PutModule(record));
        self.time_kept(&key, turn);
        match verdict {
            Some(error) => self.roll_back(id, error, turn),
            None if flips => self.take_step(id, Step::Flip, turn),
            None => {}
        }
        self.release_held(id, turn);
    }

    /// After the commit: the old cohort goes.
    fn operate_replace(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        self.take_step(id, Step::Flip, turn);
        let Some(module) = self.modules.get(key) else { return };
        let cohort = module.record.cohort;
        let kept = module.record.kept.as_ref().map(|it| it.until);
        let before = module.workers.iter().filter_map(|it| self.slots.get(*it)).filter(|it| it.cohort < cohort);
        let (rest, old): (Vec<&Worker>, Vec<&Worker>) = before.partition(|it| self.rests(it));
        let frozen_until = kept.filter(|_| !rest.is_empty());
        if old.is_empty() {
            self.take_step(id, if frozen_until.is_none() { Step::CleanUp } else { Step::Freeze }, turn);
            if let Some(op) = self.operations.get_mut(id) {
                op.receipt.frozen_until = frozen_until;
            }
            if self.cohort_settled(key, cohort) && self.peers_let_go(id, turn) {
                let result = self.hopeless(key, cohort).map_or(Ok(()), Err);
                self.end_operation(id, result, turn);
            }
            return;
        }
        let leaves = |it: &&Worker| it.leaving.as_ref().is_some_and(|it| it.stage != LeaveStage::Withdrawing);
        if !old.iter().any(|it| it.alive()) {
            self.take_step(id, Step::CleanUp, turn);
        } else if old.iter().all(|it| leaves(it) || !it.alive()) {
            self.take_step(id, Step::Drain, turn);
        } else if old.iter().all(|it| it.leaving.is_none())
            && let Some(mut error) = self.hopeless(key, cohort)
        {
            error.message =
                format!("after the commit {}; the workers of the earlier version go on serving", error.message);
            self.end_operation(id, Err(error), turn);
        }
    }

    fn cohort_settled(&self, key: &ModuleKey, cohort: u64) -> bool {
        let version = self.modules.get(key).and_then(|it| it.record.version.as_ref());
        version.is_some_and(|it| self.cohort_serves(key, cohort, it)) || self.hopeless(key, cohort).is_some()
    }

    fn operate_roll_back(&mut self, id: &OperationId, key: &ModuleKey, error: ApiError, turn: &mut Turn<'_>) {
        let Some(module) = self.modules.get(key) else { return };
        let left =
            module.workers.iter().filter_map(|it| self.slots.get(*it)).any(|it| it.cohort > module.record.cohort);
        if !left && self.peers_let_go(id, turn) {
            self.end_operation(id, Err(error), turn);
        }
    }

    /// A swap goes back to what was before.
    pub(super) fn roll_back(&mut self, id: &OperationId, mut error: ApiError, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        let key = op.key.clone();
        error.message = format!("{}; rolled back, the workers that were there go on", error.message);
        op.stage = Stage::RollingBack(error);
        self.end_handover(id, turn);
        self.take_step(id, Step::RollBack, turn);
        if let Some(key) = key {
            self.touch_module(&key);
        }
    }

    fn operate_stop(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some(module) = self.modules.get(key) else { return };
        let alive = module.workers.iter().filter_map(|it| self.slots.get(*it)).any(Worker::alive);
        self.take_step(id, if alive { Step::Drain } else { Step::CleanUp }, turn);
        let empty = self.modules.get(key).is_some_and(|it| it.workers.is_empty());
        if empty && self.peers_let_go(id, turn) {
            self.end_operation(id, Ok(()), turn);
        }
    }

    fn operate_discard(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some(module) = self.modules.get(key) else { return };
        let left = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let left: Vec<&Worker> = left.filter(|it| it.cohort != module.record.cohort).collect();
        let alive = left.iter().any(|it| it.alive());
        let empty = left.is_empty();
        self.take_step(id, if alive { Step::Drain } else { Step::CleanUp }, turn);
        if empty && self.peers_let_go(id, turn) {
            self.end_operation(id, Ok(()), turn);
        }
    }

    fn operate_uninstall(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        self.take_step(id, Step::RemovePackage, turn);
        let Some(op) = self.operations.get_mut(id) else { return };
        if !op.ordered {
            op.ordered = true;
            let (tenant, digests) = (op.request().tenant().clone(), op.removes.clone());
            turn.act(Action::RemovePackage { operation: id.clone(), tenant, digests });
        }
    }

    pub(super) fn package_removed(&mut self, id: &OperationId, result: Result<u64, String>, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        if !op.ordered || op.stage != Stage::Running {
            return;
        }
        let result = match result {
            Ok(bytes) => {
                op.receipt.disk_bytes = bytes;
                Ok(())
            }
            Err(reason) => {
                let message =
                    format!("{} is unregistered, but its package could not be removed: {reason}", op.subject());
                op.receipt.still_held.extend(op.removes.iter().map(|it| format!("package {it} on disk")));
                Err(ApiError::new(ErrorCode::Failed, Blame::Host, message)
                    .remedy("Mend the state directory's disk, then remove the package's files there."))
            }
        };
        self.end_operation(id, result, turn);
    }

    /// Whether a cohort does what it is there for.
    pub(super) fn cohort_serves(&self, key: &ModuleKey, cohort: u64, version: &Version) -> bool {
        let Some(module) = self.modules.get(key) else { return false };
        let Some(installed) = module.versions.get(version) else { return false };
        match installed.spec.runtime {
            Runtime::Resource { .. } => self.all_loaded(key, version),
            Runtime::Sdk | Runtime::Http | Runtime::Base => {
                self.cohort_ready(key, cohort, module.wanted(&installed.spec))
            }
        }
    }

    /// Why a cohort will not become ready by itself.
    pub(super) fn hopeless(&self, key: &ModuleKey, cohort: u64) -> Option<ApiError> {
        let module = self.modules.get(key)?;
        let workers = module.workers.iter().filter_map(|it| self.slots.get(*it)).filter(|it| it.cohort == cohort);
        workers.into_iter().find_map(|it| {
            let reason = it.reason.as_deref().unwrap_or("no reason is known");
            match it.life {
                Life::Settled(EndKind::Failed) => {
                    Some(refuse::failed(Blame::Module, format!("worker {} failed: {reason}", it.id)))
                }
                Life::Settled(EndKind::Exited) => {
                    Some(refuse::failed(Blame::Module, format!("worker {} exited: {reason}", it.id)))
                }
                _ => None,
            }
        })
    }

    /// The resource that a cohort waits for in vain.
    pub(super) fn starved(&self, key: &ModuleKey, cohort: u64) -> Option<ApiError> {
        let module = self.modules.get(key)?;
        let mut waiting = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let worker = waiting.find(|it| it.cohort == cohort && it.life == Life::Waiting)?;
        worker.maps().iter().find_map(|name| match self.provided_resource(key, name) {
            None => Some(refuse::no_resource(key, name)),
            Some(id) => match self.resources.get(&id) {
                Some(super::resources::Resource::Failed { reason, .. }) => Some(refuse::failed(
                    Blame::Module,
                    format!("{key} maps resource {name}, which could not be loaded: {reason}"),
                )),
                _ => None,
            },
        })
    }

    /// A worker has failed: the operation that waits for it fails.
    pub(super) fn trouble(&mut self, key: &ModuleKey, cohort: u64, text: &str) {
        let Some(current) = self.modules.get(key).map(|it| it.record.cohort) else { return };
        let Some(op) = self.operations.on_mut(key) else { return };
        let awaited = match op.request() {
            Request::Start { .. } | Request::Scale { .. } => cohort == current,
            Request::Swap { .. } | Request::StartBeside { .. } | Request::Restart { .. } | Request::Rollback { .. }
                if op.order > current =>
            {
                cohort == op.order
            }
            _ => false,
        };
        if awaited && matches!(op.stage, Stage::Running | Stage::Committing) {
            op.trouble.get_or_insert_with(|| {
                refuse::failed(Blame::Module, format!("{key}: {text}"))
                    .remedy(format!("`mortise logs {}` shows what it printed.", key.module))
            });
        }
    }

    /// Whether peers have let go of what they had mapped of the workers that ended. They get a time for it; after that, the
    /// receipt says what they hold.
    fn peers_let_go(&mut self, id: &OperationId, turn: &mut Turn<'_>) -> bool {
        let within = self.config.receipt_within;
        let Some(op) = self.operations.get(id) else { return true };
        let stops = matches!(op.request(), Request::Stop { .. });
        let keeps = op.key.as_ref().filter(|_| stops).is_some_and(|it| self.resources_of(it).next().is_some());
        if op.receipt_closed || (op.awaits.is_empty() && !keeps) {
            return true;
        }
        let Some(op) = self.operations.get_mut(id) else { return true };
        if !op.receipt_timer {
            op.receipt_timer = true;
            turn.timer(Timer::Receipt(id.clone()), within);
        }
        false
    }

    pub(super) fn close_receipt(&mut self, id: &OperationId) {
        let Some(op) = self.operations.get_mut(id) else { return };
        if !op.receipt_timer {
            return;
        }
        op.receipt_closed = true;
        if let (Request::Stop { .. }, Some(key)) = (op.request(), op.key.clone()) {
            let held: Vec<String> = self
                .resources_of(&key)
                .flat_map(|id| self.mappers(id).map(move |it| (id, it)))
                .map(|(id, it)| format!("{} (worker {}) still maps resource {}", it.key, it.id, id.resource))
                .collect();
            if let Some(op) = self.operations.get_mut(id) {
                op.receipt.still_held.extend(held);
            }
        }
        let Some(op) = self.operations.get_mut(id) else { return };
        for channel in std::mem::take(&mut op.awaits) {
            let Some(known) = self.channels.get(&channel) else { continue };
            let holders = super::channel::ROLES.into_iter().filter(|it| known.end(*it) != End::Released);
            for role in holders {
                let worker = known.worker(role);
                let name = self.slots.get(worker).map_or_else(|| "a module".to_owned(), |it| it.key.to_string());
                let text = format!("{name} (worker {worker}) still maps channel {channel} ({})", known.edge.service);
                op.receipt.still_held.push(text);
            }
        }
        self.touched.operations.insert(id.clone());
    }

    /// Who has not been routed yet to the workers of a module, if anybody. The search begins where it ended the last time,
    /// so that a thousand callers are not looked at a thousand times.
    pub(super) fn unrouted(&self, key: &ModuleKey, last: Option<WorkerId>) -> Unrouted {
        let Some(module) = self.modules.get(key) else { return Unrouted::Nobody };
        let Some(installed) = module.current() else { return Unrouted::Nobody };
        let published = installed.spec.provides.iter().filter(|it| module.record.published.contains(&it.service));
        for provided in published {
            if provided.http.is_some() {
                if !self.http_in_force() {
                    return Unrouted::Base;
                }
                continue;
            }
            let service = &provided.service;
            let first = last.unwrap_or(WorkerId { slot: 0, generation: 0 });
            for callers in self.callers_of(&key.tenant, service) {
                let mut callers = callers.range(first..).chain(callers.range(..first));
                if let Some(caller) = callers.find(|it| self.lacks(**it, key, service)) {
                    return Unrouted::Caller(*caller);
                }
            }
        }
        Unrouted::Nobody
    }

    /// Whether a caller can take routes to a service of the module and does not have them.
    pub(super) fn lacks(&self, caller: WorkerId, key: &ModuleKey, service: &ServiceName) -> bool {
        let caller = self.slots.get(caller).filter(|it| it.takes_routes());
        let meant = caller.filter(|it| self.publisher(&it.key.tenant, service) == Some(key));
        meant.is_some_and(|it| !self.is_routed_to(it, key, service))
    }

    fn is_routed_to(&self, caller: &Worker, key: &ModuleKey, service: &ServiceName) -> bool {
        if !caller.has_taken_routes() {
            return false;
        }
        let Some(module) = self.modules.get(key) else { return true };
        let callees = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let may_call = |it: &Worker| it.spec.provided(service).is_none_or(|offered| may_call(caller, it, offered));
        let called = |it: &&Worker| it.key != caller.key && it.stays() && it.connected() && may_call(it);
        callees.filter(|it| called(it) && module.stands(it.cohort)).all(|callee| {
            let edge = Edge { caller: caller.id, callee: callee.id, service: service.clone() };
            match self.edges.get(&edge) {
                None => false,
                Some(EdgeState::Waiting | EdgeState::Parted) => true,
                Some(EdgeState::Channel(id)) => self.channels.get(id).is_some_and(|it| it.stage == ChannelStage::Open),
            }
        })
    }

    /// Whether no new call can reach a service of the module that is not published.
    fn is_withdrawn(&self, key: &ModuleKey) -> bool {
        let Some(module) = self.modules.get(key) else { return true };
        let workers: Vec<WorkerId> = module.workers.iter().copied().collect();
        let reachable = workers.iter().filter_map(|it| self.slots.get(*it)).any(|worker| {
            let open = worker.channels.iter().filter_map(|it| self.channels.get(it)).any(|it| {
                it.edge.callee == worker.id
                    && it.callee != End::Released
                    && !module.record.published.contains(&it.edge.service)
            });
            open || !worker.reported.is_empty() || self.recovering.contains(&worker.id)
        });
        !reachable && self.http_in_force()
    }

    /// Operations that wait for channels and routes of others look again.
    pub(super) fn touch_routing_operations(&mut self) {
        let waiting: Vec<OperationId> =
            self.operations.unended().filter(|it| it.awaits_routes()).map(|it| it.operation.id.clone()).collect();
        self.touched.operations.extend(waiting);
    }
}
