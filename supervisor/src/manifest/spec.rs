//! The part of a manifest that lifecycle decisions are made on.

use crate::api::LimitsStatus;
use crate::lifecycle::{self, Backoff, HttpOffer, ModuleSpec, ProvidedService};

use super::{Handover, Health, Limits, Manifest, Provided, Restart, RestartPolicy, Runtime, Timeouts};

impl From<&Manifest> for ModuleSpec {
    fn from(manifest: &Manifest) -> Self {
        Self {
            module: manifest.name.clone(),
            version: manifest.version.clone(),
            runtime: runtime(manifest),
            provides: manifest.provides.iter().map(provided).collect(),
            requires: manifest.requires.services.iter().cloned().collect(),
            maps: manifest.requires.resources.iter().cloned().collect(),
            instances: manifest.instances.max(1),
            restart: manifest.restart.policy.into(),
            crash_limit: Some(manifest.restart.crashes),
            backoff: (&manifest.restart).into(),
            health: manifest.health.as_ref().map(Into::into),
            timeouts: (&manifest.timeouts).into(),
            keep: manifest.keep,
            gates: manifest.gates.clone(),
            handover: manifest.handover.as_ref().map(Into::into),
            limits: (&manifest.limits).into(),
        }
    }
}

fn runtime(manifest: &Manifest) -> lifecycle::Runtime {
    match &manifest.runtime {
        Runtime::Sdk(_) => lifecycle::Runtime::Sdk,
        Runtime::Http(..) => lifecycle::Runtime::Http,
        Runtime::Base(_) => lifecycle::Runtime::Base,
        Runtime::Resource => {
            lifecycle::Runtime::Resource { resources: manifest.resources.iter().map(|it| it.name.clone()).collect() }
        }
    }
}

fn provided(provided: &Provided) -> ProvidedService {
    let offer = |it: &super::HttpRoute| HttpOffer { host: it.host.clone(), prefix: it.prefix.clone() };
    let http = provided.http.as_ref().map(offer);
    ProvidedService { service: provided.service.clone(), http, export: provided.export }
}

impl From<RestartPolicy> for lifecycle::RestartPolicy {
    fn from(policy: RestartPolicy) -> Self {
        match policy {
            RestartPolicy::Always => Self::Always,
            RestartPolicy::OnFailure => Self::OnFailure,
            RestartPolicy::Never => Self::Never,
        }
    }
}

impl From<&Restart> for Backoff {
    fn from(restart: &Restart) -> Self {
        Self { first: restart.backoff, most: restart.backoff_max, stable_after: restart.stable }
    }
}

impl From<&Health> for lifecycle::Health {
    fn from(health: &Health) -> Self {
        Self { interval: health.interval, timeout: health.timeout, failures: health.failures }
    }
}

impl From<&Handover> for lifecycle::Handover {
    fn from(handover: &Handover) -> Self {
        let Handover { version, accepts, max_bytes, timeout } = handover.clone();
        Self { version, accepts, max_bytes, timeout }
    }
}

impl From<&Timeouts> for lifecycle::Timeouts {
    fn from(timeouts: &Timeouts) -> Self {
        Self { start: timeouts.start, drain: timeouts.drain, stop: timeouts.stop }
    }
}

impl From<&Limits> for LimitsStatus {
    fn from(limits: &Limits) -> Self {
        Self { memory_bytes: Some(limits.memory), cpu: Some(limits.cpu), pids: Some(limits.pids.into()) }
    }
}
