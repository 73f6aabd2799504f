//! module.toml as it is written: plain data, every key optional, nothing believed yet.
//!
//! The doc comments here are what `mortise schema` gives to editors, so they speak to the author of a module.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds;

/// A Mortise module: what it is, what it needs, what it offers and what it may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "module.toml", extend("required" = ["name", "version", "runtime"]))]
pub struct ManifestFile {
    /// The module's name: 1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last.
    #[schemars(regex(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: Option<String>,
    /// The module's version, as semver: MAJOR.MINOR.PATCH, optionally -PRERELEASE, without build metadata.
    #[schemars(regex(pattern = r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$"))]
    pub version: Option<String>,
    /// What kind of module it is.
    pub runtime: Option<RuntimeKind>,
    /// The program: a path inside the package, or an absolute path below /usr or /bin of the host.
    pub exec: Option<String>,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// How an `http` program learns where to listen. Default: "inherit".
    pub listen: Option<ListenKind>,
    /// Which files go into the package beside module.toml, `exec` and the resources: files or folders of the module's
    /// folder, each with all that is in it. Default: everything in the folder but names that begin with '.' and
    /// packages (*.mortise); or, where a Cargo.toml is, nothing.
    pub files: Option<Vec<String>>,
    /// How many workers run the module at the same time. Default: 1.
    #[schemars(range(min = 1, max = bounds::INSTANCES_MAX))]
    pub instances: Option<i64>,
    /// The services that the module provides.
    pub provides: Vec<ProvidesFile>,
    /// The services and resources that the module needs.
    pub requires: RequiresFile,
    /// Read-only data in the package that is loaded once and mapped by every permitted worker.
    pub resources: Vec<ResourceFileEntry>,
    /// What a worker of the module may use of the host.
    pub limits: LimitsFile,
    /// Environment variables of the program. Names beginning with MORTISE_ or LISTEN_, and PORT, are reserved.
    pub env: BTreeMap<String, String>,
    /// Values that the operator may override and that the program reads through the SDK.
    pub configuration: BTreeMap<String, ConfigurationValue>,
    /// How the supervisor finds out whether a worker is well. Without this table only its exit counts.
    pub health: Option<HealthFile>,
    /// How long a worker may take.
    pub timeouts: TimeoutsFile,
    /// What happens when a worker ends unasked.
    pub restart: RestartFile,
    /// What becomes of its workers when another version replaces them.
    pub swap: SwapFile,
    /// That its worker gives its state to the version that replaces it. For `sdk` modules with one instance that are reached by calls
    /// only, and whose code has `export_state` and `import_state`. Without this table a version begins with no state.
    pub handover: Option<HandoverFile>,
}

/// What kind of module it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeKind {
    /// A program built with the `module-runtime` SDK.
    Sdk,
    /// Any HTTP/1.1 server, in any language.
    Http,
    /// The base of this host: a program built with `mortise-base`, which holds the HTTP ingress and base services.
    Base,
    /// No program: only resources.
    Resource,
}

/// How an `http` program learns where to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListenKind {
    /// It inherits a listening socket as descriptor 3 (LISTEN_FDS=1, as systemd does it).
    #[default]
    Inherit,
    /// It binds 127.0.0.1:$PORT in its own network namespace.
    Port,
}

/// A service that the module provides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["service"]))]
pub struct ProvidesFile {
    /// The service's name.
    #[schemars(regex(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub service: Option<String>,
    /// Where the ingress offers the service; without it the service is reached by calls only.
    pub http: Option<HttpFile>,
    /// Whether it may be called by other tenants' modules, once both tenants allow it. Default: false.
    pub export: Option<bool>,
}

/// Where the ingress offers a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpFile {
    /// The first part of the path, as whole segments: "/site" answers /site and /site/…, "/" everything. Default: "/".
    #[schemars(regex(pattern = "^/"))]
    pub prefix: Option<String>,
    /// The host name of the request. Default: any.
    pub host: Option<String>,
}

/// What the module needs of others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequiresFile {
    /// Services that it calls. It gets a channel to each and to no other.
    pub services: Vec<String>,
    /// Resources that it maps, of its own package or of another module.
    pub resources: Vec<String>,
}

/// A resource in the package.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "file"]))]
pub struct ResourceFileEntry {
    /// The resource's name.
    #[schemars(regex(pattern = "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Its file, as a path inside the package.
    pub file: Option<String>,
}

/// What a worker may use of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsFile {
    /// Memory, like "64M" (K, M, G, T are powers of 1024). Default: "128M".
    #[schemars(regex(pattern = bounds::BYTES_PATTERN))]
    pub memory: Option<String>,
    /// Memory above which a worker is slowed down while the kernel takes back what it can, like "48M": a warning before the limit. Needs
    /// cgroup v2. Default: none.
    #[schemars(regex(pattern = bounds::BYTES_PATTERN))]
    pub memory_high: Option<String>,
    /// Swap beside the memory, like "0" or "64M". Default: "0".
    #[schemars(regex(pattern = bounds::BYTES_PATTERN))]
    pub swap: Option<String>,
    /// CPU as a fraction of cores: 0.5 is half of one core, 2 is two. Default: 1.
    #[schemars(range(min = bounds::CPU_MIN, max = bounds::CPU_MAX))]
    pub cpu: Option<f64>,
    /// Share of processor time beside others while there is too little, 1 to 10000. Default: 100.
    #[schemars(range(min = bounds::WEIGHT_MIN, max = bounds::WEIGHT_MAX))]
    pub cpu_weight: Option<i64>,
    /// Processes and threads. Default: 64.
    #[schemars(range(min = bounds::PIDS_MIN, max = bounds::PIDS_MAX))]
    pub pids: Option<i64>,
    /// Share of disk time beside others, 1 to 10000. Default: 100.
    #[schemars(range(min = bounds::WEIGHT_MIN, max = bounds::WEIGHT_MAX))]
    pub io_weight: Option<i64>,
    /// Descriptors that one process may hold open. Default: 1024.
    #[schemars(range(min = bounds::OPEN_FILES_MIN, max = bounds::OPEN_FILES_MAX))]
    pub open_files: Option<i64>,
}

/// A configuration value. The program reads it as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ConfigurationValue {
    /// true or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
}

/// How the supervisor finds out whether a worker is well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthFile {
    /// From one check to the next, like "5s". Default: "5s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub interval: Option<String>,
    /// How long an answer may take, at most the interval. Default: "1s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub timeout: Option<String>,
    /// How many checks in a row must fail before the worker is replaced. Default: 3.
    #[schemars(range(min = 1, max = bounds::FAILURES_MAX))]
    pub failures: Option<i64>,
    /// The path of a GET request that must be answered with 2xx. Without it a connection (`http`) or a pong of the SDK
    /// (`sdk`) is enough.
    #[schemars(regex(pattern = "^/"))]
    pub path: Option<String>,
}

/// How long a worker may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsFile {
    /// From its start until it is ready. Default: "10s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub start: Option<String>,
    /// To finish what is in flight when it is drained. Default: "10s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub drain: Option<String>,
    /// From SIGTERM until it is killed. Default: "5s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub stop: Option<String>,
}

/// What happens when a worker ends unasked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RestartFile {
    /// When it is started again. Default: "always".
    pub policy: Option<RestartPolicy>,
    /// The wait before the first restart; it doubles with each further one. Default: "100ms".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub backoff: Option<String>,
    /// The longest wait between two restarts. Default: "10s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub backoff_max: Option<String>,
    /// How many failures in a row make a crash loop, which is not tried again. Default: 8.
    #[schemars(range(min = 1, max = bounds::CRASHES_MAX))]
    pub crashes: Option<i64>,
    /// A worker that was ready for this long has its earlier failures forgotten. Default: "30s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub stable: Option<String>,
}

/// What becomes of workers that another version replaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwapFile {
    /// How long they are kept frozen for `mortise rollback`, like "10m", at most 24h. Their memory stays theirs meanwhile, and so do
    /// their files and locks. Default: not at all, they end. Not for a base, which holds clients' connections.
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub keep: Option<String>,
    /// What a version that replaces this one by steps (`mortise swap --canary`) is judged by.
    pub gates: GatesFile,
}

/// How state goes from the version that is replaced to the one that replaces it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["version"]))]
pub struct HandoverFile {
    /// The version of the state that this version of the module writes.
    #[schemars(range(min = 0, max = bounds::STATE_VERSION_MAX))]
    pub version: Option<i64>,
    /// The versions of the state that it can read. Default: that one only.
    pub accepts: Option<Vec<i64>>,
    /// The most bytes of state that it writes or reads, like "16M", at most 1G and half of `limits.memory`: they are charged to the worker
    /// that writes them. Default: "16M", or half of `limits.memory`.
    #[schemars(regex(pattern = bounds::BYTES_PATTERN))]
    pub max_bytes: Option<String>,
    /// How long calls may wait for all of it, like "5s", at most 60s: for calls in flight to end, for the state to be written and to be
    /// read. Default: "5s".
    #[schemars(regex(pattern = bounds::DURATION_PATTERN))]
    pub timeout: Option<String>,
}

/// The most that each figure of a new version may be: an amount, or in terms of this version's ("+1%" more, "2x" as much), or "off".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatesFile {
    /// Calls and requests that end in an error, of all. Default: "+1%".
    pub error_rate: Option<String>,
    /// What 99 of 100 calls take at most, like "50ms" or "2x".
    pub p99: Option<String>,
    /// CPU time per call, like "200us" or "1.5x".
    pub cpu: Option<String>,
    /// Memory of a worker, like "64M" or "1.5x".
    pub memory: Option<String>,
    /// Workers started again in a step. Default: "0".
    pub restarts: Option<String>,
}

/// When a worker that ended by itself is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Always.
    #[default]
    Always,
    /// Unless it exited with status 0.
    OnFailure,
    /// Never.
    Never,
}
