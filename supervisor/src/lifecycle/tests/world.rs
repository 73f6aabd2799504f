//! The modules that the tests run.

use std::collections::BTreeSet;
use std::time::Duration;

use mortise_control::{GroupName, ModuleName, ServiceName, TenantName};
use semver::Version;

use crate::api::{LimitsStatus, ModuleLimits, Request, Rollout, Steering};
use crate::lifecycle::{
    Backoff, HttpOffer, ModuleKey, ModuleSpec, Package, ProvidedService, RestartPolicy, Runtime, Timeouts,
};

pub(super) fn tenant() -> TenantName {
    TenantName::new("default").unwrap()
}

pub(super) fn name(text: &str) -> ModuleName {
    ModuleName::new(text).unwrap()
}

pub(super) fn service(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

pub(super) fn key(text: &str) -> ModuleKey {
    ModuleKey { tenant: tenant(), module: name(text) }
}

pub(super) fn version(major: u64) -> Version {
    Version::new(major, 0, 0)
}

/// A module that needs nothing and provides nothing.
pub(super) fn module(text: &str, major: u64) -> ModuleSpec {
    ModuleSpec {
        module: name(text),
        version: version(major),
        runtime: Runtime::Sdk,
        provides: Vec::new(),
        requires: Vec::new(),
        maps: Vec::new(),
        instances: 1,
        restart: RestartPolicy::Always,
        crash_limit: Some(3),
        backoff: Backoff::default(),
        health: None,
        timeouts: Timeouts {
            start: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            stop: Duration::from_secs(5),
        },
        keep: Duration::ZERO,
        gates: Vec::new(),
        handover: None,
        limits: LimitsStatus::default(),
    }
}

impl ModuleSpec {
    pub(super) fn serving(mut self, text: &str) -> Self {
        self.provides.push(ProvidedService { service: service(text), http: None, export: false });
        self
    }

    pub(super) fn exporting(mut self, text: &str) -> Self {
        self.provides.push(ProvidedService { service: service(text), http: None, export: true });
        self
    }

    pub(super) fn offering(mut self, text: &str, prefix: &str) -> Self {
        let http = Some(HttpOffer { host: None, prefix: prefix.to_owned() });
        self.provides.push(ProvidedService { service: service(text), http, export: false });
        self
    }

    pub(super) fn calling(mut self, text: &str) -> Self {
        self.requires.push(service(text));
        self
    }

    pub(super) fn mapping(mut self, text: &str) -> Self {
        self.maps.push(mortise_control::ResourceName::new(text).unwrap());
        self
    }

    pub(super) fn holding(mut self, text: &str) -> Self {
        self.runtime = Runtime::Resource { resources: vec![mortise_control::ResourceName::new(text).unwrap()] };
        self
    }

    pub(super) fn times(mut self, instances: u32) -> Self {
        self.instances = instances;
        self
    }

    pub(super) fn base(mut self) -> Self {
        self.runtime = Runtime::Base;
        self
    }

    pub(super) fn package(self) -> Package {
        let digest = format!("{}-{}", self.module, self.version);
        Package { spec: self, digest }
    }
}

pub(super) fn start(text: &str) -> Request {
    Request::Start { tenant: tenant(), module: name(text), version: None }
}

pub(super) fn start_version(text: &str, major: u64) -> Request {
    Request::Start { tenant: tenant(), module: name(text), version: Some(version(major)) }
}

pub(super) fn stop(text: &str) -> Request {
    Request::Stop { tenant: tenant(), module: name(text) }
}

pub(super) fn restart(text: &str) -> Request {
    Request::Restart { tenant: tenant(), module: name(text) }
}

pub(super) fn swap(text: &str, major: u64) -> Request {
    Request::Swap {
        tenant: tenant(),
        module: name(text),
        version: version(major),
        keep_ms: None,
        rollout: None,
        without_state: false,
    }
}

/// By steps, each for a minute, with the gates that hold without others.
pub(super) fn canary(text: &str, major: u64, steps: &[u32]) -> Request {
    let rollout = Rollout { steps: steps.to_vec(), pause_ms: 60_000, gates: Vec::new(), min_calls: 100 };
    Request::Swap {
        tenant: tenant(),
        module: name(text),
        version: version(major),
        keep_ms: None,
        rollout: Some(rollout),
        without_state: false,
    }
}

pub(super) fn without_state(mut request: Request) -> Request {
    if let Request::Swap { without_state, .. } = &mut request {
        *without_state = true;
    }
    request
}

pub(super) fn steer(text: &str, to: Steering) -> Request {
    Request::SteerSwap { tenant: tenant(), module: name(text), to }
}

pub(super) fn beside(text: &str, major: u64) -> Request {
    Request::StartBeside { tenant: tenant(), module: name(text), version: version(major) }
}

pub(super) fn share_out(text: &str, percent: u32) -> Request {
    Request::Share { tenant: tenant(), module: name(text), percent }
}

pub(super) fn shadow(text: &str, percent: u32) -> Request {
    Request::Shadow { tenant: tenant(), module: name(text), percent }
}

/// The version that is replaced is kept for ten minutes.
pub(super) fn swap_and_keep(text: &str, major: u64) -> Request {
    Request::Swap {
        tenant: tenant(),
        module: name(text),
        version: version(major),
        keep_ms: Some(600_000),
        rollout: None,
        without_state: false,
    }
}

/// So is the one that goes.
pub(super) fn rollback(text: &str) -> Request {
    Request::Rollback { tenant: tenant(), module: name(text), keep_ms: Some(600_000) }
}

pub(super) fn scale(text: &str, instances: u32) -> Request {
    Request::Scale { tenant: tenant(), module: name(text), instances: Some(instances) }
}

/// More memory than any has by its module.toml.
pub(super) fn limit(text: &str, mib: u64) -> Request {
    let limits = ModuleLimits { memory_bytes: Some((200 + mib) << 20), ..ModuleLimits::default() };
    Request::SetLimits { tenant: tenant(), module: name(text), limits, lift: BTreeSet::new(), force: false }
}

pub(super) fn discard(text: &str) -> Request {
    Request::Discard { tenant: tenant(), module: name(text) }
}

pub(super) fn publish(text: &str) -> Request {
    Request::Publish { tenant: tenant(), module: name(text), service: None }
}

pub(super) fn unpublish(text: &str) -> Request {
    Request::Unpublish { tenant: tenant(), module: name(text), service: None }
}

/// The rules of spell and of site: a lane, and shares.
pub(super) fn apply_routes(lane: &str, second: u32) -> Request {
    let text = format!(
        r#"
        [[tag]]
        name = "lane"
        header = "x-lane"
        [[route]]
        service = "spell"
        [[route.rule]]
        match = {{ tag = {{ lane = "{lane}" }} }}
        to = [{{ version = "2.0.0" }}]
        [[route.rule]]
        match = {{ module = "site" }}
        to = [{{ version = "1.0.0", weight = 90 }}, {{ version = "2.0.0", weight = {second} }}]
        [[route]]
        service = "site"
        [[route.rule]]
        match = {{ tag = {{ lane = "{lane}" }} }}
        to = [{{ version = "2.0.0" }}]
        "#
    );
    Request::ApplyRoutes { tenant: tenant(), routes: toml::from_str(&text).unwrap() }
}

pub(super) fn rollback_routes() -> Request {
    Request::RollbackRoutes { tenant: tenant() }
}

/// Modules with the major numbers of their versions.
pub(super) fn apply_group(group: &str, modules: &[(&str, u64)], keep_ms: Option<u64>) -> Request {
    let group = GroupName::new(group).unwrap();
    let modules = modules.iter().map(|(text, major)| (name(text), version(*major))).collect();
    Request::ApplyGroup { tenant: tenant(), group, modules, keep_ms }
}

pub(super) fn rollback_group(group: &str) -> Request {
    Request::RollbackGroup { tenant: tenant(), group: GroupName::new(group).unwrap(), keep_ms: Some(600_000) }
}

pub(super) fn remove_group(group: &str) -> Request {
    Request::RemoveGroup { tenant: tenant(), group: GroupName::new(group).unwrap() }
}

pub(super) fn uninstall(text: &str, major: Option<u64>) -> Request {
    Request::Uninstall { tenant: tenant(), module: name(text), version: major.map(version) }
}
