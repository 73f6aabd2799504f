//! Groups: modules whose versions change together.
//!
//! ```text
//!   apply GROUP ─┬─ accept ─▶ start ─▶ ready ─▶ commit ─▶ flip ─▶ done when all parts are
//!     parts      ├─ swap a:    accept ─▶ start ─▶ ready ╷        ╷ as any swap after its commit
//!                └─ swap b:    accept ─▶ start ─▶ ready ┴ commit ┴ flip ─▶ drain ─▶ clean-up
//! ```
//!
//! Each module's part is an operation of its own (a swap, a restart or a rollback) that has the module to itself. All are accepted in
//! one transaction of the store. A part that is ready waits; when all are, their commits and the group's record are one transaction again.
//! If a part fails before that, the others are rolled back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mortise_control::{GroupName, ModuleName, TenantName};
use semver::Version;

use super::journal::Purpose;
use super::module::offers;
use super::operation::{Op, Stage};
use super::refusals as refuse;
use super::requests::{Part, Plan, Then, check_keep};
use super::state::State;
use super::step::Step;
use super::turn::Turn;
use super::worker::Life;
use super::{ModuleKey, Runtime};
use crate::api::{ApiError, Blame, ErrorCode, GroupModule, GroupStatus, OperationId, OperationState, Request};
use crate::store::{Change, GroupRecord};

/// The most modules of a group.
const MOST_MODULES: usize = 64;

/// The groups of all tenants, as they are on disk.
#[derive(Debug, Default)]
pub(super) struct GroupBook {
    records: BTreeMap<(TenantName, GroupName), GroupRecord>,
}

impl GroupBook {
    pub(super) fn put(&mut self, record: GroupRecord) {
        self.records.insert((record.tenant.clone(), record.group.clone()), record);
    }

    pub(super) fn remove(&mut self, tenant: &TenantName, group: &GroupName) {
        self.records.remove(&(tenant.clone(), group.clone()));
    }

    fn get(&self, tenant: &TenantName, group: &GroupName) -> Option<&GroupRecord> {
        self.records.get(&(tenant.clone(), group.clone()))
    }

    pub(super) fn of_tenant(&self, tenant: &TenantName) -> impl Iterator<Item = &GroupRecord> {
        self.records.values().filter(move |it| it.tenant == *tenant)
    }
}

impl State {
    pub(super) fn plan_apply_group(
        &self,
        id: &OperationId,
        request: &Request,
        group: &GroupName,
        modules: &BTreeMap<ModuleName, Version>,
        keep_ms: Option<u64>,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        let tenant = request.tenant();
        self.no_other_on_group(tenant, group)?;
        self.known_tenant(tenant)?;
        self.no_other_of_tenant(tenant)?;
        if !(1..=MOST_MODULES).contains(&modules.len()) {
            let message = format!("modules: the group {group} has {} of them", modules.len());
            return Err(ApiError::new(ErrorCode::Invalid, Blame::Caller, message)
                .remedy(format!("Name 1 to {MOST_MODULES} modules, each with its version.")));
        }
        let part = |(module, version): (&ModuleName, &Version)| {
            self.part_of_group(tenant, module, version, keep_ms, turn).transpose()
        };
        let parts: Vec<Part> = modules.iter().filter_map(part).collect::<Result<_, _>>()?;
        self.no_rivals(modules, &parts)?;
        self.of_parts(id, request, parts, turn)
    }

    pub(super) fn plan_rollback_group(
        &self,
        id: &OperationId,
        request: &Request,
        group: &GroupName,
        keep_ms: Option<u64>,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        let tenant = request.tenant();
        self.no_other_on_group(tenant, group)?;
        let record = self.groups.get(tenant, group).ok_or_else(|| refuse::no_group(tenant, group))?;
        if record.earlier.is_empty() {
            return Err(refuse::nothing_earlier(group));
        }
        let part = |(module, version): (&ModuleName, &Version)| {
            let key = ModuleKey { tenant: tenant.clone(), module: module.clone() };
            let kept = self.modules.get(&key).and_then(|it| it.record.kept.as_ref());
            let is_kept = kept.is_some_and(|it| it.version == *version) && self.kept_workers(&key).next().is_some();
            if !is_kept {
                return self.part_of_group(tenant, module, version, keep_ms, turn).transpose();
            }
            let request = Request::Rollback { tenant: tenant.clone(), module: module.clone(), keep_ms };
            Some(self.plan_rollback(tenant, module, keep_ms).map(|plan| Part { request, plan }))
        };
        let parts: Vec<Part> = record.earlier.iter().filter_map(part).collect::<Result<_, _>>()?;
        self.no_rivals(&record.earlier, &parts)?;
        self.of_parts(id, request, parts, turn)
    }

    pub(super) fn plan_remove_group(&self, tenant: &TenantName, group: &GroupName) -> Result<Plan, ApiError> {
        self.no_other_on_group(tenant, group)?;
        self.groups.get(tenant, group).ok_or_else(|| refuse::no_group(tenant, group))?;
        Ok(Plan::of_tenant(vec![Change::RemoveGroup(tenant.clone(), group.clone())], Then::Nothing))
    }

    /// What has a module run in this version, if it does not.
    fn part_of_group(
        &self,
        tenant: &TenantName,
        name: &ModuleName,
        version: &Version,
        keep_ms: Option<u64>,
        turn: &Turn<'_>,
    ) -> Result<Option<Part>, ApiError> {
        let (key, module) = self.idle_module(tenant, name)?;
        let next = module.versions.get(version).ok_or_else(|| refuse::no_version(module, version))?;
        let current = module.current();
        let mut runtimes = current.into_iter().chain([next]).map(|it| &it.spec.runtime);
        if let Some(runtime) = runtimes.find(|it| matches!(it, Runtime::Base | Runtime::Resource { .. })) {
            return Err(refuse::cannot_be_grouped(&key, runtime));
        }
        if module.record.beside.is_some() {
            return Err(refuse::runs_beside(module));
        }
        if current.is_some_and(|it| it.spec.version == *version) {
            let mut workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
            if !workers.any(|it| it.cohort == module.record.cohort && matches!(it.life, Life::Settled(_))) {
                return Ok(None);
            }
            let request = Request::Restart { tenant: tenant.clone(), module: name.clone() };
            return Ok(Some(Part { plan: self.plan_restart(tenant, name)?, request }));
        }
        let request = Request::Swap {
            tenant: tenant.clone(),
            module: name.clone(),
            version: version.clone(),
            keep_ms,
            rollout: None,
            without_state: false,
        };
        if Self::would_hand_over(module, version) {
            return Err(refuse::hands_over(&key));
        }
        let plan = match current {
            Some(_) => self.plan_swap(tenant, name, version, &request, turn)?,
            None => {
                self.check_version(&key, module, &next.spec)?;
                check_keep(&key, &next.spec, keep_ms)?;
                Plan::new(key, Vec::new(), Then::Work)
            }
        };
        Ok(Some(Part { request, plan }))
    }

    /// What the plans' versions take of the ingress, each against the others: none of them is anywhere yet.
    fn no_rivals(&self, versions: &BTreeMap<ModuleName, Version>, parts: &[Part]) -> Result<(), ApiError> {
        let mut taken: BTreeMap<_, (&ModuleKey, _)> = BTreeMap::new();
        for key in parts.iter().filter_map(Part::key) {
            let Some(module) = self.modules.get(key) else { continue };
            let Some(next) = versions.get(&key.module).and_then(|it| module.versions.get(it)) else { continue };
            for (http, service) in offers(&next.spec, &module.record.published) {
                if let Some((owner, of)) = taken.get(&http) {
                    let route = format!("{}{}", http.0.as_deref().unwrap_or("*"), http.1);
                    return Err(refuse::route_taken(&route, key, owner, of));
                }
                taken.insert(http, (key, service));
            }
        }
        Ok(())
    }

    /// The plan of a group's operation. Without parts, what it declares is all that it does.
    fn of_parts(
        &self,
        id: &OperationId,
        request: &Request,
        parts: Vec<Part>,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        if parts.is_empty() {
            let changes = self.declared(request, turn.now.wall).map(|it| Change::PutGroup(Box::new(it)));
            return Ok(Plan::of_tenant(changes.into_iter().collect(), Then::Nothing));
        }
        let mut ids = parts.iter().filter_map(Part::key).map(|it| part_id(id, &it.module));
        if let Some(op) = ids.find_map(|it| self.operations.get(&it)) {
            return Err(refuse::part_id_taken(id, op));
        }
        Ok(Plan::of_group(parts))
    }

    /// The group as it is when the request is done, but for what its rollback goes back to.
    fn declared(&self, request: &Request, now: Timestamp) -> Option<GroupRecord> {
        let (tenant, group) = (request.tenant(), request.group()?);
        let before = self.groups.get(tenant, group);
        let earlier = before.map(|it| it.earlier.clone()).unwrap_or_default();
        let modules = match request {
            Request::ApplyGroup { modules, .. } => modules.clone(),
            _ => before
                .into_iter()
                .flat_map(|it| &it.modules)
                .chain(&earlier)
                .map(|(a, b)| (a.clone(), b.clone()))
                .collect(),
        };
        Some(GroupRecord { tenant: tenant.clone(), group: group.clone(), applied: now, modules, earlier })
    }

    fn no_other_on_group(&self, tenant: &TenantName, group: &GroupName) -> Result<(), ApiError> {
        self.operations.on_group(tenant, group).map_or(Ok(()), |op| Err(refuse::busy(op)))
    }

    /// The rule for an operation on a group.
    pub(super) fn operate_group(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get(id) else { return };
        let parts = op.parts.clone();
        let mut all = parts.iter().filter_map(|it| self.operations.get(it));
        if all.clone().all(|it| it.stage == Stage::Ended) {
            let failed = all.find_map(|it| fault(it).map(|error| named(it, error)));
            let error = op.verdict.clone().or(failed);
            return self.end_operation(id, error.map_or(Ok(()), Err), turn);
        }
        let failed = all.find_map(|it| fault(it).map(|error| (it.subject(), named(it, error))));
        let waiting: Vec<OperationId> = parts.iter().filter(|it| self.is_uncommitted(it)).cloned().collect();
        if let Some((subject, error)) = failed.filter(|_| !waiting.is_empty()) {
            if let Some(op) = self.operations.get_mut(id).filter(|it| it.verdict.is_none()) {
                op.verdict = Some(error);
                self.operations.unsaved.insert(id.clone());
            }
            self.take_step(id, Step::RollBack, turn);
            for part in waiting {
                let reason = format!("{subject}, which changes with it, failed");
                self.roll_back(&part, refuse::failed(Blame::Module, reason), turn);
            }
            return;
        }
        if waiting.is_empty() {
            return;
        }
        self.take_step(id, Step::Start, turn);
        if waiting.len() == parts.len() && waiting.iter().all(|it| self.is_ripe(it)) {
            self.take_step(id, Step::Ready, turn);
            self.take_step(id, Step::Commit, turn);
            self.commit_group(id, &waiting, turn);
        }
    }

    /// All in one turn, so all in one transaction: there is no moment at which some of the versions are in charge.
    fn commit_group(&mut self, id: &OperationId, parts: &[OperationId], turn: &mut Turn<'_>) {
        let declared = self.operations.get(id).and_then(|it| self.declared(it.request(), turn.now.wall));
        let Some(mut record) = declared else { return };
        record.earlier = parts.iter().filter_map(|it| self.replaced_by(it)).collect();
        for part in parts {
            self.commit_swap(part, turn);
        }
        self.journal.stage(Purpose::Declare(id.clone(), record.clone()), [Change::PutGroup(Box::new(record))]);
    }

    /// The version that a part is about to replace.
    fn replaced_by(&self, part: &OperationId) -> Option<(ModuleName, Version)> {
        let key = self.operations.get(part)?.key.as_ref()?;
        let (_, next) = self.incoming(key)?;
        let current = self.modules.get(key)?.current()?;
        (current.spec.version != next).then(|| (key.module.clone(), current.spec.version.clone()))
    }

    /// The commit of all parts is on disk.
    pub(super) fn group_committed(&mut self, id: &OperationId, record: GroupRecord, turn: &mut Turn<'_>) {
        self.groups.put(record);
        self.take_step(id, Step::Flip, turn);
        self.touched.operations.insert(id.clone());
    }

    /// Whether a part has a cohort that it could commit.
    fn is_uncommitted(&self, part: &OperationId) -> bool {
        let Some(op) = self.operations.get(part).filter(|it| it.stage == Stage::Running) else { return false };
        let Some(key) = &op.key else { return false };
        self.incoming(key).is_some_and(|(cohort, _)| cohort == op.order)
    }

    fn is_ripe(&self, part: &OperationId) -> bool {
        let Some(op) = self.operations.get(part) else { return false };
        let incoming = op.key.as_ref().and_then(|it| Some((it, self.incoming(it)?)));
        let (Some((key, (cohort, version))), None) = (incoming, &op.trouble) else { return false };
        self.hopeless(key, cohort).is_none()
            && self.starved(key, cohort).is_none()
            && self.cohort_serves(key, cohort, &version)
            && self.lanes_are_open(key, cohort)
    }

    pub(super) fn group_statuses(&self) -> Vec<GroupStatus> {
        let module = |record: &GroupRecord, module: &ModuleName, version: &Version| {
            let key = ModuleKey { tenant: record.tenant.clone(), module: module.clone() };
            let current = self.modules.get(&key).and_then(|it| it.current());
            GroupModule {
                module: module.clone(),
                version: version.clone(),
                runs: current.map(|it| it.spec.version.clone()),
                earlier: record.earlier.get(module).cloned(),
            }
        };
        let status = |record: &GroupRecord| GroupStatus {
            tenant: record.tenant.clone(),
            group: record.group.clone(),
            applied: record.applied,
            modules: record.modules.iter().map(|(name, version)| module(record, name, version)).collect(),
        };
        self.groups.records.values().map(status).collect()
    }
}

/// The id of a module's part.
pub(super) fn part_id(id: &OperationId, module: &ModuleName) -> OperationId {
    OperationId(format!("{id}.{module}"))
}

/// Why a part comes to nothing, if it does.
fn fault(part: &Op) -> Option<&ApiError> {
    match &part.stage {
        Stage::RollingBack(error) => Some(error),
        Stage::Ending(last) => last.error.as_ref(),
        Stage::Ended if part.operation.state == OperationState::Failed => part.operation.error.as_ref(),
        Stage::Accepting | Stage::Running | Stage::Committing | Stage::Ended => None,
    }
}

/// A part's error, as that of the group.
fn named(part: &Op, error: &ApiError) -> ApiError {
    let mut error = error.clone();
    if let Some(key) = &part.key
        && !error.message.contains(&key.to_string())
    {
        error.message = format!("{key}: {}", error.message);
    }
    error
}
