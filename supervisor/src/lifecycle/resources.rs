//! Resources: loaded while a running module provides them, released when it does not and nobody holds them.

use mortise_control::{ResourceGrant, ResourceName, WorkerId};

use super::operation::Stage as OpStage;
use super::state::State;
use super::turn::{About, Turn};
use super::worker::{Life, Worker};
use super::{Action, ModuleKey, ResourceId, Timer};
use crate::api::{EventKind, Request};

/// What there is of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// Its loader runs.
    Loading,
    /// It is in its memfd.
    Loaded { bytes: u64, digest: String },
    /// It could not be loaded; it is tried again after a while.
    Failed { reason: String, tries: u32 },
    /// It is tried again now.
    Again { tries: u32 },
}

impl State {
    /// The resources that a module should have loaded: those of the version in charge, and of the one that a swap brings up.
    fn wanted_resources(&self, key: &ModuleKey) -> Vec<ResourceId> {
        let Some(module) = self.modules.get(key) else { return Vec::new() };
        if self.stopping {
            return Vec::new();
        }
        let incoming = self.incoming(key).and_then(|(_, it)| module.versions.get(&it));
        let versions = module.current().into_iter().chain(incoming);
        versions
            .flat_map(|it| it.spec.resources().iter().map(|name| resource_id(key, name, &it.spec.version)))
            .collect()
    }

    /// The rule for a module's resources.
    pub(super) fn stock(&mut self, key: &ModuleKey) {
        for id in self.wanted_resources(key) {
            self.resources.entry(id.clone()).or_insert(Resource::Again { tries: 0 });
            self.touched.resources.insert(id);
        }
    }

    /// The rule for a resource.
    pub(super) fn attend_resource(&mut self, id: &ResourceId, turn: &mut Turn<'_>) {
        let Some(resource) = self.resources.get(id) else { return };
        let key = ModuleKey { tenant: id.tenant.clone(), module: id.module.clone() };
        let wanted = self.wanted_resources(&key).contains(id);
        let held = self.slots.workers().any(|it| it.life != Life::Waiting && it.pinned.contains(id));
        match resource {
            Resource::Again { tries } if wanted => {
                let module = self.modules.get(&key).and_then(|it| it.versions.get(&id.version));
                let (Some(installed), tries) = (module, *tries) else { return };
                turn.act(Action::LoadResource { resource: id.clone(), digest: installed.digest.clone() });
                self.loads.insert(id.clone(), tries);
                self.resources.insert(id.clone(), Resource::Loading);
            }
            Resource::Again { .. } | Resource::Failed { .. } if !wanted => {
                self.resources.remove(id);
                self.touch_operation_of(&key);
            }
            Resource::Loaded { .. } if !wanted && !held => {
                turn.act(Action::ReleaseResource { resource: id.clone() });
                turn.tell(EventKind::Resource, about(&key, id), format!("resource {} released", id.resource));
                self.resources.remove(id);
                self.touch_operation_of(&key);
            }
            // One that is not wanted any more is released when its loader has ended.
            Resource::Loading | Resource::Loaded { .. } | Resource::Failed { .. } | Resource::Again { .. } => {}
        }
    }

    pub(super) fn resource_loaded(&mut self, id: &ResourceId, bytes: u64, digest: String, turn: &mut Turn<'_>) {
        if self.resources.get(id) != Some(&Resource::Loading) {
            return;
        }
        self.loads.remove(id);
        let key = ModuleKey { tenant: id.tenant.clone(), module: id.module.clone() };
        turn.tell(EventKind::Resource, about(&key, id), format!("resource {} loaded, {bytes} bytes", id.resource));
        self.resources.insert(id.clone(), Resource::Loaded { bytes, digest });
        self.touched.resources.insert(id.clone());
        self.touch_operation_of(&key);
        self.touch_mappers(&key, &id.resource);
    }

    /// Workers that map a resource, and the operations that wait for them, look again.
    pub(super) fn touch_mappers(&mut self, provider: &ModuleKey, name: &ResourceName) {
        let mappers: Vec<(WorkerId, ModuleKey)> = self
            .slots
            .workers()
            .filter(|it| it.key.tenant == provider.tenant && it.maps().contains(name))
            .map(|it| (it.id, it.key.clone()))
            .collect();
        for (worker, key) in mappers {
            self.touched.workers.insert(worker);
            self.touch_operation_of(&key);
        }
    }

    pub(super) fn resource_failed(&mut self, id: &ResourceId, reason: &str, turn: &mut Turn<'_>) {
        if self.resources.get(id) != Some(&Resource::Loading) {
            return;
        }
        let tries = self.loads.remove(id).unwrap_or(0) + 1;
        let key = ModuleKey { tenant: id.tenant.clone(), module: id.module.clone() };
        let text = format!("resource {} could not be loaded: {reason}", id.resource);
        turn.tell(EventKind::Resource, about(&key, id), text.clone());
        let doubled = 1_u32.checked_shl(tries - 1).unwrap_or(u32::MAX);
        let pause = self.config.backoff_first.saturating_mul(doubled).min(self.config.backoff_most);
        turn.timer(Timer::Load(id.clone()), pause);
        self.resources.insert(id.clone(), Resource::Failed { reason: reason.to_owned(), tries });
        self.touched.resources.insert(id.clone());
        self.trouble_of_resource(&key, id, &text);
        self.touch_mappers(&key, &id.resource);
        self.touch_operation_of(&key);
    }

    pub(super) fn load_again(&mut self, id: &ResourceId) {
        if let Some(Resource::Failed { tries, .. }) = self.resources.get(id) {
            let tries = *tries;
            self.resources.insert(id.clone(), Resource::Again { tries });
            let key = ModuleKey { tenant: id.tenant.clone(), module: id.module.clone() };
            self.touch_mappers(&key, &id.resource);
            self.touched.resources.insert(id.clone());
        }
    }

    /// An operator has asked for the module: what failed is tried again without waiting.
    pub(super) fn retry_resources(&mut self, key: &ModuleKey) {
        let failed: Vec<ResourceId> = self.resources_of(key).cloned().collect();
        for id in failed {
            self.load_again(&id);
        }
    }

    /// A swap that brings up another version fails with its resources.
    fn trouble_of_resource(&mut self, key: &ModuleKey, id: &ResourceId, text: &str) {
        let Some(op) = self.operations.on_mut(key) else { return };
        let concerned = match op.request() {
            Request::Swap { version, .. } | Request::StartBeside { version, .. } => *version == id.version,
            Request::Start { .. } | Request::Restart { .. } => true,
            Request::Install { .. }
            | Request::Uninstall { .. }
            | Request::Stop { .. }
            | Request::Share { .. }
            | Request::Shadow { .. }
            | Request::SteerSwap { .. }
            | Request::Rollback { .. }
            | Request::Discard { .. }
            | Request::Scale { .. }
            | Request::SetLimits { .. }
            | Request::Publish { .. }
            | Request::Unpublish { .. }
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
            | Request::Unimport { .. } => false,
        };
        if concerned && matches!(op.stage, OpStage::Running | OpStage::Committing) {
            op.trouble.get_or_insert_with(|| super::refusals::failed(crate::api::Blame::Module, text));
        }
    }

    /// The loaded resources that a module's workers map, or the first that is missing.
    pub(super) fn resources_for(
        &self,
        key: &ModuleKey,
        names: &[ResourceName],
    ) -> Result<Vec<ResourceId>, ResourceName> {
        names
            .iter()
            .map(|name| {
                let provider = self.provided_resource(key, name);
                let loaded = provider.filter(|it| matches!(self.resources.get(it), Some(Resource::Loaded { .. })));
                loaded.ok_or_else(|| name.clone())
            })
            .collect()
    }

    /// The resource of this name that the running module of the tenant provides.
    pub(super) fn provided_resource(&self, key: &ModuleKey, name: &ResourceName) -> Option<ResourceId> {
        let owner = self.index.resources.get(&(key.tenant.clone(), name.clone()))?;
        let version = self.modules.get(owner)?.record.version.as_ref()?;
        Some(resource_id(owner, name, version))
    }

    /// What a worker is given with its welcome; none while something is not loaded.
    pub(super) fn loaded_grants(&self, worker: &Worker) -> Option<Vec<(ResourceGrant, ResourceId)>> {
        let grant = |id: &ResourceId| match self.resources.get(id) {
            Some(Resource::Loaded { bytes, .. }) => {
                Some((ResourceGrant { name: id.resource.clone(), len: *bytes }, id.clone()))
            }
            Some(Resource::Loading | Resource::Failed { .. } | Resource::Again { .. }) | None => None,
        };
        worker.pinned.iter().map(grant).collect()
    }

    /// What there is of a module's resources.
    pub(super) fn resources_of(&self, key: &ModuleKey) -> impl Iterator<Item = &ResourceId> {
        self.resources.keys().filter(move |it| it.tenant == key.tenant && it.module == key.module)
    }

    /// Workers that map a resource.
    pub(super) fn mappers(&self, id: &ResourceId) -> impl Iterator<Item = &Worker> {
        self.slots.workers().filter(move |it| it.alive() && it.pinned.contains(id))
    }

    /// Whether everything that a version provides is loaded.
    pub(super) fn all_loaded(&self, key: &ModuleKey, version: &semver::Version) -> bool {
        let Some(installed) = self.modules.get(key).and_then(|it| it.versions.get(version)) else { return false };
        let ids = installed.spec.resources().iter().map(|name| resource_id(key, name, version));
        ids.into_iter().all(|id| matches!(self.resources.get(&id), Some(Resource::Loaded { .. })))
    }
}

fn resource_id(key: &ModuleKey, name: &ResourceName, version: &semver::Version) -> ResourceId {
    ResourceId {
        tenant: key.tenant.clone(),
        resource: name.clone(),
        module: key.module.clone(),
        version: version.clone(),
    }
}

fn about<'a>(key: &'a ModuleKey, id: &'a ResourceId) -> About<'a> {
    About { key: Some(key), version: Some(&id.version), ..About::default() }
}
