//! What tenants have laid down for their services: which version answers whom. Applied as a whole, in one record of the store; callers
//! and bases are then told anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use mortise_control::routing::{RouteFile, Routes, Rule, TagSource};
use mortise_control::{ServiceName, TenantName, WorkerId};

use super::refusals as refuse;
use super::requests::{Plan, Then};
use super::state::State;
use super::step::Step;
use super::turn::Turn;
use super::worker::Worker;
use crate::api::{ApiError, Blame, ErrorCode, OperationId, RoutesStatus};
use crate::store::{Change, RoutesRecord, RoutesVersion};

/// Routes that are kept of a tenant, those in force among them.
const KEPT: usize = 10;

/// The routes of all tenants.
#[derive(Debug, Default)]
pub(super) struct RouteBook {
    tenants: BTreeMap<TenantName, Tenant>,
}

#[derive(Debug)]
struct Tenant {
    /// As it is on disk.
    record: RoutesRecord,
    /// What of it is in force.
    routes: Routes,
    shown: Arc<RoutesStatus>,
}

impl RouteBook {
    pub(super) fn put(&mut self, record: RoutesRecord) {
        let newest = record.kept.last();
        // What was sound when it was applied, and is not by the rules of a later version, holds no more.
        let routes = newest.and_then(|it| Routes::check(&it.routes).ok()).unwrap_or_default();
        let shown = Arc::new(RoutesStatus {
            tenant: record.tenant.clone(),
            number: newest.map_or(0, |it| it.number),
            applied: newest.map(|it| it.at),
            routes: newest.map(|it| it.routes.clone()).unwrap_or_default(),
            earlier: record.kept.iter().rev().skip(1).rev().map(|it| it.number).collect(),
        });
        self.tenants.insert(record.tenant.clone(), Tenant { record, routes, shown });
    }

    pub(super) fn shown(&self) -> Vec<Arc<RoutesStatus>> {
        self.tenants.values().map(|it| Arc::clone(&it.shown)).collect()
    }

    /// As it is on disk.
    pub(super) fn record(&self, tenant: &TenantName) -> Option<RoutesRecord> {
        self.tenants.get(tenant).map(|it| it.record.clone())
    }

    /// The rules that a caller's calls of a service may match.
    pub(super) fn of_calls(&self, caller: &Worker, service: &ServiceName) -> Vec<Rule> {
        let routes = self.tenants.get(&caller.key.tenant).and_then(|it| it.routes.routes.get(service));
        routes.map(|it| it.rules_of_calls(&caller.key.tenant, &caller.key.module)).unwrap_or_default()
    }

    /// The rules that HTTP requests to a service may match, and the tags that they get.
    pub(super) fn of_requests(&self, tenant: &TenantName, service: &ServiceName) -> (Vec<Rule>, Vec<TagSource>) {
        let Some(tenant) = self.tenants.get(tenant) else { return Default::default() };
        let rules = tenant.routes.routes.get(service).map(|it| it.rules_of_requests());
        (rules.unwrap_or_default(), tenant.routes.tags.clone())
    }
}

impl State {
    pub(super) fn put_routes(&mut self, record: RoutesRecord) {
        let tenant = record.tenant.clone();
        self.routes.put(record);
        let callers = self.index.callers.iter().filter(|((it, _), _)| *it == tenant);
        self.touched.callers.extend(callers.flat_map(|(_, callers)| callers));
        self.touched.http = true;
    }

    pub(super) fn plan_apply_routes(
        &self,
        tenant: &TenantName,
        file: &RouteFile,
        turn: &Turn<'_>,
    ) -> Result<Plan, ApiError> {
        self.no_other_routes(tenant)?;
        self.known_tenant(tenant)?;
        self.no_other_of_tenant(tenant)?;
        if let Err(faults) = Routes::check(file) {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let message = format!("these cannot be routes: {}", faults.join("; "));
            return Err(ApiError::new(ErrorCode::Invalid, Blame::Caller, message)
                .remedy("Mend the named fields; nothing was changed."));
        }
        let mut record = self.routes_record(tenant);
        if record.kept.last().is_some_and(|it| it.routes == *file) {
            return Ok(Plan::of_tenant(Vec::new(), Then::Work));
        }
        record.applied += 1;
        record.kept.push(RoutesVersion { number: record.applied, at: turn.now.wall, routes: file.clone() });
        let surplus = record.kept.len().saturating_sub(KEPT);
        record.kept.drain(..surplus);
        Ok(Plan::of_tenant(vec![Change::PutRoutes(Box::new(record))], Then::Work))
    }

    pub(super) fn plan_rollback_routes(&self, tenant: &TenantName) -> Result<Plan, ApiError> {
        self.no_other_routes(tenant)?;
        let mut record = self.routes_record(tenant);
        if record.kept.pop().is_none() {
            return Err(refuse::conflict(format!("the tenant {tenant} has no routes"))
                .remedy("`mortise route apply FILE` puts some in force."));
        }
        Ok(Plan::of_tenant(vec![Change::PutRoutes(Box::new(record))], Then::Work))
    }

    fn no_other_routes(&self, tenant: &TenantName) -> Result<(), ApiError> {
        self.operations.on_routes(tenant).map_or(Ok(()), |op| Err(refuse::busy(op)))
    }

    fn routes_record(&self, tenant: &TenantName) -> RoutesRecord {
        let none = || RoutesRecord { tenant: tenant.clone(), applied: 0, kept: Vec::new() };
        self.routes.record(tenant).unwrap_or_else(none)
    }

    /// Done when they are in force everywhere.
    pub(super) fn operate_routes(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        self.take_step(id, Step::Route, turn);
        let Some(op) = self.operations.get(id) else { return };
        let tenant = op.request().tenant().clone();
        let last = op.unrouted;
        let first = last.unwrap_or(WorkerId { slot: 0, generation: 0 });
        let asks = |it: &Worker| it.key.tenant == tenant && it.called_services().next().is_some();
        let lags = |it: &&Worker| asks(it) && it.takes_routes() && !it.has_taken_routes();
        // The search begins with whoever it ended with the last time.
        let lagging = self.slots.get(first).filter(lags).or_else(|| self.slots.workers().find(lags)).map(|it| it.id);
        if lagging.is_none() && self.http_in_force() {
            return self.end_operation(id, Ok(()), turn);
        }
        if let Some(op) = self.operations.get_mut(id) {
            op.unrouted = lagging;
        }
    }
}
