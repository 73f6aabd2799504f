//! Operations, as the supervisor carries them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mortise_control::{ChannelId, GroupName, TenantName, WorkerId};

use super::handover::Handing;
use super::rollout::Progress;
use super::state::State;
use super::step::Step;
use super::turn::{About, Turn};
use super::{Action, ModuleKey, Submitted, Ticket};
use crate::api::{ApiError, EventKind, Operation, OperationId, OperationState, Receipt, Request, Steering, StepRecord};
use crate::store::{Change, OperationRecord};

#[derive(Debug, Default)]
pub(super) struct Operations {
    all: BTreeMap<OperationId, Op>,
    /// The operation that has a module to itself.
    pub(super) locks: BTreeMap<ModuleKey, OperationId>,
    /// The operation that has a tenant's routes to itself.
    tables: BTreeMap<TenantName, OperationId>,
    /// The operation that has a group to itself.
    groups: BTreeMap<(TenantName, GroupName), OperationId>,
    /// The operation that declares, changes or takes away a tenant.
    tenants: BTreeMap<TenantName, OperationId>,
    /// Operations whose form on disk is older than the one here.
    pub(super) unsaved: BTreeSet<OperationId>,
    /// Operations that have ended, oldest first.
    ended: BTreeMap<u64, OperationId>,
    pub(super) next_order: u64,
}

#[derive(Debug)]
pub(super) struct Op {
    /// As it is shown.
    pub(super) operation: Operation,
    /// The module it works on; none for routes, and for an install of an earlier life, which has ended.
    pub(super) key: Option<ModuleKey>,
    pub(super) order: u64,
    pub(super) stage: Stage,
    /// Uninstall: packages to be removed.
    pub(super) removes: Vec<String>,
    pub(super) receipt: Receipt,
    /// Publish: a caller that had no routes the last time it was looked at.
    pub(super) unrouted: Option<WorkerId>,
    /// Channels of ended workers that a peer has not let go of.
    pub(super) awaits: BTreeSet<ChannelId>,
    /// What went wrong with the workers it is about.
    pub(super) trouble: Option<ApiError>,
    /// A swap: why what it has started is to end, though it came so far.
    pub(super) verdict: Option<ApiError>,
    /// A swap by steps: how far its step is.
    pub(super) rollout: Progress,
    /// A swap that hands state over: how far that is.
    pub(super) handover: Option<Handing>,
    /// What would steer it, and waits until a change of it is on disk.
    pub(super) held: Vec<Submitted>,
    /// The time for peers to let go has begun.
    pub(super) receipt_timer: bool,
    /// That time is over.
    pub(super) receipt_closed: bool,
    /// The removal of its packages has been ordered in this life.
    pub(super) ordered: bool,
    writing: bool,
    /// The operation of a group that it is a part of.
    pub(super) part_of: Option<OperationId>,
    /// The parts of an operation of a group.
    pub(super) parts: Vec<OperationId>,
    /// Evicted from memory and disk once this operation is accepted.
    pub(super) forgets: Vec<OperationId>,
    /// Changes that its acceptance makes.
    pub(super) changes: Vec<Change>,
    /// Its last form, if there is nothing to do beside those changes.
    pub(super) at_once: Option<Box<Operation>>,
    pub(super) tickets: Vec<Ticket>,
}

/// Where an operation is.
#[derive(Debug, PartialEq)]
pub(super) enum Stage {
    /// Its acceptance is on its way to the disk.
    Accepting,
    /// It works.
    Running,
    /// A swap's commit is on its way to the disk.
    Committing,
    /// A swap failed before its commit: what it has made is being removed.
    RollingBack(ApiError),
    /// Its end is on its way to the disk.
    Ending(Box<Operation>),
    /// Its end is on disk.
    Ended,
}

impl Op {
    /// One that begins now.
    pub(super) fn begun(id: OperationId, request: Request, key: Option<ModuleKey>, order: u64, now: Timestamp) -> Self {
        let operation = Operation {
            id,
            request,
            state: OperationState::Running,
            steps: vec![StepRecord { step: Step::Accept.name().into(), at: now, said: None }],
            error: None,
            receipt: None,
            started: now,
            ended: None,
        };
        Self::new(operation, key, order)
    }

    pub(super) fn new(operation: Operation, key: Option<ModuleKey>, order: u64) -> Self {
        let stage = match operation.state {
            OperationState::Running => Stage::Running,
            OperationState::Done | OperationState::Failed => Stage::Ended,
        };
        Self {
            operation,
            key,
            order,
            stage,
            removes: Vec::new(),
            receipt: Receipt::default(),
            unrouted: None,
            awaits: BTreeSet::new(),
            trouble: None,
            verdict: None,
            rollout: Progress::default(),
            handover: None,
            held: Vec::new(),
            receipt_timer: false,
            receipt_closed: false,
            ordered: false,
            writing: false,
            part_of: None,
            parts: Vec::new(),
            forgets: Vec::new(),
            changes: Vec::new(),
            at_once: None,
            tickets: Vec::new(),
        }
    }

    pub(super) fn record(&self) -> OperationRecord {
        let operation = match &self.stage {
            Stage::Ending(ended) => (**ended).clone(),
            _ => self.operation.clone(),
        };
        let (order, removes, verdict) = (self.order, self.removes.clone(), self.verdict.clone());
        OperationRecord { operation, order, removes, verdict, part_of: self.part_of.clone() }
    }

    pub(super) fn request(&self) -> &Request {
        &self.operation.request
    }

    /// Whether it is on disk.
    pub(super) fn accepted(&self) -> bool {
        self.stage != Stage::Accepting
    }

    /// Whose what it works on, in words.
    pub(super) fn subject(&self) -> String {
        match &self.key {
            Some(key) => key.to_string(),
            None if self.concerns_routes() => format!("routes of {}", self.request().tenant()),
            None if self.concerns_group() => {
                self.request().group().map_or_else(|| "a group".to_owned(), |it| format!("the group {it}"))
            }
            None if self.concerns_tenant() => format!("tenant {}", self.request().tenant()),
            None => self.request().module().map_or_else(|| "a package".to_owned(), ToString::to_string),
        }
    }

    pub(super) fn concerns_routes(&self) -> bool {
        matches!(self.request(), Request::ApplyRoutes { .. } | Request::RollbackRoutes { .. })
    }

    pub(super) fn concerns_group(&self) -> bool {
        self.request().group().is_some()
    }

    pub(super) fn concerns_sharing(&self) -> bool {
        matches!(
            self.request(),
            Request::Export { .. } | Request::Unexport { .. } | Request::Import { .. } | Request::Unimport { .. }
        )
    }

    pub(super) fn concerns_tenant(&self) -> bool {
        let alone = matches!(
            self.request(),
            Request::AddTenant { .. } | Request::SetTenant { .. } | Request::RemoveTenant { .. }
        );
        alone || self.concerns_sharing()
    }

    /// Whether it makes a new cohort beside the one in charge.
    pub(super) fn replaces(&self) -> bool {
        matches!(
            self.request(),
            Request::Swap { .. } | Request::StartBeside { .. } | Request::Restart { .. } | Request::Rollback { .. }
        )
    }

    /// Whether it waits for routes of others to be in force.
    pub(super) fn awaits_routes(&self) -> bool {
        let of_a_module = matches!(
            self.request(),
            Request::Publish { .. }
                | Request::Unpublish { .. }
                | Request::StartBeside { .. }
                | Request::Share { .. }
                | Request::Shadow { .. }
                | Request::Swap { rollout: Some(_), .. }
        );
        of_a_module || self.concerns_group() || self.concerns_routes() || self.concerns_sharing()
    }

    pub(super) fn has_taken(&self, step: Step) -> bool {
        let name = step.name();
        self.operation.steps.iter().any(|it| it.step == name)
    }

    pub(super) fn push_step(&mut self, step: Step, at: Timestamp) {
        self.operation.steps.push(StepRecord { step: step.name().into(), at, said: None });
    }
}

impl Operations {
    pub(super) fn get(&self, id: &OperationId) -> Option<&Op> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &OperationId) -> Option<&mut Op> {
        self.all.get_mut(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Op> {
        self.all.values()
    }

    pub(super) fn insert(&mut self, op: Op) {
        let id = op.operation.id.clone();
        if let Some(whole) = op.part_of.as_ref().and_then(|it| self.all.get_mut(it)) {
            whole.parts.push(id.clone());
        }
        if op.stage == Stage::Ended {
            self.ended.insert(op.order, id.clone());
        } else if let Some(key) = &op.key {
            self.locks.insert(key.clone(), id.clone());
        } else if op.concerns_routes() {
            self.tables.insert(op.request().tenant().clone(), id.clone());
        } else if let Some(group) = op.request().group() {
            self.groups.insert((op.request().tenant().clone(), group.clone()), id.clone());
        } else if op.concerns_tenant() {
            self.tenants.insert(op.request().tenant().clone(), id.clone());
        }
        self.next_order = self.next_order.max(op.order + 1);
        self.all.insert(id, op);
    }

    pub(super) fn remove(&mut self, id: &OperationId) -> Option<Op> {
        let op = self.all.remove(id)?;
        self.ended.remove(&op.order);
        self.unlock(op.key.as_ref(), id);
        self.unsaved.remove(id);
        Some(op)
    }

    fn unlock(&mut self, key: Option<&ModuleKey>, id: &OperationId) {
        if let Some(key) = key
            && self.locks.get(key) == Some(id)
        {
            self.locks.remove(key);
        }
        self.tables.retain(|_, it| it != id);
        self.groups.retain(|_, it| it != id);
        self.tenants.retain(|_, it| it != id);
    }

    /// The operation that works on this tenant's routes.
    pub(super) fn on_routes(&self, tenant: &TenantName) -> Option<&Op> {
        self.all.get(self.tables.get(tenant)?)
    }

    /// The operation that works on this group.
    pub(super) fn on_group(&self, tenant: &TenantName, group: &GroupName) -> Option<&Op> {
        self.all.get(self.groups.get(&(tenant.clone(), group.clone()))?)
    }

    /// The operation that works on this tenant itself.
    pub(super) fn on_tenant(&self, tenant: &TenantName) -> Option<&Op> {
        self.all.get(self.tenants.get(tenant)?)
    }

    /// The operation that works on this module.
    pub(super) fn on(&self, key: &ModuleKey) -> Option<&Op> {
        self.all.get(self.locks.get(key)?)
    }

    pub(super) fn on_mut(&mut self, key: &ModuleKey) -> Option<&mut Op> {
        self.all.get_mut(self.locks.get(key)?)
    }

    /// Operations that have not ended.
    pub(super) fn unended(&self) -> impl Iterator<Item = &Op> {
        let ids = self.locks.values().chain(self.tables.values()).chain(self.groups.values());
        ids.chain(self.tenants.values()).filter_map(|it| self.all.get(it))
    }

    /// Ended operations beyond those to be remembered, when one more comes.
    pub(super) fn surplus(&self, remembered: usize) -> Vec<OperationId> {
        let forgotten: BTreeSet<&OperationId> =
            self.unended().filter(|it| it.stage == Stage::Accepting).flat_map(|it| &it.forgets).collect();
        // What has become of its parts is what an operation of a group ends by.
        let needed = |it: &OperationId| {
            let whole = self.all.get(it).and_then(|it| self.all.get(it.part_of.as_ref()?));
            whole.is_some_and(|it| it.stage != Stage::Ended)
        };
        let kept = self.ended.values().filter(|it| !forgotten.contains(it) && !needed(it));
        let surplus = (self.ended.len() - forgotten.len()).saturating_sub(remembered.saturating_sub(1));
        kept.take(surplus).cloned().collect()
    }

    /// The changes that bring operations' newest forms to disk. A form on its way is followed by the next when it has
    /// arrived.
    pub(super) fn write(&mut self) -> Vec<(OperationId, Change)> {
        let (waiting, ready): (BTreeSet<_>, BTreeSet<_>) = std::mem::take(&mut self.unsaved)
            .into_iter()
            .partition(|id| self.all.get(id).is_some_and(|it| it.writing || it.stage == Stage::Accepting));
        self.unsaved = waiting;
        let mut changes = Vec::new();
        for id in ready {
            if let Some(op) = self.all.get_mut(&id) {
                op.writing = true;
                let change = Change::PutOperation(Box::new(op.record()));
                changes.push((id, change));
            }
        }
        changes
    }

    pub(super) fn not_saved(&mut self, id: &OperationId) {
        if let Some(op) = self.all.get_mut(id) {
            op.writing = false;
            self.unsaved.insert(id.clone());
        }
    }
}

impl State {
    /// A form of the operation is on disk: if that was its end, it has ended.
    pub(super) fn operation_saved(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        op.writing = false;
        // An end that came while an earlier form was being written still has to follow it.
        if matches!(op.stage, Stage::Ending(_)) && !self.operations.unsaved.contains(id) {
            self.ended_on_disk(id, turn);
        }
    }

    /// The end of the operation is on disk.
    pub(super) fn ended_on_disk(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        if let Stage::Ending(ended) = std::mem::replace(&mut op.stage, Stage::Ended) {
            op.operation = *ended;
        }
        let (key, order, operation) = (op.key.clone(), op.order, op.operation.clone());
        let part_of = op.part_of.clone();
        self.operations.unlock(key.as_ref(), id);
        self.operations.ended.insert(order, id.clone());
        let text = match (&operation.state, &operation.error) {
            (OperationState::Failed, Some(error)) => format!("{} failed: {}", verb(&operation.request), error.message),
            _ => format!("{} done", verb(&operation.request)),
        };
        turn.tell(EventKind::Operation, About { key: key.as_ref(), operation: Some(id), ..About::default() }, text);
        turn.act(Action::Finish(Box::new(operation)));
        if let Some(key) = key {
            self.touch_module(&key);
            if let Some(whole) = part_of {
                self.leave_lanes(&whole, &key);
                self.touched.operations.insert(whole);
            }
        }
    }

    /// Records that the operation has come to this step, once.
    pub(super) fn take_step(&mut self, id: &OperationId, step: Step, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        if op.has_taken(step) {
            return;
        }
        op.push_step(step, turn.now.wall);
        turn.act(Action::Progress(Box::new(op.operation.clone())));
        self.operations.unsaved.insert(id.clone());
    }

    /// The operation ends like this as soon as it is on disk.
    pub(super) fn end_operation(&mut self, id: &OperationId, result: Result<(), ApiError>, turn: &Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        if matches!(op.stage, Stage::Ending(_) | Stage::Ended) {
            return;
        }
        let ended = ended(op, result, turn.now.wall);
        op.stage = Stage::Ending(Box::new(ended));
        self.operations.unsaved.insert(id.clone());
    }
}

/// The operation's last form.
pub(super) fn ended(op: &Op, result: Result<(), ApiError>, at: Timestamp) -> Operation {
    let mut operation = op.operation.clone();
    operation.state = if result.is_ok() { OperationState::Done } else { OperationState::Failed };
    operation.error = result.err();
    operation.ended = Some(at);
    operation.receipt = match op.request() {
        Request::Stop { .. }
        | Request::Swap { .. }
        | Request::StartBeside { .. }
        | Request::Rollback { .. }
        | Request::Discard { .. }
        | Request::Scale { .. }
        | Request::Restart { .. }
        | Request::Uninstall { .. } => Some(op.receipt.clone()),
        Request::Install { .. }
        | Request::Start { .. }
        | Request::Publish { .. }
        | Request::Unpublish { .. }
        | Request::Share { .. }
        | Request::Shadow { .. }
        | Request::SteerSwap { .. }
        | Request::SetLimits { .. }
        | Request::ApplyRoutes { .. }
        | Request::RollbackRoutes { .. }
        | Request::ApplyGroup { .. }
        | Request::RollbackGroup { .. }
        | Request::RemoveGroup { .. }
        | Request::AddTenant { .. }
        | Request::SetTenant { .. }
        | Request::RemoveTenant { .. }
        | Request::Export { .. }
        | Request::Unexport { .. }
        | Request::Import { .. }
        | Request::Unimport { .. } => None,
    };
    operation
}

/// What a request asks, as a word.
pub(super) fn verb(request: &Request) -> &'static str {
    match request {
        Request::Install { .. } => "install",
        Request::Uninstall { .. } => "uninstall",
        Request::Start { .. } => "start",
        Request::Stop { .. } => "stop",
        Request::Restart { .. } => "restart",
        Request::Swap { .. } => "swap",
        Request::SteerSwap { to: Steering::Pause, .. } => "pause swap",
        Request::SteerSwap { to: Steering::Resume, .. } => "resume swap",
        Request::SteerSwap { to: Steering::Abort, .. } => "abort swap",
        Request::StartBeside { .. } => "start beside",
        Request::Share { .. } => "share",
        Request::Shadow { .. } => "shadow",
        Request::Rollback { .. } => "rollback",
        Request::Discard { .. } => "discard",
        Request::Scale { .. } => "scale",
        Request::SetLimits { .. } => "limits",
        Request::Publish { .. } => "publish",
        Request::Unpublish { .. } => "unpublish",
        Request::ApplyRoutes { .. } => "apply routes",
        Request::RollbackRoutes { .. } => "roll back routes",
        Request::ApplyGroup { .. } => "apply group",
        Request::RollbackGroup { .. } => "roll back group",
        Request::RemoveGroup { .. } => "remove group",
        Request::AddTenant { .. } => "add tenant",
        Request::SetTenant { .. } => "set tenant",
        Request::RemoveTenant { .. } => "remove tenant",
        Request::Export { .. } => "export",
        Request::Unexport { .. } => "unexport",
        Request::Import { .. } => "import",
        Request::Unimport { .. } => "unimport",
    }
}
