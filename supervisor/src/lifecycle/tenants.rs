//! Tenants: declared with limits, changed, taken away. `default` is there without being declared, and so is any other that had
//! modules before tenants were declared; they have no limits until somebody says so.

use std::collections::{BTreeMap, BTreeSet};

use mortise_control::{ServiceName, TenantName};

use super::refusals as refuse;
use super::requests::{Plan, Then};
use super::state::State;
use super::step::Step;
use super::turn::{About, Turn};
use super::{Action, DEFAULT_TENANT, Timer};
use crate::api::{ApiError, Blame, ErrorCode, EventKind, OperationId, TenantLimit, TenantLimits, TenantStatus};
use crate::store::{Change, RoutesRecord, TenantRecord};

/// The largest number of a limit: more than any host has, and small enough to be added up.
const MOST: u64 = 1 << 50;
/// Less memory starts no worker.
const LEAST_MEMORY: u64 = 1 << 20;
/// The kernel takes no smaller quota of the processors.
const LEAST_CPU_MILLI: u64 = 10;
/// With less, the longest line would not fit into what may come at once.
const LEAST_LOG: u64 = 2 << 10;

/// What is known of tenants.
#[derive(Debug, Default)]
pub(super) struct TenantBook {
    records: BTreeMap<TenantName, TenantRecord>,
    /// Channels by their caller's tenant.
    channels: BTreeMap<TenantName, u32>,
    /// Tenants that were refused one, and nothing of theirs has gone since.
    full: BTreeSet<TenantName>,
    /// Tenants whose limits the kernel has not taken.
    exceeding: BTreeSet<TenantName>,
}

impl TenantBook {
    pub(super) fn put(&mut self, record: TenantRecord) {
        self.records.insert(record.tenant.clone(), record);
    }

    pub(super) fn remove(&mut self, tenant: &TenantName) {
        self.records.remove(tenant);
    }

    pub(super) fn get(&self, tenant: &TenantName) -> Option<&TenantRecord> {
        self.records.get(tenant)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &TenantRecord> {
        self.records.values()
    }

    /// What a tenant may have.
    pub(super) fn limits(&self, tenant: &TenantName) -> TenantLimits {
        self.records.get(tenant).map(|it| it.limits).unwrap_or_default()
    }

    /// Tenants whose modules mean this tenant's service.
    pub(super) fn importers<'a>(
        &'a self,
        owner: &'a TenantName,
        service: &'a ServiceName,
    ) -> impl Iterator<Item = &'a TenantName> + Clone + 'a {
        self.records.values().filter(move |it| it.imports.get(service) == Some(owner)).map(|it| &it.tenant)
    }

    pub(super) fn channel_made(&mut self, payer: &TenantName) {
        *self.channels.entry(payer.clone()).or_default() += 1;
    }

    pub(super) fn channel_gone(&mut self, payer: &TenantName) {
        self.full.remove(payer);
        let Some(count) = self.channels.get_mut(payer) else { return };
        *count -= 1;
        if *count == 0 {
            self.channels.remove(payer);
        }
    }

    /// Whether a refusal is news.
    pub(super) fn tells_of_refusal(&mut self, payer: &TenantName) -> bool {
        self.full.insert(payer.clone())
    }

    pub(super) fn channels(&self, tenant: &TenantName) -> u32 {
        self.channels.get(tenant).copied().unwrap_or(0)
    }

    /// Whether a caller's tenant may have one channel more.
    pub(super) fn has_room_for_channel(&self, tenant: &TenantName) -> bool {
        self.limits(tenant).channels.is_none_or(|it| self.channels(tenant) < it)
    }
}

impl State {
    pub(super) fn plan_add_tenant(
        &self,
        tenant: &TenantName,
        limits: &TenantLimits,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        self.no_other_of_tenant(tenant)?;
        if self.tenants.get(tenant).is_some() || tenant.as_str() == DEFAULT_TENANT {
            return Err(refuse::conflict(format!("the tenant {tenant} is there"))
                .remedy(format!("`mortise tenant set {tenant} LIMIT=VALUE` changes its limits.")));
        }
        checked(limits)?;
        let record = TenantRecord { limits: *limits, ..TenantRecord::new(tenant.clone(), turn.now.wall) };
        Ok(Plan::of_tenant(vec![Change::PutTenant(Box::new(record))], Then::Work))
    }

    pub(super) fn plan_set_tenant(
        &self,
        tenant: &TenantName,
        limits: &TenantLimits,
        lift: &BTreeSet<TenantLimit>,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        self.no_other_of_tenant(tenant)?;
        self.known_tenant(tenant)?;
        checked(limits)?;
        let mut record = self.tenant_record(tenant, turn);
        record.limits = record.limits.changed(limits, lift.iter().copied());
        Ok(Plan::of_tenant(vec![Change::PutTenant(Box::new(record))], Then::Work))
    }

    /// Whoever is given the name later finds nothing of it.
    pub(super) fn plan_remove_tenant(&self, tenant: &TenantName) -> Result<Plan, ApiError> {
        if tenant.as_str() == DEFAULT_TENANT {
            return Err(refuse::conflict(format!("the tenant {tenant} is always there"))
                .remedy(format!("`mortise tenant set {tenant} LIMIT=none` lifts its limits.")));
        }
        self.no_other_of_tenant(tenant)?;
        self.known_tenant(tenant)?;
        if let Some(op) = self.operations.unended().find(|it| it.request().tenant() == tenant) {
            return Err(refuse::busy(op));
        }
        let modules: Vec<_> = self.modules_of(tenant).map(|it| it.record.key.module.clone()).collect();
        if !modules.is_empty() {
            return Err(refuse::conflict(format!("the tenant {tenant} has modules: {}", refuse::list(modules)))
                .remedy(format!("`mortise --tenant {tenant} uninstall MODULE` each of them first.")));
        }
        let mut changes = vec![Change::RemoveTenant(tenant.clone())];
        changes.extend(self.forgotten_by_others(tenant)?);
        changes.extend(self.groups.of_tenant(tenant).map(|it| Change::RemoveGroup(tenant.clone(), it.group.clone())));
        if let Some(record) = self.routes.record(tenant) {
            changes.push(Change::PutRoutes(Box::new(RoutesRecord { kept: Vec::new(), ..record })));
        }
        Ok(Plan::of_tenant(changes, Then::Work))
    }

    /// Modules come and routes are laid down only for a tenant that is there: a name that was mistyped makes none.
    pub(super) fn known_tenant(&self, tenant: &TenantName) -> Result<(), ApiError> {
        let is_there = tenant.as_str() == DEFAULT_TENANT
            || self.tenants.get(tenant).is_some()
            || self.modules_of(tenant).next().is_some();
        if is_there {
            return Ok(());
        }
        Err(refuse::not_found(format!("there is no tenant {tenant}"))
            .remedy(format!("`mortise tenant ls` lists those that are; `mortise tenant add {tenant}` makes it one.")))
    }

    pub(super) fn no_other_of_tenant(&self, tenant: &TenantName) -> Result<(), ApiError> {
        self.operations.on_tenant(tenant).map_or(Ok(()), |op| Err(refuse::busy(op)))
    }

    /// What there is of a tenant on disk, or would be.
    pub(super) fn tenant_record(&self, tenant: &TenantName, turn: &Turn<'_>) -> TenantRecord {
        self.tenants.get(tenant).cloned().unwrap_or_else(|| TenantRecord::new(tenant.clone(), turn.now.wall))
    }

    /// Done when the host enforces it, or has said why not.
    pub(super) fn operate_tenant(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        self.take_step(id, Step::Enforce, turn);
        let Some(op) = self.operations.get_mut(id) else { return };
        if !op.ordered {
            op.ordered = true;
            let tenant = op.request().tenant().clone();
            let limits = self.tenants.limits(&tenant);
            turn.act(Action::SetQuota { operation: Some(id.clone()), tenant, limits });
        }
    }

    /// The host has been told. What it cannot enforce yet keeps further workers from starting all the same, and is tried again.
    pub(super) fn quota_set(
        &mut self,
        operation: Option<&OperationId>,
        tenant: &TenantName,
        result: Result<(), String>,
        turn: &mut Turn<'_>,
    ) {
        let news = match result {
            Err(reason) => {
                turn.timer(Timer::Quota(tenant.clone()), self.config.backoff_most);
                let is_news = self.tenants.exceeding.insert(tenant.clone()) || operation.is_some();
                is_news.then(|| {
                    format!(
                        "the quota of the tenant {tenant} holds for what is started from now on; the kernel does not enforce all of it \
                         on what runs, and is asked again: {reason}"
                    )
                })
            }
            Ok(()) => {
                let is_news = self.tenants.exceeding.remove(tenant);
                is_news.then(|| format!("the kernel enforces the quota of the tenant {tenant} on all that runs"))
            }
        };
        let kind = if operation.is_some() { EventKind::Operation } else { EventKind::Supervisor };
        if let Some(text) = news {
            turn.tell(kind, About { operation, ..About::default() }, text);
        }
        if let Some(id) = operation {
            self.end_operation(id, Ok(()), turn);
        }
    }

    pub(super) fn enforce_again(&self, tenant: &TenantName, turn: &mut Turn<'_>) {
        if self.tenants.exceeding.contains(tenant) {
            let (tenant, limits) = (tenant.clone(), self.tenants.limits(tenant));
            turn.act(Action::SetQuota { operation: None, tenant, limits });
        }
    }

    /// The quotas that hold, for a host that has just been taken over.
    pub(super) fn restore_quotas(&self, turn: &mut Turn<'_>) {
        for record in self.tenants.records.values() {
            let (tenant, limits) = (record.tenant.clone(), record.limits);
            turn.act(Action::SetQuota { operation: None, tenant, limits });
        }
    }

    pub(super) fn tenant_statuses(&self) -> Vec<TenantStatus> {
        let default = super::default_tenant();
        let mut names: BTreeSet<&TenantName> = self.tenants.records.keys().collect();
        names.insert(&default);
        names.extend(self.modules.keys().map(|it| &it.tenant));
        let mut used = self.used_by_all();
        let status = |tenant: &TenantName| TenantStatus {
            tenant: tenant.clone(),
            since: self.tenants.get(tenant).map(|it| it.since),
            limits: self.tenants.limits(tenant),
            exports: self.tenants.get(tenant).map(|it| it.exports.clone()).unwrap_or_default(),
            imports: self.tenants.get(tenant).map(|it| it.imports.clone()).unwrap_or_default(),
            used: used.remove(tenant).unwrap_or_default(),
        };
        names.into_iter().map(status).collect()
    }
}

fn checked(limits: &TenantLimits) -> Result<(), ApiError> {
    let TenantLimits { memory_bytes, cpu_milli, pids, modules, workers, channels, services, log_bytes } = *limits;
    let counts =
        [("pids", pids), ("modules", modules), ("workers", workers), ("channels", channels), ("services", services)];
    let counts = counts.map(|(field, value)| (field, value.map(u64::from), 0, MOST));
    let amounts = [
        ("memory_bytes", memory_bytes, LEAST_MEMORY, MOST),
        ("cpu_milli", cpu_milli.map(u64::from), LEAST_CPU_MILLI, MOST),
        ("log_bytes", log_bytes.map(u64::from), LEAST_LOG, MOST),
    ];
    for (field, value, least, most) in amounts.into_iter().chain(counts) {
        if let Some(value) = value.filter(|it| !(least..=most).contains(it)) {
            let message = format!("{field} = {value} cannot be a limit of a tenant");
            return Err(ApiError::new(ErrorCode::Invalid, Blame::Caller, message)
                .remedy(format!("{least} to {most}, or none at all.")));
        }
    }
    Ok(())
}
