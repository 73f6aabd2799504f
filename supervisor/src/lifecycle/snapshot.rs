//! What the admin API shows of the state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mortise_control::WorkerId;

use super::channel::{End, Stage};
use super::module::{Module, SHOWN_ENDED};
use super::resources::Resource;
use super::state::State;
use super::worker::{Life, Worker};
use super::{ModuleKey, ResourceId, Runtime};
use crate::api::{
    HostStatus, InstalledVersion, ModuleStatus, Operation, ResourceStatus, RuntimeKind, ServiceStatus, Snapshot,
    WorkerState, WorkerStatus,
};
use crate::store::EndKind;

impl State {
    /// What the admin API shows, without the figures that only the engine has (memory, CPU, calls, the host). What has not changed
    /// since the last time is shared with it: on a large host, one event changes little of what there is.
    pub fn show(&mut self) -> Snapshot {
        for key in self.stale() {
            match self.modules.get(&key).map(|it| Arc::new(self.module_status(it))) {
                Some(status) => drop(self.shown.insert(key, status)),
                None => drop(self.shown.remove(&key)),
            }
        }
        self.snapshot_with(self.shown.values().cloned().collect())
    }

    /// The modules that may look otherwise than when they were last shown.
    fn stale(&mut self) -> BTreeSet<ModuleKey> {
        let mut stale = self.modules.take_marks();
        let mut workers: BTreeSet<WorkerId> = self.slots.take_marked().map(|it| it.id).collect();
        let channels = self.channels.take_marks();
        workers.extend(channels.iter().filter_map(|it| Some(self.channels.get(it)?.edge.callee)));
        // What they wait for is not theirs, and changes without them.
        workers.extend(self.slots.workers().filter(|it| it.life == Life::Waiting).map(|it| it.id));
        stale.extend(workers.into_iter().filter_map(|it| Some(self.slots.get(it)?.key.clone())));
        stale
    }

    /// The same, worked out from nothing.
    #[cfg(test)]
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot_with(self.modules.values().map(|it| Arc::new(self.module_status(it))).collect())
    }

    fn snapshot_with(&self, modules: Vec<Arc<ModuleStatus>>) -> Snapshot {
        let mut operations: Vec<(u64, Operation)> =
            self.operations.values().filter(|it| it.accepted()).map(|it| (it.order, it.operation.clone())).collect();
        operations.sort_by_key(|(order, _)| std::cmp::Reverse(*order));
        Snapshot {
            measured: None,
            modules,
            resources: self.resource_statuses(),
            operations: operations.into_iter().map(|(_, it)| it).collect(),
            routes: self.routes.shown(),
            groups: self.group_statuses(),
            tenants: self.tenant_statuses(),
            ingress_behind: !self.http_in_force(),
            host: HostStatus::default(),
        }
    }

    fn module_status(&self, module: &Module) -> ModuleStatus {
        let workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let installed = module.versions.iter().rev().map(|(version, it)| InstalledVersion {
            version: version.clone(),
            runtime: Some(runtime_kind(&it.spec.runtime)),
            digest: it.digest.clone(),
            installed: it.at,
        });
        ModuleStatus {
            tenant: module.record.key.tenant.clone(),
            module: module.record.key.module.clone(),
            runtime: module.shown_version().map(|it| runtime_kind(&it.spec.runtime)),
            desired: module.record.desired,
            version: module.record.version.clone(),
            beside: module.record.beside.as_ref().map(|it| it.version.clone()),
            beside_share: module.record.beside.as_ref().map(|it| it.share),
            beside_paused: module.record.beside.as_ref().is_some_and(|it| it.paused),
            beside_shadow: module.record.beside.as_ref().map(|it| it.shadow).filter(|it| *it > 0),
            shadow: self.shadow_report(module).map(Arc::new),
            limits: module.record.limits,
            installed: installed.collect(),
            services: self.services(module),
            workers: workers.map(|it| self.worker_status(module, it)).chain(module.ended.iter().cloned()).collect(),
        }
    }

    fn services(&self, module: &Module) -> Vec<ServiceStatus> {
        let Some(installed) = module.shown_version() else { return Vec::new() };
        let status = |provided: &super::ProvidedService| {
            let callers: BTreeSet<WorkerId> = module
                .workers
                .iter()
                .filter_map(|it| self.slots.get(*it))
                .flat_map(|worker| worker.channels.iter().map(move |it| (worker.id, it)))
                .filter_map(|(worker, it)| Some((worker, self.channels.get(it)?)))
                .filter(|(worker, it)| it.edge.callee == *worker && it.edge.service == provided.service)
                .filter(|(_, it)| it.stage == Stage::Open && it.caller != End::Released)
                .map(|(_, it)| it.edge.caller)
                .collect();
            ServiceStatus {
                service: provided.service.clone(),
                published: module.record.published.contains(&provided.service),
                http: provided.http.as_ref().map(|it| format!("{}{}", it.host.as_deref().unwrap_or(""), it.prefix)),
                callers: u32::try_from(callers.len()).unwrap_or(u32::MAX),
            }
        };
        installed.spec.provides.iter().map(status).collect()
    }

    fn worker_status(&self, module: &Module, worker: &Worker) -> WorkerStatus {
        let published = worker.stays()
            && (worker.cohort <= module.record.cohort || module.is_beside(worker.cohort))
            && worker.spec.provides.iter().any(|it| module.record.published.contains(&it.service));
        let state = match worker.life {
            Life::Backoff => WorkerState::Backoff,
            Life::Settled(EndKind::Failed) => WorkerState::Failed,
            Life::Settled(EndKind::Exited) => WorkerState::Exited,
            Life::Removing(_) if worker.leaving.is_some() => WorkerState::Stopped,
            Life::Removing(_) => WorkerState::Backoff,
            _ if self.rests(worker) => WorkerState::Frozen,
            Life::Waiting | Life::Recording | Life::Spawning | Life::Adopting | Life::Running => match worker {
                it if it.leaving.is_some() => WorkerState::Draining,
                _ if published => WorkerState::Published,
                it if it.ready => WorkerState::Ready,
                _ => WorkerState::Starting,
            },
        };
        let mut status = status(worker, state);
        status.kept = self.kept_status(worker);
        if let Some(what) = worker.unwell.filter(|_| worker.stays()) {
            let share = match self.share(worker) {
                0 => "it gets no new calls",
                _ => "it still gets calls, for at least half of the workers must",
            };
            status.reason = Some(format!("unwell: it {what}; {share}"));
        }
        status.reason = worker.busy.clone().or_else(|| worker.condemned.clone()).or(status.reason);
        if worker.life == Life::Waiting
            && let Err(missing) = self.resources_for(&worker.key, worker.maps())
        {
            status.reason =
                Some(match self.provided_resource(&worker.key, &missing).map(|it| self.resources.get(&it)) {
                    Some(Some(Resource::Failed { reason, .. })) => {
                        format!("waits for resource {missing}, which could not be loaded: {reason}")
                    }
                    Some(_) => format!("waits for resource {missing} to be loaded"),
                    None => format!("waits for resource {missing}, which no running module provides"),
                });
        }
        status
    }

    fn resource_statuses(&self) -> Vec<ResourceStatus> {
        let mut mapped_by: BTreeMap<&ResourceId, Vec<String>> = BTreeMap::new();
        for worker in self.slots.workers().filter(|it| it.alive()) {
            for id in &worker.pinned {
                mapped_by.entry(id).or_default().push(worker.id.to_string());
            }
        }
        let loaded = self.resources.iter().filter_map(|(id, it)| match it {
            Resource::Loaded { bytes, digest } => Some((id, *bytes, digest.clone())),
            Resource::Loading | Resource::Failed { .. } | Resource::Again { .. } => None,
        });
        loaded
            .map(|(id, bytes, digest)| ResourceStatus {
                tenant: id.tenant.clone(),
                resource: id.resource.clone(),
                module: id.module.clone(),
                version: id.version.clone(),
                bytes,
                charged_bytes: 0,
                digest,
                mapped_by: mapped_by.remove(id).unwrap_or_default(),
            })
            .collect()
    }
}

impl Module {
    /// Keeps an ended worker among those that are shown.
    pub(super) fn show_ended(&mut self, status: WorkerStatus) {
        self.ended.push_front(status);
        self.ended.truncate(SHOWN_ENDED);
    }
}

/// A worker that has ended as asked.
pub(super) fn stopped(worker: &Worker) -> WorkerStatus {
    status(worker, WorkerState::Stopped)
}

const fn runtime_kind(runtime: &Runtime) -> RuntimeKind {
    match runtime {
        Runtime::Sdk => RuntimeKind::Sdk,
        Runtime::Http => RuntimeKind::Http,
        Runtime::Base => RuntimeKind::Base,
        Runtime::Resource { .. } => RuntimeKind::Resource,
    }
}

fn status(worker: &Worker, state: WorkerState) -> WorkerStatus {
    WorkerStatus {
        worker: worker.id.to_string(),
        version: worker.spec.version.clone(),
        state,
        reason: worker.reason.clone(),
        pid: if worker.alive() { worker.process.map(|(pid, _)| pid) } else { None },
        since: worker.since,
        restarts: worker.restarts,
        oom_kills: worker.oom_kills,
        memory_bytes: 0,
        cpu_usec: 0,
        pressure: None,
        pids: 0,
        limits: worker.limits(),
        figures: Vec::new(),
        kept: None,
    }
}
