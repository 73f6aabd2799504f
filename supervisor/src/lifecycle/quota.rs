//! Whether a tenant may have what a request would give it. Refused before anything is started: what is not refused here, the kernel
//! still keeps within the tenant's group.

use std::collections::BTreeMap;

use mortise_control::TenantName;

use super::limits::effective;
use super::module::Module;
use super::operation::{Op, Stage, verb};
use super::requests::Plan;
use super::state::State;
use super::{ModuleKey, ModuleSpec, Runtime};
use crate::api::{ApiError, Blame, Desired, ErrorCode, ModuleLimits, Request, TenantUse};
use crate::store::{Change, ModuleRecord};

/// Workers, and what their memory limits come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Demand {
    workers: u64,
    memory_bytes: u64,
}

impl Demand {
    fn of(spec: &ModuleSpec, said: &ModuleLimits, workers: u32) -> Self {
        let workers = u64::from(workers);
        let each = effective(&spec.limits, said).memory_bytes.unwrap_or(0);
        Self { workers, memory_bytes: workers.saturating_mul(each) }
    }

    fn and(self, more: Self) -> Self {
        Self {
            workers: self.workers.saturating_add(more.workers),
            memory_bytes: self.memory_bytes.saturating_add(more.memory_bytes),
        }
    }

    fn without(self, less: Self) -> Self {
        Self {
            workers: self.workers.saturating_sub(less.workers),
            memory_bytes: self.memory_bytes.saturating_sub(less.memory_bytes),
        }
    }

    fn or(self, other: Self) -> Self {
        Self { workers: self.workers.max(other.workers), memory_bytes: self.memory_bytes.max(other.memory_bytes) }
    }
}

impl State {
    /// Whether the tenant's limits leave room for what a request plans.
    pub(super) fn within_quota(&self, request: &Request, plan: &Plan) -> Result<(), ApiError> {
        let tenant = request.tenant();
        let limits = self.tenants.limits(tenant);
        let check = |limit: &'static str, most: Option<u64>, used: u64, more: u64, show: fn(u64) -> String| match most
            .filter(|most| more > 0 && used.saturating_add(more) > *most)
        {
            Some(most) => Err(exceeded(tenant, limit, verb(request), [most, used, more].map(show), show(used + more))),
            None => Ok(()),
        };
        let number = |it: u64| it.to_string();
        let put = plan.changes().iter().find_map(|it| match it {
            Change::PutModule(record) => Some(record),
            _ => None,
        });
        match request {
            Request::Install { .. } => {
                let new = put.filter(|it| !self.modules.contains_key(&it.key));
                let used = self.records_of(tenant).count() as u64;
                check("modules", limits.modules.map(u64::from), used, new.map_or(0, |_| 1), number)
            }
            Request::Publish { .. } => {
                let Some(record) = put else { return Ok(()) };
                let before = self.modules.get(&record.key).map_or(0, |it| it.record.published.len());
                let used: usize = self.records_of(tenant).map(|it| it.published.len()).sum();
                let more = record.published.len().saturating_sub(before) as u64;
                check("services", limits.services.map(u64::from), used as u64, more, number)
            }
            _ if limits.workers.is_none() && limits.memory_bytes.is_none() => Ok(()),
            _ => {
                let parts = plan.parts().iter().map(|it| self.asked(&it.request));
                let more = parts.fold(self.asked(request), Demand::and);
                let used = self.modules_of(tenant).fold(Demand::default(), |sum, it| sum.and(self.demand(it)));
                check("workers", limits.workers.map(u64::from), used.workers, more.workers, number)?;
                let show = crate::manifest::show_bytes;
                check("memory", limits.memory_bytes, used.memory_bytes, more.memory_bytes, show)
            }
        }
    }

    /// The workers that a request would start beside those that there are.
    fn asked(&self, request: &Request) -> Demand {
        let Some(module) = request.module() else { return Demand::default() };
        let key = ModuleKey { tenant: request.tenant().clone(), module: module.clone() };
        let Some(module) = self.modules.get(&key) else { return Demand::default() };
        let record = &module.record;
        let set = |version: Option<&semver::Version>| {
            let spec = version.and_then(|it| module.versions.get(it)).map(|it| &it.spec);
            spec.filter(|it| counts(it))
                .map_or_else(Demand::default, |it| Demand::of(it, &record.limits, module.wanted(it)))
        };
        match request {
            Request::Start { version, .. } if !module.runs() => {
                set(version.as_ref().or_else(|| module.versions.last_key_value().map(|(newest, _)| newest)))
            }
            // Of a group, also a module that does not run.
            Request::Swap { version, .. } | Request::StartBeside { version, .. } => {
                let beside = record.beside.as_ref().map(|it| &it.version);
                if record.version.as_ref() == Some(version) || beside == Some(version) {
                    return Demand::default();
                }
                // What is kept ends before another set begins.
                set(Some(version)).without(self.kept_demand(module))
            }
            Request::Restart { .. } if module.runs() => set(record.version.as_ref()).without(self.kept_demand(module)),
            Request::Scale { instances, .. } => {
                let more = module.standing().into_iter().filter_map(|(_, it)| module.versions.get(&it)).map(|it| {
                    let wanted = instances.unwrap_or(it.spec.instances).max(1);
                    Demand::of(&it.spec, &record.limits, if counts(&it.spec) { wanted } else { 0 })
                });
                let now = module.standing().into_iter().map(|(_, it)| set(Some(&it)));
                more.fold(Demand::default(), Demand::and).without(now.fold(Demand::default(), Demand::and))
            }
            Request::SetLimits { limits, lift, .. } => {
                let said = record.limits.changed(limits, lift.iter().copied());
                let standing = module.standing().into_iter().filter_map(|(_, it)| module.versions.get(&it));
                let of = |it: &ModuleSpec| Demand::of(it, &said, if counts(it) { module.wanted(it) } else { 0 });
                let kept = self.kept_workers(&record.key).map(|it| Demand::of(&it.spec, &said, 1));
                let more = standing.map(|it| of(&it.spec)).chain(kept).fold(Demand::default(), Demand::and);
                let now = module.standing().into_iter().map(|(_, it)| set(Some(&it)));
                more.without(now.fold(self.kept_demand(module), Demand::and))
            }
            _ => Demand::default(),
        }
    }

    /// What a module's workers come to: those that it should have, or those that are there, whichever is more.
    fn demand(&self, module: &Module) -> Demand {
        let op = self.operations.on(&module.record.key);
        let record = op.and_then(coming).unwrap_or(&module.record);
        let set = |version: &semver::Version| {
            let spec = module.versions.get(version).map(|it| &it.spec).filter(|it| counts(it));
            spec.map_or_else(Demand::default, |it| {
                Demand::of(it, &record.limits, record.instances.unwrap_or(it.instances).max(1))
            })
        };
        let runs = record.desired == Desired::Running;
        let standing = record.version.iter().chain(record.beside.as_ref().map(|it| &it.version)).filter(|_| runs);
        let incoming = op.and_then(|it| incoming(it, module));
        let planned = standing.chain(incoming).map(set).fold(self.kept_demand(module), Demand::and);
        let present = module.workers.iter().filter_map(|it| self.slots.get(*it)).filter(|it| counts(&it.spec));
        planned.or(present.map(|it| Demand::of(&it.spec, &it.said, 1)).fold(Demand::default(), Demand::and))
    }

    fn kept_demand(&self, module: &Module) -> Demand {
        let kept = self.kept_workers(&module.record.key);
        kept.map(|it| Demand::of(&it.spec, &it.said, 1)).fold(Demand::default(), Demand::and)
    }

    /// What every tenant has.
    pub(super) fn used_by_all(&self) -> BTreeMap<TenantName, TenantUse> {
        let mut all: BTreeMap<TenantName, TenantUse> = BTreeMap::new();
        for module in self.modules.values() {
            let tenant = &module.record.key.tenant;
            let demand = self.demand(module);
            let used = all.entry(tenant.clone()).or_insert_with(|| TenantUse {
                channels: u64::from(self.tenants.channels(tenant)),
                ..TenantUse::default()
            });
            used.modules += 1;
            used.services += module.record.published.len() as u64;
            used.workers += demand.workers;
            used.memory_bytes += demand.memory_bytes;
        }
        all
    }

    pub(super) fn modules_of(&self, tenant: &TenantName) -> impl Iterator<Item = &Module> {
        self.modules.values().filter(move |it| it.record.key.tenant == *tenant)
    }

    /// The records of a tenant's modules, as they are about to be.
    fn records_of(&self, tenant: &TenantName) -> impl Iterator<Item = &ModuleRecord> {
        let new = self.coming_records().filter(|it| !self.modules.contains_key(&it.key));
        let known =
            self.modules.values().map(|it| self.operations.on(&it.record.key).and_then(coming).unwrap_or(&it.record));
        known.chain(new).filter(move |it| it.key.tenant == *tenant)
    }
}

/// A base is the operator's, and a module of resources has no workers.
const fn counts(spec: &ModuleSpec) -> bool {
    match spec.runtime {
        Runtime::Sdk | Runtime::Http => true,
        Runtime::Base | Runtime::Resource { .. } => false,
    }
}

/// The record that an operation is about to write.
fn coming(op: &Op) -> Option<&ModuleRecord> {
    op.changes.iter().find_map(|it| match it {
        Change::PutModule(record) => Some(record),
        _ => None,
    })
}

/// The version of which an operation brings up a set of workers that is not in the module's record yet.
fn incoming<'a>(op: &'a Op, module: &'a Module) -> Option<&'a semver::Version> {
    let made = op.order <= module.record.cohort || module.is_beside(op.order);
    if made || !matches!(op.stage, Stage::Accepting | Stage::Running | Stage::Committing) {
        return None;
    }
    match op.request() {
        Request::Swap { version, .. } | Request::StartBeside { version, .. } => {
            Some(version).filter(|it| module.record.version.as_ref() != Some(*it))
        }
        Request::Restart { .. } => module.record.version.as_ref(),
        _ => None,
    }
}

fn exceeded(tenant: &TenantName, limit: &str, verb: &str, [most, used, more]: [String; 3], all: String) -> ApiError {
    let message =
        format!("the tenant {tenant} may have {limit} = {most}: it has {used}, and {verb} asks for {more} more");
    ApiError::new(ErrorCode::Quota, Blame::Operator, message).remedy(format!(
        "Stop, scale down or remove something of the tenant, or let the operator raise it: `mortise tenant set {tenant} {limit}={all}`."
    ))
}
