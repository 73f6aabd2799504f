//! Modules as the store has them, and the indexes over them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use mortise_control::routing::{Match, Rule, Share};
use mortise_control::{ResourceName, ServiceName, TenantName, WorkerId};
use semver::Version;

use super::state::State;
use super::{ModuleKey, ModuleSpec, ResourceId};
use crate::api::{Desired, ModuleLimits, WorkerStatus};
use crate::store::{Change, ModuleRecord};

/// Workers that have ended and are still shown.
pub(super) const SHOWN_ENDED: usize = 3;

#[derive(Debug)]
pub(super) struct Module {
    /// As it is on disk.
    pub(super) record: ModuleRecord,
    pub(super) versions: BTreeMap<Version, Installed>,
    pub(super) workers: BTreeSet<WorkerId>,
    pub(super) ended: VecDeque<WorkerStatus>,
    /// The time of the version that is kept is over, and its end has not been asked for yet.
    pub(super) keep_over: bool,
    /// The version beside has failed a gate. It gets nothing from then on, also while that cannot be put on disk.
    pub(super) withheld: bool,
}

/// An installed version.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) spec: Arc<ModuleSpec>,
    pub(super) digest: String,
    pub(super) at: Timestamp,
}

/// A service of a tenant.
pub(super) type ServiceKey = (TenantName, ServiceName);

/// A host and a path prefix, as the ingress tells them apart.
pub(super) type HttpKey = (Option<String>, String);

/// Who offers and who calls what.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The module that has published a service.
    pub(super) publishers: BTreeMap<ServiceKey, ModuleKey>,
    /// Live workers that may call a service.
    pub(super) callers: BTreeMap<ServiceKey, BTreeSet<WorkerId>>,
    /// What published services of running modules take of the ingress.
    pub(super) http: BTreeMap<HttpKey, (ModuleKey, ServiceName)>,
    /// The running module that provides a resource.
    pub(super) resources: BTreeMap<(TenantName, ResourceName), ModuleKey>,
    /// Live base workers.
    pub(super) bases: BTreeSet<WorkerId>,
}

impl Module {
    pub(super) fn new(key: ModuleKey) -> Self {
        let record = ModuleRecord {
            key,
            desired: Desired::Installed,
            version: None,
            published: BTreeSet::new(),
            cohort: 0,
            kept: None,
            beside: None,
            instances: None,
            limits: ModuleLimits::default(),
        };
        let (versions, workers, ended) = (BTreeMap::new(), BTreeSet::new(), VecDeque::new());
        Self { record, versions, workers, ended, keep_over: false, withheld: false }
    }

    pub(super) fn runs(&self) -> bool {
        self.record.desired == Desired::Running
    }

    /// The version that runs, or the newest installed.
    pub(super) fn shown_version(&self) -> Option<&Installed> {
        match &self.record.version {
            Some(version) => self.versions.get(version),
            None => self.versions.last_key_value().map(|(_, it)| it),
        }
    }

    /// Whether a set of workers serves: the one in charge, or the one beside it.
    pub(super) fn stands(&self, cohort: u64) -> bool {
        cohort == self.record.cohort || self.is_beside(cohort)
    }

    pub(super) fn is_beside(&self, cohort: u64) -> bool {
        self.record.beside.as_ref().is_some_and(|it| it.cohort == cohort)
    }

    /// The sets of workers that serve, with their versions; none if the module is not to run.
    pub(super) fn standing(&self) -> Vec<(u64, Version)> {
        let charge = self.record.version.as_ref().filter(|_| self.runs()).map(|it| (self.record.cohort, it.clone()));
        let beside = self.record.beside.as_ref().filter(|_| self.runs()).map(|it| (it.cohort, it.version.clone()));
        charge.into_iter().chain(beside).collect()
    }

    /// How what no route decides is shared between the version in charge and the one beside it; none: all of it is the former's.
    pub(super) fn sharing(&self) -> Option<Rule> {
        let beside = self.record.beside.as_ref().filter(|it| it.share > 0 && !self.withheld)?;
        let charge = Share { version: self.record.version.clone()?, weight: 100_u32.saturating_sub(beside.share) };
        let to = vec![charge, Share { version: beside.version.clone(), weight: beside.share }];
        Some(Rule { matches: Match::default(), to, sticky: None })
    }

    /// How many workers of a version it should have.
    pub(super) fn wanted(&self, spec: &ModuleSpec) -> u32 {
        self.record.instances.unwrap_or(spec.instances).max(1)
    }

    /// The version that is to run.
    pub(super) fn current(&self) -> Option<&Installed> {
        if self.runs() { self.versions.get(self.record.version.as_ref()?) } else { None }
    }
}

impl State {
    /// Makes a change of the store, once it is on disk, a change of the state.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::PutModule(record) => {
                let key = record.key.clone();
                self.unindex(&key);
                let module = self.modules.get_or_insert_with(&key, || Module::new(key.clone()));
                let before = std::mem::replace(&mut module.record, record);
                module.keep_over &= before.kept == module.record.kept;
                module.withheld &= before.beside == module.record.beside;
                let run = module.record.beside.as_ref().map_or(0, |it| it.shadow_run);
                self.turn_shadowing_to(&key, run);
                self.spread_limits(&key);
                self.index(&key);
                self.touched.http = true;
                self.touch_services(&key, before.published.iter());
                self.touch_provider(&key);
                self.touch_module(&key);
                let versions = self.modules.get(&key).into_iter().flat_map(|it| it.versions.values());
                let names: BTreeSet<ResourceName> =
                    versions.flat_map(|it| it.spec.resources().iter().cloned()).collect();
                for name in names {
                    self.touch_mappers(&key, &name);
                }
            }
            Change::RemoveModule(key) => {
                self.unindex(&key);
                self.modules.remove(&key);
                self.turn_shadowing_to(&key, 0);
                self.touched.http = true;
            }
            Change::PutVersion(version) => {
                let key = version.key.clone();
                let module = self.modules.get_or_insert_with(&key, || Module::new(key.clone()));
                let installed =
                    Installed { spec: Arc::new(version.spec), digest: version.digest, at: version.installed };
                module.versions.insert(installed.spec.version.clone(), installed);
                self.touch_module(&key);
            }
            Change::RemoveVersion(key, version) => {
                if let Some(module) = self.modules.get_mut(&key) {
                    module.versions.remove(&version);
                }
                self.touch_module(&key);
            }
            Change::PutRoutes(record) => self.put_routes(*record),
            Change::PutGroup(record) => self.groups.put(*record),
            Change::RemoveGroup(tenant, group) => self.groups.remove(&tenant, &group),
            Change::PutTenant(record) => self.put_tenant(*record),
            Change::RemoveTenant(tenant) => self.remove_tenant(&tenant),
            Change::PutWorker(_) | Change::PutOperation(_) | Change::RemoveOperation(_) | Change::PutMeta(_) => {}
        }
    }

    fn unindex(&mut self, key: &ModuleKey) {
        let Some(module) = self.modules.get(key) else { return };
        for service in &module.record.published {
            self.index.publishers.remove(&(key.tenant.clone(), service.clone()));
        }
        if let Some(installed) = module.current() {
            for (http, _) in offers(&installed.spec, &module.record.published) {
                if self.index.http.get(&http).is_some_and(|(owner, _)| owner == key) {
                    self.index.http.remove(&http);
                }
            }
            for name in installed.spec.resources() {
                self.index.resources.remove(&(key.tenant.clone(), name.clone()));
            }
        }
    }

    pub(super) fn index(&mut self, key: &ModuleKey) {
        let Some(module) = self.modules.get(key) else { return };
        for service in &module.record.published {
            self.index.publishers.insert((key.tenant.clone(), service.clone()), key.clone());
        }
        if let Some(installed) = module.current() {
            for (http, service) in offers(&installed.spec, &module.record.published) {
                self.index.http.insert(http, (key.clone(), service));
            }
            for name in installed.spec.resources() {
                self.index.resources.insert((key.tenant.clone(), name.clone()), key.clone());
            }
        }
    }

    /// A module's circumstances have changed: the workers it should have, its resources, its operation.
    pub(super) fn touch_module(&mut self, key: &ModuleKey) {
        self.touched.modules.insert(key.clone());
        self.touch_operation_of(key);
        let resources: Vec<ResourceId> = self.resources_of(key).cloned().collect();
        self.touched.resources.extend(resources);
    }

    pub(super) fn touch_operation_of(&mut self, key: &ModuleKey) {
        if let Some(id) = self.operations.locks.get(key) {
            self.touched.operations.insert(id.clone());
        }
    }

    /// Who answers a module's services has changed: everybody who may call them looks at channels and routes again.
    pub(super) fn touch_provider(&mut self, key: &ModuleKey) {
        let Some(module) = self.modules.get(key) else { return };
        let published: Vec<ServiceName> = module.record.published.iter().cloned().collect();
        self.touch_services(key, published.iter());
    }

    fn touch_services<'a>(&mut self, key: &ModuleKey, services: impl Iterator<Item = &'a ServiceName>) {
        for service in services {
            let callers: Vec<WorkerId> = self.callers_of(&key.tenant, service).flatten().copied().collect();
            self.touched.callers.extend(callers);
        }
        let Some(module) = self.modules.get(key) else { return };
        for worker in module.workers.iter().filter_map(|it| self.slots.get(*it)) {
            self.touched.channels.extend(&worker.channels);
            self.touched.http |= worker.provides_http();
        }
    }

    pub(super) fn touch_all_routes(&mut self) {
        let callers: Vec<WorkerId> = self.slots.workers().map(|it| it.id).collect();
        self.touched.callers.extend(callers);
        self.touched.http = true;
    }
}

/// What a version's published services take of the ingress.
pub(super) fn offers<'a>(
    spec: &'a ModuleSpec,
    published: &'a BTreeSet<ServiceName>,
) -> impl Iterator<Item = (HttpKey, ServiceName)> + 'a {
    spec.provides.iter().filter(|it| published.contains(&it.service)).filter_map(|it| {
        let http = it.http.as_ref()?;
        Some(((http.host.clone(), http.prefix.clone()), it.service.clone()))
    })
}
