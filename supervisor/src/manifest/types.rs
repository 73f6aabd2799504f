//! A module as the supervisor believes it: made by validation only, so nothing here is checked again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use mortise_control::{ModuleName, ResourceName, ServiceName};
use semver::Version;

use crate::api::{Gate, ModuleLimits};

pub use super::file::RestartPolicy;
use super::handover::Handover;
use super::path::PackagePath;

/// A module.toml that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The module's name.
    pub name: ModuleName,
    /// Its version, without build metadata.
    pub version: Version,
    /// What runs, if anything does.
    pub runtime: Runtime,
    /// Which files of the module's folder go into its package beside those named here; `None`: see `mortise pack`.
    pub files: Option<Vec<PackagePath>>,
    /// Workers that run at the same time; 0 for [`Runtime::Resource`], else at least 1.
    pub instances: u32,
    /// Services provided, each name once.
    pub provides: Vec<Provided>,
    /// What the module calls and maps.
    pub requires: Requires,
    /// Resources in the package, each name once.
    pub resources: Vec<ResourceFile>,
    /// What a worker may use.
    pub limits: Limits,
    /// Environment of the program; no reserved name among them.
    pub env: BTreeMap<String, String>,
    /// Configuration values as text.
    pub configuration: BTreeMap<String, String>,
    /// Health checks, if any.
    pub health: Option<Health>,
    /// How long a worker may take.
    pub timeouts: Timeouts,
    /// What happens when a worker ends unasked.
    pub restart: Restart,
    /// How long its workers are kept frozen when another version has replaced them.
    pub keep: Duration,
    /// What a version that replaces this one by steps is judged by, each figure once.
    pub gates: Vec<Gate>,
    /// Whether and how its worker gives its state to the version that replaces it.
    pub handover: Option<Handover>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A program with the SDK.
    Sdk(Program),
    /// An HTTP server without it.
    Http(Program, Listen),
    /// The host's base.
    Base(Program),
    /// Nothing: the module only holds resources.
    Resource,
}

/// How an HTTP program learns where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// It inherits a listener (LISTEN_FDS=1).
    Inherit,
    /// It binds 127.0.0.1:$PORT.
    Port,
}

/// A program and its arguments (without the name of the program).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub exec: Exec,
    /// Its arguments; none contains NUL.
    pub args: Vec<String>,
}

/// Where an executable lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exec {
    /// In the package.
    Package(PackagePath),
    /// On the host, below /usr or /bin, without `..`.
    Host(PathBuf),
}

/// A service provided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provided {
    /// Its name.
    pub service: ServiceName,
    /// Where the ingress offers it.
    pub http: Option<HttpRoute>,
    /// Whether other tenants' modules may call it, once both tenants allow it.
    pub export: bool,
}

/// Where the ingress offers a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpRoute {
    /// Begins with `/`; ends with it only when it is `/`.
    pub prefix: String,
    /// A lower-case DNS name without port; `None`: any host.
    pub host: Option<String>,
}

/// What the module calls and maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requires {
    /// Services, none of them its own.
    pub services: BTreeSet<ServiceName>,
    /// Resources, its own or another module's.
    pub resources: BTreeSet<ResourceName>,
}

/// A resource in the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceFile {
    /// Its name.
    pub name: ResourceName,
    /// Its file.
    pub file: PackagePath,
}

/// What a worker may use. There is no unlimited worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of memory above which it is slowed down. None: no more than at its limit.
    pub memory_high: Option<u64>,
    /// Bytes of swap beside it.
    pub swap: u64,
    /// Cores.
    pub cpu: f64,
    /// Share of busy processors, 1 to 10000; 100 is everybody's default.
    pub cpu_weight: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Share of busy disks, 1 to 10000; 100 is everybody's default.
    pub io_weight: u32,
    /// Descriptors per process.
    pub open_files: u32,
}

impl Limits {
    /// These, with what an operator has said instead.
    #[must_use]
    pub fn with(&self, said: &ModuleLimits) -> Self {
        Self {
            memory: said.memory_bytes.unwrap_or(self.memory),
            memory_high: said.memory_high_bytes.or(self.memory_high),
            swap: said.swap_bytes.unwrap_or(self.swap),
            cpu: said.cpu_milli.map_or(self.cpu, |it| f64::from(it) / 1_000.0),
            cpu_weight: said.cpu_weight.unwrap_or(self.cpu_weight),
            pids: said.pids.unwrap_or(self.pids),
            io_weight: said.io_weight.unwrap_or(self.io_weight),
            open_files: self.open_files,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 128 << 20,
            memory_high: None,
            swap: 0,
            cpu: 1.0,
            cpu_weight: 100,
            pids: 64,
            io_weight: 100,
            open_files: 1024,
        }
    }
}

/// Health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// From one check to the next.
    pub interval: Duration,
    /// How long an answer may take; at most the interval.
    pub timeout: Duration,
    /// Failures in a row that end a worker.
    pub failures: u32,
    /// Path of a GET; `None`: a connection or a pong is enough.
    pub path: Option<String>,
}

/// How long a worker may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until it is ready.
    pub start: Duration,
    /// To finish what is in flight.
    pub drain: Duration,
    /// From SIGTERM until it is killed.
    pub stop: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { start: Duration::from_secs(10), drain: Duration::from_secs(10), stop: Duration::from_secs(5) }
    }
}

/// What happens when a worker ends unasked. Failures are counted in a row, so that no length of the waits between them
/// can hide a crash loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When it is started again.
    pub policy: RestartPolicy,
    /// The wait before the first restart; doubles with each.
    pub backoff: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// Failures in a row that make a crash loop.
    pub crashes: u32,
    /// Being ready for this long ends the row.
    pub stable: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            crashes: 8,
            stable: Duration::from_secs(30),
        }
    }
}

impl Manifest {
    /// The program, unless the module only holds resources.
    #[must_use]
    pub const fn program(&self) -> Option<&Program> {
        match &self.runtime {
            Runtime::Sdk(program) | Runtime::Http(program, _) | Runtime::Base(program) => Some(program),
            Runtime::Resource => None,
        }
    }

    /// The service `name`, if the module provides it.
    #[must_use]
    pub fn provided(&self, name: &ServiceName) -> Option<&Provided> {
        self.provides.iter().find(|it| it.service == *name)
    }

    /// The file of the resource `name`, if the package holds it.
    #[must_use]
    pub fn resource(&self, name: &ResourceName) -> Option<&ResourceFile> {
        self.resources.iter().find(|it| it.name == *name)
    }
}
