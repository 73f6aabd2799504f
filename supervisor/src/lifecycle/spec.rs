//! What lifecycle decisions need to know of a module.toml: a small copy of it that is kept in the store beside the version.

use std::collections::BTreeSet;
use std::time::Duration;

use mortise_control::{ModuleName, ResourceName, ServiceName};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::api::{Gate, LimitsStatus};

/// One version of a module, as far as `step` decides on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleSpec {
    /// Its name.
    pub module: ModuleName,
    /// Its version.
    pub version: Version,
    /// What kind of program it is.
    pub runtime: Runtime,
    /// Services it provides.
    pub provides: Vec<ProvidedService>,
    /// Services it calls. It is started also while they are missing: calls wait for them.
    pub requires: Vec<ServiceName>,
    /// Resources it maps. They are loaded before it is spawned.
    pub maps: Vec<ResourceName>,
    /// How many workers run at once; at least 1.
    pub instances: u32,
    /// What follows an exit.
    pub restart: RestartPolicy,
    /// Consecutive failures after which it is `Failed`; none: it is tried for ever.
    pub crash_limit: Option<u32>,
    /// The pauses between its failures.
    pub backoff: Backoff,
    /// Whether and how it is asked if it is well.
    pub health: Option<Health>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// How long its workers are kept frozen for a rollback when another version has replaced it; zero: not at all.
    #[serde(default)]
    pub keep: Duration,
    /// What a version that replaces this one by steps is judged by.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Whether and how its worker gives its state to the version that replaces it.
    #[serde(default)]
    pub handover: Option<Handover>,
    /// Limits, for the status.
    pub limits: LimitsStatus,
}

/// What kind of program a module is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// A worker built with the SDK.
    Sdk,
    /// A program without the SDK, reached by HTTP.
    Http,
    /// The base.
    Base,
    /// No process: files that are loaded as resources when the module is started.
    Resource {
        /// What it provides.
        resources: Vec<ResourceName>,
    },
}

/// A service that a module provides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidedService {
    /// Its name.
    pub service: ServiceName,
    /// Some: requests reach it by HTTP through the base, and there are no channels to it. None: typed calls by channel.
    pub http: Option<HttpOffer>,
    /// Whether other tenants' modules may call it, once both tenants allow it.
    #[serde(default)]
    pub export: bool,
}

/// Where the ingress offers a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOffer {
    /// The host that must match, lower case without port; none matches every host.
    pub host: Option<String>,
    /// The path prefix.
    pub prefix: String,
}

/// What follows when a worker ends unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It is started again.
    Always,
    /// It is started again unless it ended with status 0, which makes it `Exited`.
    OnFailure,
    /// It stays as it is: `Exited` after status 0, else `Failed`.
    Never,
}

/// The pauses between the failures of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Before the first retry; doubled for each further failure.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
    /// Having been ready for this long makes it forget its failures. Time spent in backoff never counts.
    pub stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(10), stable_after: Duration::from_secs(30) }
    }
}

/// How a worker is asked if it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Between two pings.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// So many bad or missing answers in a row, and it is killed.
    pub failures: u32,
}

/// How state goes from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The version of the state that it writes.
    pub version: u32,
    /// Those that it can read.
    pub accepts: BTreeSet<u32>,
    /// The most bytes of it.
    pub max_bytes: u64,
    /// How long calls may wait for all of it.
    pub timeout: Duration,
}

/// How long a worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// From spawn to ready.
    pub start: Duration,
    /// From `Drain` to `Drained`, and for a closed ring to be served.
    pub drain: Duration,
    /// From SIGTERM to its end; then it is killed.
    pub stop: Duration,
}

impl ModuleSpec {
    /// The resources that starting this module loads; empty unless its runtime is [`Runtime::Resource`].
    #[must_use]
    pub fn resources(&self) -> &[ResourceName] {
        match &self.runtime {
            Runtime::Resource { resources } => resources,
            Runtime::Sdk | Runtime::Http | Runtime::Base => &[],
        }
    }

    /// The service `name` as this version provides it.
    #[must_use]
    pub fn provided(&self, name: &ServiceName) -> Option<&ProvidedService> {
        self.provides.iter().find(|it| it.service == *name)
    }
}
