//! What a request must be measured against before it is accepted: the module itself, its tenant's services and resources, the
//! ingress, and what other operations are about to change.

use std::collections::BTreeSet;

use mortise_control::{ModuleName, ServiceName, TenantName};

use super::module::{HttpKey, Module, offers};
use super::refusals as refuse;
use super::state::State;
use super::{ModuleKey, ModuleSpec, ResourceId};
use crate::api::{ApiError, Blame, Desired, ErrorCode, Request};
use crate::store::{Change, ModuleRecord};

impl State {
    pub(super) fn named_services(
        &self,
        key: &ModuleKey,
        spec: &ModuleSpec,
        service: Option<&ServiceName>,
    ) -> Result<BTreeSet<ServiceName>, ApiError> {
        let provided: BTreeSet<ServiceName> = spec.provides.iter().map(|it| it.service.clone()).collect();
        match service {
            None if provided.is_empty() => Err(ApiError::new(
                ErrorCode::Invalid,
                Blame::Caller,
                format!("{key} {} provides no services", spec.version),
            )),
            None => Ok(provided),
            Some(name) if provided.contains(name) => Ok(BTreeSet::from([name.clone()])),
            Some(name) => Err(refuse::no_service(key, &spec.version, name, &refuse::list(provided))),
        }
    }

    /// Whether a version may take the module's place in the world.
    pub(super) fn check_version(&self, key: &ModuleKey, module: &Module, spec: &ModuleSpec) -> Result<(), ApiError> {
        if let Some(lost) = module.record.published.iter().find(|it| spec.provided(it).is_none()) {
            return Err(refuse::drops_service(key, &spec.version, lost));
        }
        self.check_routes(key, spec, &module.record.published)?;
        let coming: Vec<(&ModuleKey, &ModuleSpec)> = self.coming_versions().collect();
        for name in &spec.maps {
            let provided = self.index.resources.contains_key(&(key.tenant.clone(), name.clone()))
                || coming.iter().any(|(it, spec)| it.tenant == key.tenant && spec.resources().contains(name));
            if !provided {
                return Err(refuse::no_resource(key, name));
            }
        }
        for name in spec.resources() {
            let owner = self.index.resources.get(&(key.tenant.clone(), name.clone()));
            let rival = coming.iter().find(|(it, spec)| it.tenant == key.tenant && spec.resources().contains(name));
            if let Some(owner) = owner.or(rival.map(|it| it.0)).filter(|it| *it != key) {
                return Err(refuse::resource_provided_elsewhere(name, owner));
            }
        }
        Ok(())
    }

    pub(super) fn check_routes(
        &self,
        key: &ModuleKey,
        spec: &ModuleSpec,
        published: &BTreeSet<ServiceName>,
    ) -> Result<(), ApiError> {
        for (http, _) in offers(spec, published) {
            if let Some((owner, service)) = self.route_owner(&http, key) {
                let route = format!("{}{}", http.0.as_deref().unwrap_or("*"), http.1);
                return Err(refuse::route_taken(&route, key, &owner, &service));
            }
        }
        Ok(())
    }

    /// Another module that has, or is about to have, this part of the ingress.
    pub(super) fn route_owner(&self, http: &HttpKey, key: &ModuleKey) -> Option<(ModuleKey, ServiceName)> {
        if let Some(owner) = self.index.http.get(http).filter(|(owner, _)| owner != key) {
            return Some(owner.clone());
        }
        let published = |owner: &ModuleKey| {
            let coming = self.coming_records().find(|it| it.key == *owner);
            coming.or_else(|| self.modules.get(owner).map(|it| &it.record)).map(|it| &it.published)
        };
        self.coming_versions().filter(|(owner, _)| *owner != key).find_map(|(owner, spec)| {
            let taken = offers(spec, published(owner)?).find(|(it, _)| it == http)?;
            Some((owner.clone(), taken.1))
        })
    }

    /// Module records that are on their way to the disk.
    pub(super) fn coming_records(&self) -> impl Iterator<Item = &ModuleRecord> {
        self.operations.unended().flat_map(|it| &it.changes).filter_map(|it| match it {
            Change::PutModule(record) => Some(record),
            _ => None,
        })
    }

    /// Versions that an operation is about to put in charge, or that a publish makes visible.
    pub(super) fn coming_versions(&self) -> impl Iterator<Item = (&ModuleKey, &ModuleSpec)> {
        self.operations.unended().filter_map(|op| {
            let key = op.key.as_ref()?;
            let module = self.modules.get(key)?;
            let coming = op.changes.iter().find_map(|it| match it {
                Change::PutModule(record) if record.desired == Desired::Running => record.version.as_ref(),
                _ => None,
            });
            let version = match op.request() {
                Request::Swap { version, .. } | Request::StartBeside { version, .. } => Some(version),
                Request::Rollback { .. } => module.record.kept.as_ref().map(|it| &it.version),
                _ => coming,
            };
            Some((key, &*module.versions.get(version?)?.spec))
        })
    }

    pub(super) fn unused(&self, resource: &ResourceId) -> Result<(), ApiError> {
        let users: Vec<String> = self.mappers(resource).map(|it| format!("{} (worker {})", it.key, it.id)).collect();
        if users.is_empty() { Ok(()) } else { Err(refuse::resource_in_use(&resource.resource, &refuse::list(users))) }
    }

    pub(super) fn idle(&self, key: &ModuleKey) -> Result<(), ApiError> {
        self.operations.on(key).map_or(Ok(()), |op| Err(refuse::busy(op)))
    }

    pub(super) fn idle_module(
        &self,
        tenant: &TenantName,
        module: &ModuleName,
    ) -> Result<(ModuleKey, &Module), ApiError> {
        let key = ModuleKey { tenant: tenant.clone(), module: module.clone() };
        self.idle(&key)?;
        let module = self.modules.get(&key).ok_or_else(|| refuse::no_module(&key))?;
        Ok((key, module))
    }
}
