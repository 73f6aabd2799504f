//! What is kept on disk, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use mortise_control::routing::RouteFile;
use mortise_control::{GroupName, ModuleName, ServiceName, TenantName, Token, WorkerId};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, Desired, ModuleLimits, Operation, OperationId, TenantLimits};
use crate::lifecycle::{ModuleKey, ModuleSpec};

/// What the operator wants of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRecord {
    /// Which module.
    pub key: ModuleKey,
    /// Whether it shall run.
    pub desired: Desired,
    /// Which version shall run.
    pub version: Option<Version>,
    /// Which services may be called.
    pub published: BTreeSet<ServiceName>,
    /// The set of workers in charge. Each start and swap makes a new one of a higher number; writing it here is the swap's commit.
    pub cohort: u64,
    /// The set of workers that was in charge before and is kept for a rollback.
    #[serde(default)]
    pub kept: Option<KeptRecord>,
    /// The set of workers of another version that serves beside the one in charge. Never together with [`Self::kept`]: a module
    /// has at most two generations of workers.
    #[serde(default)]
    pub beside: Option<BesideRecord>,
    /// How many workers it has; none: as its module.toml says.
    #[serde(default)]
    pub instances: Option<u32>,
    /// Limits of its workers that hold instead of those of its module.toml.
    #[serde(default)]
    pub limits: ModuleLimits,
}

/// A version that is kept frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRecord {
    /// Which version.
    pub version: Version,
    /// Its set of workers.
    pub cohort: u64,
    /// When it ends.
    pub until: Timestamp,
}

/// A version that runs beside the one in charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BesideRecord {
    /// Which version.
    pub version: Version,
    /// Its set of workers.
    pub cohort: u64,
    /// How many percent it gets of what no route decides.
    #[serde(default)]
    pub share: u32,
    /// The swap that raises its share by steps stays where it is.
    #[serde(default)]
    pub paused: bool,
    /// How many percent of the calls of the version in charge are also sent to it, to compare the answers.
    #[serde(default)]
    pub shadow: u32,
    /// Which comparison that is.
    #[serde(default)]
    pub shadow_run: u64,
}

impl BesideRecord {
    /// One that has just come: it gets nothing.
    #[must_use]
    pub const fn new(version: Version, cohort: u64) -> Self {
        Self { version, cohort, share: 0, paused: false, shadow: 0, shadow_run: 0 }
    }
}

/// An installed version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Whose.
    pub key: ModuleKey,
    /// What its module.toml says.
    pub spec: ModuleSpec,
    /// sha256 of its package.
    pub digest: String,
    /// When it was installed.
    pub installed: Timestamp,
}

/// A place in the worker table and its last occupant. Kept after that has ended, for the generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// The slot and its newest generation.
    pub worker: WorkerId,
    /// None: nothing of that generation is left on the host.
    pub occupant: Option<OccupantRecord>,
}

/// A worker that may have a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccupantRecord {
    /// Which module it runs.
    pub key: ModuleKey,
    /// Which version of it.
    pub version: Version,
    /// The package, sha256.
    pub digest: String,
    /// The set of workers it belongs to, see [`ModuleRecord::cohort`].
    pub cohort: u64,
    /// What it must show in its hello.
    pub token: Token,
    /// The uid and gid it runs as.
    pub uid: u32,
    /// Pid and start time; none before it was spawned.
    pub process: Option<(u32, u64)>,
    /// Restarts of this instance so far.
    pub restarts: u32,
    /// Consecutive failures of this instance so far.
    pub failures: u32,
    /// Its group is, or is about to be, frozen: it cannot say hello.
    #[serde(default)]
    pub frozen: bool,
    /// Some: nothing of it is left on the host, and it is not started again by itself.
    pub ended: Option<EndRecord>,
}

/// Why a worker that is wanted does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Which end it was.
    pub kind: EndKind,
    /// For the operator: exit status, OOM kill, last lines.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// The ends that keep a worker from being started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// It failed as often as its crash limit says, or its restart policy is never.
    Failed,
    /// It ended with status 0, as its restart policy allows.
    Exited,
}

/// An operation and where its plan stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// As the admin API shows it.
    pub operation: Operation,
    /// Position in the order of acceptance, for forgetting the oldest. Also the number of the cohort that it makes.
    pub order: u64,
    /// Uninstall: the packages that its version records referred to, sha256.
    pub removes: Vec<String>,
    /// A swap: why what it has started is to end, though it came so far.
    #[serde(default)]
    pub verdict: Option<ApiError>,
    /// The operation of a group that it is a part of: it commits with the other parts or not at all.
    #[serde(default)]
    pub part_of: Option<OperationId>,
}

/// A group of modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Whose.
    pub tenant: TenantName,
    /// Its name.
    pub group: GroupName,
    /// Since when it is as it is.
    pub applied: Timestamp,
    /// Its modules, each in the version that it wants of it.
    pub modules: BTreeMap<ModuleName, Version>,
    /// What was in charge of those of its modules that its last change has replaced.
    pub earlier: BTreeMap<ModuleName, Version>,
}

/// The routes of a tenant: those in force, and those before them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesRecord {
    /// Whose.
    pub tenant: TenantName,
    /// How many were ever applied.
    pub applied: u64,
    /// The latest last: it is in force. Empty: there are none.
    pub kept: Vec<RoutesVersion>,
}

/// Routes as they were applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesVersion {
    /// Which of all that were ever applied.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// All of them.
    pub routes: RouteFile,
}

/// A tenant that somebody has declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// Its name.
    pub tenant: TenantName,
    /// Since when.
    pub since: Timestamp,
    /// What it may have.
    pub limits: TenantLimits,
    /// Services of its own that modules of these other tenants may call, if they are theirs to call by their own word, too.
    #[serde(default)]
    pub exports: BTreeMap<ServiceName, BTreeSet<TenantName>>,
    /// Services that its modules call of another tenant, instead of one of its own by that name.
    #[serde(default)]
    pub imports: BTreeMap<ServiceName, TenantName>,
}

impl TenantRecord {
    /// One that has no limits and shares nothing.
    pub(crate) fn new(tenant: TenantName, since: Timestamp) -> Self {
        let limits = TenantLimits::default();
        Self { tenant, since, limits, exports: BTreeMap::new(), imports: BTreeMap::new() }
    }
}

/// The supervisor's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRecord {
    /// How often a supervisor has started on this store. Part of every epoch, so that epochs grow over restarts.
    pub incarnation: u64,
    /// Event numbers below this may have been used.
    pub events_reserved: u64,
}

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Insert or replace.
    PutModule(ModuleRecord),
    /// Remove.
    RemoveModule(ModuleKey),
    /// Insert or replace.
    PutVersion(Box<VersionRecord>),
    /// Remove.
    RemoveVersion(ModuleKey, Version),
    /// Insert or replace.
    PutWorker(WorkerRecord),
    /// Insert or replace.
    PutOperation(Box<OperationRecord>),
    /// Remove.
    RemoveOperation(OperationId),
    /// Insert or replace.
    PutRoutes(Box<RoutesRecord>),
    /// Insert or replace.
    PutGroup(Box<GroupRecord>),
    /// Remove.
    RemoveGroup(TenantName, GroupName),
    /// Insert or replace.
    PutTenant(Box<TenantRecord>),
    /// Remove.
    RemoveTenant(TenantName),
    /// Replace.
    PutMeta(MetaRecord),
}

/// Everything that is in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// By key.
    pub modules: Vec<ModuleRecord>,
    /// By module and version.
    pub versions: Vec<VersionRecord>,
    /// By slot.
    pub workers: Vec<WorkerRecord>,
    /// By id.
    pub operations: Vec<OperationRecord>,
    /// By tenant.
    pub routes: Vec<RoutesRecord>,
    /// By tenant and name.
    pub groups: Vec<GroupRecord>,
    /// By name.
    pub tenants: Vec<TenantRecord>,
    /// The counters.
    pub meta: MetaRecord,
}
