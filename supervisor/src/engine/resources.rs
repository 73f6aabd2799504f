//! Resources: each loaded by a loader in a group of its own, held as a sealed memfd, and handed to workers by their welcome.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::clock;
use super::report::Report;
use crate::cgroup::{Group, Groups, Limits};
use crate::failpoint::{self, Point};
use crate::lifecycle::{Event, ResourceId};
use crate::package::{Digest, PackageStore};
use crate::resource::{self, LoadOrder};

/// How long a loader may take: a file that is not read by then is on a disk that hangs.
const LOAD_WITHIN: Duration = Duration::from_secs(60);

/// What a loader needs beside the resource itself.
const LOADER_BYTES: u64 = 64 << 20;

/// Threads and processes of a loader.
const LOADER_PIDS: u32 = 16;

/// How long a loader's group may take to become empty.
const REMOVE_WITHIN: Duration = Duration::from_secs(2);

/// The prefix of the groups of resources.
pub(crate) const GROUP_PREFIX: &str = "r-";

/// A resource in its memory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub memfd: Arc<OwnedFd>,
    pub group: Group,
    pub bytes: u64,
    pub digest: String,
}

/// The groups of the loaded resources, for those who read figures. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Charges(Arc<Mutex<HashMap<ResourceId, Group>>>);

impl Charges {
    fn locked(&self) -> MutexGuard<'_, HashMap<ResourceId, Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes charged for the resource.
    pub fn read(&self, resource: &ResourceId) -> Option<u64> {
        let group = self.locked().get(resource)?.clone();
        group.figures().memory_bytes
    }
}

/// What is loaded.
#[derive(Debug)]
pub(super) struct Resources {
    packages: Arc<PackageStore>,
    groups: Arc<Groups>,
    reports: mpsc::Sender<Report>,
    memory: HashMap<ResourceId, Arc<OwnedFd>>,
    charges: Charges,
}

impl Resources {
    pub fn new(
        packages: Arc<PackageStore>,
        groups: Arc<Groups>,
        reports: mpsc::Sender<Report>,
        charges: Charges,
    ) -> Self {
        Self { packages, groups, reports, memory: HashMap::new(), charges }
    }

    /// Loads a resource; the answer comes as a report.
    pub fn load(&self, resource: ResourceId, digest: String) {
        let (packages, groups) = (Arc::clone(&self.packages), Arc::clone(&self.groups));
        let reports = self.reports.clone();
        tokio::spawn(async move {
            let report = match load(&resource, digest, packages, groups).await {
                Ok(loaded) => Report::Loaded { resource, loaded: Box::new(loaded) },
                Err(reason) => Report::Event(Event::ResourceFailed { resource, reason }),
            };
            let _ = reports.send(report).await;
        });
    }

    /// Takes a loaded resource in.
    pub fn keep(&mut self, resource: ResourceId, loaded: Loaded) -> Event {
        let Loaded { memfd, group, bytes, digest } = loaded;
        self.memory.insert(resource.clone(), memfd);
        self.charges.locked().insert(resource.clone(), group);
        Event::ResourceLoaded { resource, bytes, digest }
    }

    pub const fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }

    /// The memory of a resource.
    pub fn memory(&self, resource: &ResourceId) -> Option<Arc<OwnedFd>> {
        self.memory.get(resource).cloned()
    }

    /// Lets go of a resource; what workers have mapped stays theirs.
    pub fn release(&mut self, resource: &ResourceId) {
        failpoint::pass(Point::Release);
        self.memory.remove(resource);
        if let Some(group) = self.charges.locked().remove(resource) {
            tokio::task::spawn_blocking(move || remove(&group));
        }
    }

    /// Lets go of all of them and leaves their groups: they are charged for what workers have mapped.
    pub fn leave(&mut self) {
        self.memory.clear();
        self.charges.locked().clear();
    }

    /// Removes the groups of all resources that are left. Blocks.
    pub fn clear(self) {
        for group in self.charges.locked().drain().map(|(_, group)| group) {
            remove(&group);
        }
    }
}

async fn load(
    resource: &ResourceId,
    digest: String,
    packages: Arc<PackageStore>,
    groups: Arc<Groups>,
) -> Result<Loaded, String> {
    let name = group_name(resource);
    let wanted = resource.resource.clone();
    let tenant = resource.tenant.to_string();
    let prepare = move || {
        failpoint::reach(Point::Load).map_err(|error| error.to_string())?;
        let digest: Digest = digest.parse().map_err(|_| format!("{digest:?} is no digest"))?;
        let package = packages.find(&digest).map_err(|error| error.to_string())?;
        let file = package.manifest.resource(&wanted).ok_or("the package does not hold it")?.file.clone();
        let bytes =
            std::fs::metadata(package.folder.join(file.as_str())).map_err(|error| format!("{file}: {error}"))?.len();
        let limits = Limits {
            memory_bytes: Some(bytes.saturating_add(LOADER_BYTES)),
            pids: Some(LOADER_PIDS),
            ..Limits::default()
        };
        let group = groups.create_for(&tenant, &name, &limits).map_err(|error| error.to_string())?;
        Ok::<_, String>((package.folder, file, group))
    };
    let (package, file, group) =
        tokio::task::spawn_blocking(prepare).await.map_err(|_| "the supervisor is stopping".to_owned())??;
    let join = resource::join_files(&group);
    match resource::load(LoadOrder { package, file, join, within: LOAD_WITHIN }).await {
        Ok(it) => Ok(Loaded { memfd: Arc::new(it.memfd), group, bytes: it.len, digest: it.sha256 }),
        Err(error) => {
            tokio::task::spawn_blocking(move || remove(&group));
            Err(error.to_string())
        }
    }
}

fn remove(group: &Group) {
    if let Err(error) = group.remove(REMOVE_WITHIN) {
        tracing::warn!(group = group.name(), %error, "the group of a resource is left");
    }
}

/// Never the same twice: what an earlier load still charges to its group must not count against this one's limit.
fn group_name(resource: &ResourceId) -> String {
    let ResourceId { tenant, resource, module, version } = resource;
    let hash: [u8; 32] = Sha256::digest(format!("{tenant}/{module}@{version}/{resource}")).into();
    let [a, b, c, ..] = hash;
    format!("{GROUP_PREFIX}{resource}-{a:02x}{b:02x}{c:02x}-{:08x}", u32::from_ne_bytes(clock::random()))
}
