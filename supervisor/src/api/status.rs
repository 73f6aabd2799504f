//! The state of everything, as the engine publishes it after each change.

use std::sync::Arc;

use jiff::Timestamp;
use mortise_control::routing::RouteFile;
use mortise_control::{GroupName, ModuleName, ResourceName, ServiceName, TenantName};
use semver::Version;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ModuleLimits, Operation, ShadowReport, TenantStatus};

/// The whole state at one moment. The loop publishes a new one after each change; readers never wait for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// When the figures in it were read; none in a state without figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub measured: Option<Timestamp>,
    /// Modules by tenant and name; shared with the state before as far as they have not changed.
    #[serde(with = "shared")]
    #[schema(value_type = Vec<ModuleStatus>)]
    pub modules: Vec<Arc<ModuleStatus>>,
    /// Resources that are loaded.
    pub resources: Vec<ResourceStatus>,
    /// Operations that run and the latest that ended, newest first.
    pub operations: Vec<Operation>,
    /// Routes by tenant.
    #[serde(default, with = "shared")]
    #[schema(value_type = Vec<RoutesStatus>)]
    pub routes: Vec<Arc<RoutesStatus>>,
    /// Groups of modules by tenant and name.
    #[serde(default)]
    pub groups: Vec<GroupStatus>,
    /// Tenants by name.
    #[serde(default)]
    pub tenants: Vec<TenantStatus>,
    /// A base has not taken its newest routes yet: what has just become ready may not be reached through the ingress.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ingress_behind: bool,
    /// The supervisor and the host.
    pub host: HostStatus,
}

/// A tenant's routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoutesStatus {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// Which of all that were ever applied are in force; 0: none.
    pub number: u64,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub applied: Option<Timestamp>,
    /// All of them, as they were applied.
    #[schema(value_type = Object)]
    pub routes: RouteFile,
    /// Those that a rollback goes back to, the latest last.
    pub earlier: Vec<u64>,
}

/// A group of modules, as it was declared last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupStatus {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// Its name.
    #[schema(value_type = String)]
    pub group: GroupName,
    /// Since when.
    #[schema(value_type = String)]
    pub applied: Timestamp,
    /// Its modules, by name.
    pub modules: Vec<GroupModule>,
}

/// A module of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupModule {
    /// Its name.
    #[schema(value_type = String)]
    pub module: ModuleName,
    /// The version that the group wants of it.
    #[schema(value_type = String)]
    pub version: Version,
    /// The version that runs, if the module does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub runs: Option<Version>,
    /// The version to which a rollback of the group goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub earlier: Option<Version>,
}

/// Values that are shared in memory and written out like any other.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(values: &[Arc<T>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|it| &**it))
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Arc<T>>, D::Error> {
        Ok(Vec::<T>::deserialize(from)?.into_iter().map(Arc::new).collect())
    }
}

/// A module, all versions of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModuleStatus {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// Its name.
    #[schema(value_type = String)]
    pub module: ModuleName,
    /// What kind of program the version that runs is, or the newest installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeKind>,
    /// What the operator wants.
    pub desired: Desired,
    /// Which version the operator wants to run.
    #[schema(value_type = Option<String>)]
    pub version: Option<Version>,
    /// Which version runs beside it, and gets what routes send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub beside: Option<Version>,
    /// How many percent the version beside gets of what no route decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside_share: Option<u32>,
    /// The swap that raises that share by steps is paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside_paused: bool,
    /// How many percent of the calls of the version in charge are also sent to the version beside, to compare the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside_shadow: Option<u32>,
    /// What came of that: `GET /v1/modules/{tenant}/{module}/shadow` has it.
    #[serde(skip)]
    #[schema(ignore)]
    pub shadow: Option<Arc<ShadowReport>>,
    /// Limits of its workers that hold instead of those of its module.toml.
    #[serde(default, skip_serializing_if = "ModuleLimits::is_empty")]
    pub limits: ModuleLimits,
    /// Installed versions, newest first.
    pub installed: Vec<InstalledVersion>,
    /// Its services.
    pub services: Vec<ServiceStatus>,
    /// Its workers, also those that lately ended.
    pub workers: Vec<WorkerStatus>,
}

/// What kind of program a module is, as its module.toml says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// A worker built with the SDK.
    Sdk,
    /// A program without the SDK, reached by HTTP.
    Http,
    /// A base.
    Base,
    /// Files that are loaded as resources.
    Resource,
}

/// What the operator wants of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// On disk only.
    Installed,
    /// Running.
    Running,
}

/// A version on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstalledVersion {
    /// The version.
    #[schema(value_type = String)]
    pub version: Version,
    /// What kind of program it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeKind>,
    /// sha256 of its package.
    pub digest: String,
    /// When it was installed.
    #[schema(value_type = String)]
    pub installed: Timestamp,
}

/// A service of a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatus {
    /// Its name.
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// Whether it may be called.
    pub published: bool,
    /// Host and path prefix under which the ingress offers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Callers that have a channel to it.
    pub callers: u32,
}

/// How long at least one task of a worker has waited for something while it could have worked, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PressureStatus {
    /// For memory.
    pub memory_usec: u64,
    /// For a processor, also for the next period of its own limit.
    pub cpu_usec: u64,
    /// For disks.
    pub io_usec: u64,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStatus {
    /// `slot.generation`.
    pub worker: String,
    /// The version it runs.
    #[schema(value_type = String)]
    pub version: Version,
    /// Where it is in its life.
    pub state: WorkerState,
    /// Why it is there: the exit status, the OOM kill, the missed deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its pid as the host sees it. For people; nothing is keyed on it.
    pub pid: Option<u32>,
    /// Since when it is in this state.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// How often this instance was restarted.
    pub restarts: u32,
    /// How often the kernel killed one of its processes for memory.
    pub oom_kills: u64,
    /// Bytes charged to its cgroup.
    pub memory_bytes: u64,
    /// CPU time of its cgroup, in microseconds.
    pub cpu_usec: u64,
    /// How long it has waited while it could have worked. None: this host does not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureStatus>,
    /// Processes and threads in its cgroup.
    pub pids: u64,
    /// Its limits.
    pub limits: LimitsStatus,
    /// Its own figures per service it provides, as it alleges them.
    pub figures: Vec<ServiceFigures>,
    /// It is kept frozen for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptStatus>,
}

/// What a frozen worker is kept for, and what it holds beside the memory and the processes of its cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptStatus {
    /// When it ends.
    #[schema(value_type = String)]
    pub until: Timestamp,
    /// Resources that it maps.
    #[schema(value_type = Vec<String>)]
    pub maps: Vec<ResourceName>,
}

/// Limits in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LimitsStatus {
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Cores.
    pub cpu: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Calls of one service, as its worker counts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceFigures {
    /// The service.
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// Calls answered, errors included.
    pub calls: u64,
    /// Calls answered by an error.
    pub errors: u64,
    /// Latency: how many calls took less than 2^(i+10) nanoseconds and at least half of it (bucket 0: less than 1.024 µs).
    pub latency_log2: Vec<u64>,
    /// Sum of latencies in nanoseconds.
    pub latency_sum_ns: u64,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Its process was started and is not ready yet.
    Starting,
    /// It can serve.
    Ready,
    /// It serves at least one published service.
    Published,
    /// It finishes what is in flight.
    Draining,
    /// It ended as asked.
    Stopped,
    /// It ended unasked and will be tried again.
    Backoff,
    /// A crash loop, or never ready: needs an operator or a new version.
    Failed,
    /// It ended by itself, as its module.toml allows.
    Exited,
    /// Kept for instant rollback.
    Frozen,
}

/// A loaded resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceStatus {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// Its name.
    #[schema(value_type = String)]
    pub resource: ResourceName,
    /// The module whose package holds it.
    #[schema(value_type = String)]
    pub module: ModuleName,
    /// The version of that module.
    #[schema(value_type = String)]
    pub version: Version,
    /// Its length.
    pub bytes: u64,
    /// What its cgroup is charged.
    pub charged_bytes: u64,
    /// sha256 of its content.
    pub digest: String,
    /// Workers that were given it.
    pub mapped_by: Vec<String>,
}

/// The supervisor and its host.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// The supervisor's version.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// When it started.
    #[schema(value_type = Option<String>)]
    pub started: Option<Timestamp>,
    /// Addresses of the ingress.
    pub ingress: Vec<String>,
    /// Promises that it does not keep on this host, each with the reason.
    pub degraded: Vec<String>,
}
