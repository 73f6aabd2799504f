//! Changes laid on top of each other: what a store holds that has seen them.

use std::collections::BTreeMap;

use mortise_control::{GroupName, TenantName};
use semver::Version;

use super::{
    Change, GroupRecord, MetaRecord, ModuleRecord, OperationRecord, Records, RoutesRecord, TenantRecord, VersionRecord,
    WorkerRecord,
};
use crate::lifecycle::ModuleKey;

/// The outcome of changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fold {
    modules: BTreeMap<ModuleKey, ModuleRecord>,
    versions: BTreeMap<(ModuleKey, Version), VersionRecord>,
    workers: BTreeMap<u32, WorkerRecord>,
    operations: BTreeMap<String, OperationRecord>,
    routes: BTreeMap<TenantName, RoutesRecord>,
    groups: BTreeMap<(TenantName, GroupName), GroupRecord>,
    tenants: BTreeMap<TenantName, TenantRecord>,
    meta: MetaRecord,
}

impl Fold {
    pub(super) fn of(records: &Records) -> Self {
        let mut fold = Self::default();
        for change in changes(records) {
            fold.apply(change);
        }
        fold
    }

    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::PutModule(it) => drop(self.modules.insert(it.key.clone(), it)),
            Change::RemoveModule(key) => drop(self.modules.remove(&key)),
            Change::PutVersion(it) => drop(self.versions.insert((it.key.clone(), it.spec.version.clone()), *it)),
            Change::RemoveVersion(key, version) => drop(self.versions.remove(&(key, version))),
            Change::PutWorker(it) => drop(self.workers.insert(it.worker.slot, it)),
            Change::PutOperation(it) => drop(self.operations.insert(it.operation.id.0.clone(), *it)),
            Change::RemoveOperation(id) => drop(self.operations.remove(&id.0)),
            Change::PutRoutes(it) => drop(self.routes.insert(it.tenant.clone(), *it)),
            Change::PutGroup(it) => drop(self.groups.insert((it.tenant.clone(), it.group.clone()), *it)),
            Change::RemoveGroup(tenant, group) => drop(self.groups.remove(&(tenant, group))),
            Change::PutTenant(it) => drop(self.tenants.insert(it.tenant.clone(), *it)),
            Change::RemoveTenant(tenant) => drop(self.tenants.remove(&tenant)),
            Change::PutMeta(it) => self.meta = it,
        }
    }

    pub(super) fn records(&self) -> Records {
        Records {
            modules: self.modules.values().cloned().collect(),
            versions: self.versions.values().cloned().collect(),
            workers: self.workers.values().cloned().collect(),
            operations: self.operations.values().cloned().collect(),
            routes: self.routes.values().cloned().collect(),
            groups: self.groups.values().cloned().collect(),
            tenants: self.tenants.values().cloned().collect(),
            meta: self.meta,
        }
    }
}

/// What makes an empty store hold these records.
pub(super) fn changes(records: &Records) -> Vec<Change> {
    let Records { modules, versions, workers, operations, routes, groups, tenants, meta } = records;
    let mut changes = vec![Change::PutMeta(*meta)];
    changes.extend(modules.iter().cloned().map(Change::PutModule));
    changes.extend(versions.iter().cloned().map(|it| Change::PutVersion(Box::new(it))));
    changes.extend(workers.iter().cloned().map(Change::PutWorker));
    changes.extend(operations.iter().cloned().map(|it| Change::PutOperation(Box::new(it))));
    changes.extend(routes.iter().cloned().map(|it| Change::PutRoutes(Box::new(it))));
    changes.extend(groups.iter().cloned().map(|it| Change::PutGroup(Box::new(it))));
    changes.extend(tenants.iter().cloned().map(|it| Change::PutTenant(Box::new(it))));
    changes
}
