//! Requests: refused with a reason, or made an operation that is on disk before anything is done for it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use mortise_control::{ModuleName, ServiceName, TenantName, WorkerId};
use semver::Version;

use super::groups::part_id;
use super::journal::Purpose;
use super::module::Module;
use super::operation::{Op, Stage, ended};
use super::refusals as refuse;
use super::state::State;
use super::step::Step;
use super::turn::{About, Turn};
use super::worker::Life;
use super::{Action, ModuleKey, ModuleSpec, Package, ResourceId, Runtime, Submitted, Timer};
use crate::api::{ApiError, Desired, EventKind, OperationId, Request};
use crate::store::{BesideRecord, Change, ModuleRecord, VersionRecord};

/// What accepting a request changes.
pub(super) struct Plan {
    key: Option<ModuleKey>,
    changes: Vec<Change>,
    removes: Vec<String>,
    then: Then,
    /// Of a group: what becomes an operation of its own, on one module.
    parts: Vec<Part>,
}

/// What one module does in the operation of a group.
pub(super) struct Part {
    pub(super) request: Request,
    pub(super) plan: Plan,
}

impl Part {
    pub(super) const fn key(&self) -> Option<&ModuleKey> {
        self.plan.key.as_ref()
    }
}

/// What is left to do once the changes are on disk.
#[derive(PartialEq)]
pub(super) enum Then {
    Nothing,
    Work,
    /// The changes are the commit of a swap: what it replaces goes.
    Replace,
}

impl Plan {
    pub(super) fn new(key: ModuleKey, changes: Vec<Change>, then: Then) -> Self {
        Self { key: Some(key), changes, removes: Vec::new(), then, parts: Vec::new() }
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// About no module.
    pub(super) fn of_tenant(changes: Vec<Change>, then: Then) -> Self {
        Self { key: None, changes, removes: Vec::new(), then, parts: Vec::new() }
    }

    /// About several modules, each with an operation of its own.
    pub(super) fn of_group(parts: Vec<Part>) -> Self {
        Self { key: None, changes: Vec::new(), removes: Vec::new(), then: Then::Work, parts }
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl State {
    pub(super) fn request(&mut self, submitted: Submitted, turn: &mut Turn<'_>) {
        let Some(submitted) = self.hold(submitted) else { return };
        let Submitted { ticket, operation: id, request, package, used } = submitted;
        if let Some(op) = self.operations.get_mut(&id) {
            let result = if op.request() != &request {
                Err(refuse::other_request(op))
            } else if op.stage == Stage::Accepting {
                op.tickets.push(ticket);
                return;
            } else {
                Ok(Box::new(op.operation.clone()))
            };
            turn.act(Action::Answer { ticket, result });
            return;
        }
        let order = self.operations.next_order;
        match self.plan(&id, &request, (package, &used), order, turn) {
            Err(error) => turn.act(Action::Answer { ticket, result: Err(error) }),
            Ok(plan) => {
                let mut op = Op::begun(id, request, plan.key.clone(), order, turn.now.wall);
                op.tickets.push(ticket);
                if matches!(op.request(), Request::SteerSwap { .. }) {
                    self.steers(&plan.changes);
                }
                self.propose_plan(op, plan, turn);
            }
        }
    }

    pub(super) fn propose_plan(&mut self, mut op: Op, plan: Plan, turn: &Turn<'_>) {
        op.stage = Stage::Accepting;
        op.removes = plan.removes;
        op.changes = plan.changes;
        if plan.then == Then::Replace {
            op.push_step(Step::Commit, turn.now.wall);
        }
        let id = op.operation.id.clone();
        self.propose(op, &plan.then, turn);
        for Part { request, plan } in plan.parts {
            let Some(key) = &plan.key else { continue };
            let order = self.operations.next_order;
            let mut part = Op::begun(part_id(&id, &key.module), request, Some(key.clone()), order, turn.now.wall);
            part.part_of = Some(id.clone());
            self.propose_plan(part, plan, turn);
        }
    }

    fn propose(&mut self, mut op: Op, then: &Then, turn: &Turn<'_>) {
        let id = op.operation.id.clone();
        let mut record = op.record();
        if *then == Then::Nothing {
            let last = ended(&op, Ok(()), turn.now.wall);
            record.operation = last.clone();
            op.at_once = Some(Box::new(last));
        }
        op.forgets = self.operations.surplus(self.config.remembered_operations);
        let mut changes = op.changes.clone();
        changes.push(Change::PutOperation(Box::new(record)));
        changes.extend(op.forgets.iter().cloned().map(Change::RemoveOperation));
        self.operations.insert(op);
        self.journal.stage(Purpose::Accept(id), changes);
    }

    /// The operation is on disk: it is answered, and its changes hold.
    pub(super) fn accepted(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        op.stage = Stage::Running;
        let changes = std::mem::take(&mut op.changes);
        let forgets = std::mem::take(&mut op.forgets);
        let tickets = std::mem::take(&mut op.tickets);
        let last = op.at_once.take();
        let shown = last.as_deref().unwrap_or(&op.operation).clone();
        let (key, request) = (op.key.clone(), op.request().clone());
        let about = About { key: key.as_ref(), operation: Some(id), ..About::default() };
        turn.tell(EventKind::Operation, about, format!("{} accepted", super::operation::verb(&shown.request)));
        for ticket in tickets {
            turn.act(Action::Answer { ticket, result: Ok(Box::new(shown.clone())) });
        }
        turn.act(Action::Progress(Box::new(shown)));
        for forgotten in &forgets {
            self.operations.remove(forgotten);
        }
        for change in changes {
            self.apply(change);
        }
        if let Some(last) = last {
            if let Some(op) = self.operations.get_mut(id) {
                op.stage = Stage::Ending(last);
            }
            self.ended_on_disk(id, turn);
        }
        if let Some(key) = key {
            if self.operations.get(id).is_some_and(|it| it.has_taken(Step::Commit)) {
                self.time_kept(&key, turn);
            }
            self.retry_resources(&key);
            self.touch_module(&key);
        }
        self.touched.operations.insert(id.clone());
        self.steered(&request, true, turn);
    }

    /// The operation is not on disk: nothing has happened.
    pub(super) fn not_accepted(&mut self, id: &OperationId, error: ApiError, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.remove(id) else { return };
        if let (Request::Discard { .. }, Some(key)) = (op.request(), &op.key)
            && let Some(kept) = self.modules.get(key).and_then(|it| it.record.kept.as_ref())
        {
            // If nobody had asked for it, nobody will ask again.
            turn.timer(Timer::Keep { key: key.clone(), cohort: kept.cohort }, self.config.retry_after);
        }
        self.steered(op.request(), false, turn);
        for ticket in op.tickets {
            turn.act(Action::Answer { ticket, result: Err(error.clone()) });
        }
    }

    fn plan(
        &self,
        id: &OperationId,
        request: &Request,
        (package, used): (Option<Package>, &[(WorkerId, u64)]),
        order: u64,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        if self.stopping {
            return Err(refuse::stopping());
        }
        if !(1..=128).contains(&id.0.len()) || !id.0.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(refuse::bad_operation_id(id));
        }
        let plan = match request {
            Request::Install { tenant, digest } => self.plan_install(tenant, digest, package, turn),
            Request::Uninstall { tenant, module, version } => self.plan_uninstall(tenant, module, version.as_ref()),
            Request::Start { tenant, module, version } => self.plan_start(tenant, module, version.as_ref(), order),
            Request::Stop { tenant, module } => self.plan_stop(tenant, module),
            Request::Restart { tenant, module } => self.plan_restart(tenant, module),
            Request::Swap { tenant, module, version, .. } => self.plan_swap(tenant, module, version, request, turn),
            Request::StartBeside { tenant, module, version } => self.plan_start_beside(tenant, module, version),
            Request::SteerSwap { tenant, module, to } => self.plan_steer(tenant, module, *to),
            Request::Share { tenant, module, percent } => self.plan_share(tenant, module, *percent),
            Request::Shadow { tenant, module, percent } => self.plan_shadow(tenant, module, *percent),
            Request::Rollback { tenant, module, keep_ms } => self.plan_rollback(tenant, module, *keep_ms),
            Request::Discard { tenant, module } => self.plan_discard(tenant, module),
            Request::Scale { tenant, module, instances } => self.plan_scale(tenant, module, *instances),
            Request::SetLimits { tenant, module, limits, lift, force } => {
                self.plan_set_limits((tenant, module), (limits, lift), *force, used)
            }
            Request::Publish { tenant, module, service } => self.plan_publish(tenant, module, service.as_ref()),
            Request::Unpublish { tenant, module, service } => self.plan_unpublish(tenant, module, service.as_ref()),
            Request::ApplyRoutes { tenant, routes } => self.plan_apply_routes(tenant, routes, turn),
            Request::RollbackRoutes { tenant } => self.plan_rollback_routes(tenant),
            Request::ApplyGroup { group, modules, keep_ms, .. } => {
                self.plan_apply_group(id, request, group, modules, *keep_ms, turn)
            }
            Request::RollbackGroup { group, keep_ms, .. } => {
                self.plan_rollback_group(id, request, group, *keep_ms, turn)
            }
            Request::RemoveGroup { tenant, group } => self.plan_remove_group(tenant, group),
            Request::AddTenant { tenant, limits } => self.plan_add_tenant(tenant, limits, turn),
            Request::SetTenant { tenant, limits, lift } => self.plan_set_tenant(tenant, limits, lift, turn),
            Request::RemoveTenant { tenant } => self.plan_remove_tenant(tenant),
            Request::Export { tenant, service, to } => self.plan_export(tenant, service, to, turn),
            Request::Unexport { tenant, service, to } => self.plan_unexport(tenant, service, to),
            Request::Import { tenant, service, from } => self.plan_import(tenant, service, from, turn),
            Request::Unimport { tenant, service } => self.plan_unimport(tenant, service),
        }?;
        self.within_quota(request, &plan)?;
        Ok(plan)
    }

    fn plan_install(
        &self,
        tenant: &TenantName,
        digest: &str,
        package: Option<Package>,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        let Some(package) = package.filter(|it| it.digest == digest) else { return Err(refuse::no_package(digest)) };
        let key = ModuleKey { tenant: tenant.clone(), module: package.spec.module.clone() };
        self.idle(&key)?;
        self.known_tenant(tenant)?;
        self.no_other_of_tenant(tenant)?;
        if let Some(op) = self.operations.unended().find(|it| it.removes.iter().any(|it| it == digest)) {
            return Err(refuse::busy(op));
        }
        let module = self.modules.get(&key);
        let version = &package.spec.version;
        if let Some(installed) = module.and_then(|it| it.versions.get(version)) {
            if installed.digest == digest {
                return Ok(Plan::new(key, Vec::new(), Then::Nothing));
            }
            return Err(refuse::conflict(format!(
                "{key} {version} is installed with other content: package {}, not {digest}",
                installed.digest
            ))
            .remedy("Give changed content a new version, or uninstall that version first."));
        }
        let mut changes = Vec::new();
        if module.is_none() {
            changes.push(Change::PutModule(Module::new(key.clone()).record));
        }
        changes.push(Change::PutVersion(Box::new(VersionRecord {
            key: key.clone(),
            spec: package.spec,
            digest: package.digest,
            installed: turn.now.wall,
        })));
        Ok(Plan::new(key, changes, Then::Nothing))
    }

    fn plan_uninstall(
        &self,
        tenant: &TenantName,
        module: &ModuleName,
        version: Option<&Version>,
    ) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let gone: BTreeSet<&Version> = match version {
            Some(version) => {
                let (installed, _) =
                    module.versions.get_key_value(version).ok_or_else(|| refuse::no_version(module, version))?;
                BTreeSet::from([installed])
            }
            None => module.versions.keys().collect(),
        };
        if let Some(running) = module.record.version.as_ref().filter(|it| module.runs() && gone.contains(it)) {
            return Err(refuse::still_running(&key, running));
        }
        if let Some(worker) =
            module.workers.iter().filter_map(|it| self.slots.get(*it)).find(|it| gone.contains(&it.spec.version))
        {
            return Err(match worker.is_kept() {
                true => refuse::still_kept(&key, &worker.spec.version),
                false if module.is_beside(worker.cohort) => refuse::runs_beside(module),
                false => refuse::still_running(&key, &worker.spec.version),
            });
        }
        for version in &gone {
            for name in module.versions[version].spec.resources() {
                self.unused(&ResourceId {
                    tenant: key.tenant.clone(),
                    resource: name.clone(),
                    module: key.module.clone(),
                    version: (*version).clone(),
                })?;
            }
        }
        let digests: BTreeSet<&String> = gone.iter().map(|it| &module.versions[it].digest).collect();
        let removes: Vec<String> = digests.into_iter().filter(|it| !self.refers(it, &key, &gone)).cloned().collect();
        let mut changes: Vec<Change> =
            gone.iter().map(|it| Change::RemoveVersion(key.clone(), (*it).clone())).collect();
        if gone.len() == module.versions.len() {
            changes.push(Change::RemoveModule(key.clone()));
        }
        let then = if removes.is_empty() { Then::Nothing } else { Then::Work };
        Ok(Plan { removes, ..Plan::new(key, changes, then) })
    }

    /// Whether anything but these versions refers to a package.
    fn refers(&self, digest: &str, key: &ModuleKey, but: &BTreeSet<&Version>) -> bool {
        let installed = self.modules.iter().any(|(other, module)| {
            module.versions.iter().any(|(version, it)| it.digest == digest && !(other == key && but.contains(version)))
        });
        let coming = self.operations.unended().flat_map(|it| &it.changes);
        installed || coming.into_iter().any(|it| matches!(it, Change::PutVersion(version) if version.digest == digest))
    }

    fn plan_start(
        &self,
        tenant: &TenantName,
        module: &ModuleName,
        version: Option<&Version>,
        order: u64,
    ) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let running = if module.runs() { module.record.version.clone() } else { None };
        let version = match version.cloned().or_else(|| running.clone()) {
            Some(version) => version,
            None => module.versions.keys().next_back().cloned().ok_or_else(|| refuse::no_module(&key))?,
        };
        let installed = module.versions.get(&version).ok_or_else(|| refuse::no_version(module, &version))?;
        let mut workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        if let Some(running) = running {
            let settled = |it: &super::worker::Worker| matches!(it.life, Life::Settled(_));
            if running == version && !workers.clone().any(settled) {
                return Ok(Plan::new(key, Vec::new(), Then::Work));
            }
            if running != version && !workers.all(settled) {
                return Err(refuse::other_version_runs(&key, &running, &version));
            }
        }
        alone(module)?;
        self.check_version(&key, module, &installed.spec)?;
        let record =
            ModuleRecord { desired: Desired::Running, version: Some(version), cohort: order, ..module.record.clone() };
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }

    fn plan_stop(&self, tenant: &TenantName, module: &ModuleName) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        if !module.runs() && module.workers.is_empty() {
            return Ok(Plan::new(key, Vec::new(), Then::Nothing));
        }
        for resource in self.resources_of(&key) {
            self.unused(resource)?;
        }
        let record = ModuleRecord {
            desired: Desired::Installed,
            version: None,
            kept: None,
            beside: None,
            ..module.record.clone()
        };
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }

    pub(super) fn plan_restart(&self, tenant: &TenantName, module: &ModuleName) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let installed = module.current().ok_or_else(|| refuse::not_running(&key, "restart"))?;
        alone(module)?;
        self.check_version(&key, module, &installed.spec)?;
        Ok(Plan::new(key, alone_in_charge(module), Then::Work))
    }

    pub(super) fn plan_swap(
        &self,
        tenant: &TenantName,
        module: &ModuleName,
        version: &Version,
        request: &Request,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let next = module.versions.get(version).ok_or_else(|| refuse::no_version(module, version))?;
        let installed = module.current().ok_or_else(|| refuse::not_running(&key, "swap"))?;
        let is_resource = |it: &ModuleSpec| matches!(it.runtime, Runtime::Resource { .. });
        if is_resource(&installed.spec) != is_resource(&next.spec) {
            return Err(refuse::conflict(format!(
                "only one of {key} {} and {version} has workers",
                installed.spec.version
            ))
            .remedy("Stop the module, then start that version."));
        }
        if let Request::Swap { keep_ms, .. } = request {
            check_keep(&key, &installed.spec, *keep_ms)?;
        }
        let rollout = match request {
            Request::Swap { rollout, .. } => rollout.as_ref(),
            _ => None,
        };
        if let Some(rollout) = rollout {
            self.check_rollout(&key, rollout, [&installed.spec, &next.spec])?;
            alone(module)?;
        }
        self.check_handover(module, request)?;
        self.check_version(&key, module, &next.spec)?;
        if let Some(beside) = module.record.beside.clone().filter(|it| it.version == *version) {
            // What is there and ready takes charge in one step.
            if !self.cohort_ready(&key, beside.cohort, module.wanted(&next.spec)) {
                return Err(refuse::not_ready_beside(module, version));
            }
            let kept = self.keeps_after(&key, request, turn.now.wall);
            let (version, cohort) = (Some(beside.version), beside.cohort);
            let record = ModuleRecord { version, cohort, kept, beside: None, ..module.record.clone() };
            return Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Replace));
        }
        if installed.spec.version == *version {
            return Ok(Plan::new(key, Vec::new(), Then::Work));
        }
        alone(module)?;
        Ok(Plan::new(key, alone_in_charge(module), Then::Work))
    }

    fn plan_start_beside(&self, tenant: &TenantName, module: &ModuleName, version: &Version) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let next = module.versions.get(version).ok_or_else(|| refuse::no_version(module, version))?;
        let installed = module.current().ok_or_else(|| refuse::not_running(&key, "run it beside"))?;
        let mut runtimes = [&installed.spec.runtime, &next.spec.runtime].into_iter();
        if let Some(runtime) = runtimes.find(|it| matches!(it, Runtime::Base | Runtime::Resource { .. })) {
            return Err(refuse::cannot_run_beside(&key, runtime));
        }
        if installed.spec.version == *version {
            return Err(refuse::in_charge(&key, version));
        }
        alone(module)?;
        self.check_version(&key, module, &next.spec)?;
        Ok(Plan::new(key, alone_in_charge(module), Then::Work))
    }

    fn plan_share(&self, tenant: &TenantName, module: &ModuleName, percent: u32) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let beside = module.record.beside.clone().ok_or_else(|| refuse::nothing_beside(module))?;
        if percent > 100 {
            return Err(refuse::bad_share(percent));
        }
        let beside = Some(BesideRecord { share: percent, ..beside });
        let record = ModuleRecord { beside, ..module.record.clone() };
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }

    pub(super) fn plan_rollback(
        &self,
        tenant: &TenantName,
        module: &ModuleName,
        keep_ms: Option<u64>,
    ) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let installed = module.current().ok_or_else(|| refuse::not_running(&key, "rollback"))?;
        check_keep(&key, &installed.spec, keep_ms)?;
        let kept = module.record.kept.as_ref().filter(|_| self.kept_workers(&key).next().is_some());
        let kept = kept.and_then(|it| module.versions.get(&it.version)).ok_or_else(|| refuse::nothing_kept(module))?;
        self.check_version(&key, module, &kept.spec)?;
        Ok(Plan::new(key, Vec::new(), Then::Work))
    }

    pub(super) fn plan_discard(&self, tenant: &TenantName, module: &ModuleName) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let changes = alone_in_charge(module);
        let then = if changes.is_empty() { Then::Nothing } else { Then::Work };
        Ok(Plan::new(key, changes, then))
    }

    fn plan_scale(&self, tenant: &TenantName, module: &ModuleName, instances: Option<u32>) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        if let Some(instances) = instances.filter(|it| !INSTANCES.contains(it)) {
            return Err(refuse::bad_instances(instances, &INSTANCES));
        }
        let shown = module.shown_version().ok_or_else(|| refuse::no_module(&key))?;
        if matches!(shown.spec.runtime, Runtime::Resource { .. }) {
            return Err(refuse::no_workers(&key));
        }
        let record = ModuleRecord { instances, ..module.record.clone() };
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }

    fn plan_publish(
        &self,
        tenant: &TenantName,
        module: &ModuleName,
        service: Option<&ServiceName>,
    ) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let installed = module.shown_version().ok_or_else(|| refuse::no_module(&key))?;
        let services = self.named_services(&key, &installed.spec, service)?;
        for service in &services {
            let owner = self.index.publishers.get(&(key.tenant.clone(), service.clone()));
            let coming = self.coming_records().find(|it| it.key.tenant == key.tenant && it.published.contains(service));
            if let Some(owner) = owner.or(coming.map(|it| &it.key)).filter(|it| **it != key) {
                return Err(refuse::published_elsewhere(service, owner));
            }
        }
        let mut record = module.record.clone();
        record.published.extend(services);
        if module.runs() {
            self.check_routes(&key, &installed.spec, &record.published)?;
        }
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }

    fn plan_unpublish(
        &self,
        tenant: &TenantName,
        module: &ModuleName,
        service: Option<&ServiceName>,
    ) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let mut record = module.record.clone();
        match service {
            None => record.published.clear(),
            Some(service) => {
                if !record.published.remove(service) {
                    let installed = module.shown_version().ok_or_else(|| refuse::no_module(&key))?;
                    self.named_services(&key, &installed.spec, Some(service))?;
                }
            }
        }
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }
}

/// How many workers a module can have: what module.toml allows, too.
const INSTANCES: RangeInclusive<u32> = 1..=64;

/// The longest time that a replaced version is kept.
const LONGEST_KEEP: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn check_keep(key: &ModuleKey, spec: &ModuleSpec, keep_ms: Option<u64>) -> Result<(), ApiError> {
    let keep = Duration::from_millis(keep_ms.unwrap_or_default());
    if keep > LONGEST_KEEP {
        return Err(refuse::kept_too_long(keep, LONGEST_KEEP));
    }
    match spec.runtime {
        Runtime::Base | Runtime::Resource { .. } if !keep.is_zero() => Err(refuse::cannot_be_kept(key, &spec.runtime)),
        _ => Ok(()),
    }
}

/// Whatever is kept, or runs beside, ends.
fn alone_in_charge(module: &Module) -> Vec<Change> {
    if module.record.kept.is_none() && module.record.beside.is_none() {
        return Vec::new();
    }
    vec![Change::PutModule(ModuleRecord { kept: None, beside: None, ..module.record.clone() })]
}

/// What makes a set of workers has to wait while there are two that serve: which of them goes is the operator's to say.
fn alone(module: &Module) -> Result<(), ApiError> {
    if module.record.beside.is_some() { Err(refuse::runs_beside(module)) } else { Ok(()) }
}
