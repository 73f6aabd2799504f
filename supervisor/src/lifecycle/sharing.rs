//! Services that modules of other tenants may call: by the word of three. The module's author exports it in module.toml, its tenant
//! names who may call it, and the caller's tenant names whose service it means. Who is not named gets the same answer, `Denied`, whether
//! there is such a service, such a module or such a tenant, or not; and nothing that the other tenant does makes the supervisor send it
//! a message.

use std::collections::BTreeSet;

use mortise_control::{ServiceName, TenantName, WorkerId};

use super::ModuleKey;
use super::channel::End;
use super::module::Module;
use super::refusals as refuse;
use super::requests::{Plan, Then};
use super::state::State;
use super::step::Step;
use super::turn::Turn;
use crate::api::{ApiError, Blame, ErrorCode, OperationId, Request};
use crate::store::{Change, TenantRecord};

/// How many services a tenant exports, and how many it imports; and to how many tenants one service.
const MOST: usize = 256;

impl State {
    /// The module that answers when a module of this tenant calls a service.
    pub(super) fn publisher(&self, tenant: &TenantName, service: &ServiceName) -> Option<&ModuleKey> {
        let publishers = &self.index.publishers;
        match self.imported(tenant, service) {
            None => publishers.get(&(tenant.clone(), service.clone())),
            Some(from) if self.allows(from, service, tenant) => publishers.get(&(from.clone(), service.clone())),
            Some(_) => None,
        }
    }

    /// Whether a caller has no right to what its tenant means by a service.
    pub(super) fn denies(&self, caller: WorkerId, service: &ServiceName) -> bool {
        let Some(tenant) = self.slots.get(caller).map(|it| &it.key.tenant) else { return false };
        self.imported(tenant, service).is_some_and(|from| !self.allows(from, service, tenant))
    }

    /// The tenant whose service it is that this tenant's modules mean, if it is not their own.
    fn imported(&self, tenant: &TenantName, service: &ServiceName) -> Option<&TenantName> {
        self.tenants.get(tenant)?.imports.get(service)
    }

    /// Whether the owner lets another tenant call a service, by the tenant's word and the module's.
    fn allows(&self, owner: &TenantName, service: &ServiceName, to: &TenantName) -> bool {
        let named = self.tenants.get(owner).and_then(|it| it.exports.get(service)).is_some_and(|it| it.contains(to));
        let publisher = self.index.publishers.get(&(owner.clone(), service.clone()));
        let spec = publisher.and_then(|it| self.modules.get(it)).and_then(Module::shown_version).map(|it| &it.spec);
        named && spec.and_then(|it| it.provided(service)).is_none_or(|it| it.export)
    }

    /// Live workers that may mean a service of this tenant when they call: its own, and those of tenants that import it.
    pub(super) fn callers_of<'a>(
        &'a self,
        tenant: &'a TenantName,
        service: &'a ServiceName,
    ) -> impl Iterator<Item = &'a BTreeSet<WorkerId>> + Clone + 'a {
        let importers = self.tenants.importers(tenant, service);
        let tenants = std::iter::once(tenant).chain(importers);
        tenants.filter_map(move |it| self.index.callers.get(&(it.clone(), service.clone())))
    }

    pub(super) fn put_tenant(&mut self, record: TenantRecord) {
        let before = self.tenants.get(&record.tenant).map(|it| (it.exports.clone(), it.imports.clone()));
        let shares = before.unwrap_or_default() != (record.exports.clone(), record.imports.clone());
        self.tenants.put(record);
        if shares {
            self.touch_sharing();
        }
    }

    pub(super) fn remove_tenant(&mut self, tenant: &TenantName) {
        self.tenants.remove(tenant);
        self.touch_sharing();
    }

    /// Who may call what has changed: everybody who calls looks again, and so does every channel.
    fn touch_sharing(&mut self) {
        self.touch_all_routes();
        let channels: Vec<_> = self.channels.keys().copied().collect();
        self.touched.channels.extend(channels);
        self.touch_routing_operations();
    }

    pub(super) fn plan_export(
        &self,
        tenant: &TenantName,
        service: &ServiceName,
        to: &TenantName,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        let mut record = self.shareable(tenant, to, turn)?;
        record.exports.entry(service.clone()).or_default().insert(to.clone());
        if record.exports.len() > MOST || record.exports[service].len() > MOST {
            return Err(too_many("exports"));
        }
        Ok(Plan::of_tenant(vec![Change::PutTenant(Box::new(record))], Then::Work))
    }

    pub(super) fn plan_unexport(
        &self,
        tenant: &TenantName,
        service: &ServiceName,
        to: &TenantName,
    ) -> Result<Plan, ApiError> {
        self.no_other_of_tenant(tenant)?;
        let missing = || refuse::not_found(format!("the tenant {tenant} does not export {service} to {to}"));
        let mut record = self.tenants.get(tenant).cloned().ok_or_else(missing)?;
        let tenants = record.exports.get_mut(service).ok_or_else(missing)?;
        if !tenants.remove(to) {
            return Err(missing().remedy("`mortise --json tenant ls` shows what is exported."));
        }
        record.exports.retain(|_, it| !it.is_empty());
        Ok(Plan::of_tenant(vec![Change::PutTenant(Box::new(record))], Then::Work))
    }

    /// Whether the other tenant is there is nothing that this one learns.
    pub(super) fn plan_import(
        &self,
        tenant: &TenantName,
        service: &ServiceName,
        from: &TenantName,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        let mut record = self.shareable(tenant, from, turn)?;
        record.imports.insert(service.clone(), from.clone());
        if record.imports.len() > MOST {
            return Err(too_many("imports"));
        }
        Ok(Plan::of_tenant(vec![Change::PutTenant(Box::new(record))], Then::Work))
    }

    pub(super) fn plan_unimport(&self, tenant: &TenantName, service: &ServiceName) -> Result<Plan, ApiError> {
        self.no_other_of_tenant(tenant)?;
        let missing = || {
            refuse::not_found(format!("the tenant {tenant} does not import {service}"))
                .remedy("`mortise --json tenant ls` shows what is imported.")
        };
        let mut record = self.tenants.get(tenant).cloned().ok_or_else(missing)?;
        record.imports.remove(service).ok_or_else(missing)?;
        Ok(Plan::of_tenant(vec![Change::PutTenant(Box::new(record))], Then::Work))
    }

    fn shareable(&self, tenant: &TenantName, other: &TenantName, turn: &Turn<'_>) -> Result<TenantRecord, ApiError> {
        self.no_other_of_tenant(tenant)?;
        self.known_tenant(tenant)?;
        if tenant == other {
            let message = format!("{other} is the tenant itself: its modules call each other's services without that");
            return Err(ApiError::new(ErrorCode::Invalid, Blame::Caller, message).remedy("Name another tenant."));
        }
        Ok(self.tenant_record(tenant, turn))
    }

    /// What other tenants have said of one that goes: whoever is given its name gets none of it.
    pub(super) fn forgotten_by_others(&self, tenant: &TenantName) -> Result<Vec<Change>, ApiError> {
        let mut changes = Vec::new();
        for record in self.tenants.records().filter(|it| it.tenant != *tenant) {
            let mut kept = record.clone();
            kept.imports.retain(|_, from| from != tenant);
            for allowed in kept.exports.values_mut() {
                allowed.remove(tenant);
            }
            kept.exports.retain(|_, it| !it.is_empty());
            if kept != *record {
                self.no_other_of_tenant(&record.tenant)?;
                changes.push(Change::PutTenant(Box::new(kept)));
            }
        }
        Ok(changes)
    }

    /// Done when whoever may call has routes, and who may not has no channel.
    pub(super) fn operate_sharing(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        self.take_step(id, Step::Route, turn);
        let Some(op) = self.operations.get(id) else { return };
        let (owner, service, caller) = match op.request() {
            Request::Export { tenant, service, to } | Request::Unexport { tenant, service, to } => {
                (Some(tenant), service, to)
            }
            Request::Import { tenant, service, from } => (Some(from), service, tenant),
            Request::Unimport { tenant, service } => (None, service, tenant),
            _ => return,
        };
        let (service, caller) = (service.clone(), caller.clone());
        let foreign = |it: &&super::channel::Channel| {
            let tenant = |id| self.slots.get(id).map(|it| &it.key.tenant);
            it.edge.service == service && tenant(it.edge.caller) == Some(&caller) && !self.granted(&it.edge)
        };
        let open = self.channels.values().any(|it| it.callee != End::Released && foreign(&it));
        let key = owner.and_then(|it| self.index.publishers.get(&(it.clone(), service.clone())));
        let lacks = key.is_some_and(|key| {
            let callers = self.index.callers.get(&(caller.clone(), service.clone()));
            callers.into_iter().flatten().any(|it| self.lacks(*it, key, &service))
        });
        if !open && !lacks {
            self.end_operation(id, Ok(()), turn);
        }
    }
}

fn too_many(what: &str) -> ApiError {
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("a tenant has at most {MOST} {what}"))
        .remedy("Take back some that are not needed.")
}
