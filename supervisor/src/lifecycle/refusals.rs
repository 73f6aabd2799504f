//! How a request is refused: what was found, and what to do next.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use mortise_control::{GroupName, ResourceName, ServiceName, TenantName};
use semver::Version;

use super::module::Module;
use super::operation::{Op, verb};
use super::{ModuleKey, Runtime};
use crate::api::{ApiError, Blame, ErrorCode, OperationId, Request};

pub(super) fn conflict(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Conflict, Blame::Caller, message)
}

pub(super) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::NotFound, Blame::Caller, message)
}

pub(super) fn failed(blame: Blame, message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Failed, blame, message)
}

pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|it| it.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

pub(super) fn stopping() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, Blame::Operator, "the supervisor is stopping")
        .remedy("Ask again when it has been started again.")
}

pub(super) fn bad_operation_id(id: &OperationId) -> ApiError {
    let shown: String = id.0.chars().take(80).collect();
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("{shown:?} is not an operation id"))
        .remedy("An operation id is 1 to 128 printable ASCII characters without spaces.")
}

pub(super) fn other_request(op: &Op) -> ApiError {
    conflict(format!("operation {} was a different request ({} {})", op.operation.id, verb(op.request()), op.subject()))
        .remedy("Use a new operation id for a new request.")
}

pub(super) fn busy(op: &Op) -> ApiError {
    let id = &op.operation.id;
    let refused = conflict(format!("{}: operation {id} ({}) is under way", op.subject(), verb(op.request())));
    match (&op.key, op.request()) {
        (Some(key), Request::Swap { rollout: Some(_), .. }) => refused
            .remedy(format!("Wait until operation {id} has ended; `mortise swap abort {}` ends it now.", key.module)),
        _ => refused.remedy(format!("Wait until operation {id} has ended, then ask again.")),
    }
}

pub(super) fn nothing_to_steer(key: &ModuleKey, op: Option<&Op>) -> ApiError {
    let found = op.map_or_else(
        || "no operation is under way".to_owned(),
        |op| {
            let step = op.operation.steps.last().map_or("accept", |it| it.step.as_str());
            format!("operation {} ({}) is at its step {step}", op.operation.id, verb(op.request()))
        },
    );
    conflict(format!("{key} has no swap that could be paused, resumed or aborted: {found}"))
        .remedy(format!("`mortise rollback {}` or another swap takes back what is in charge already.", key.module))
}

pub(super) fn no_group(tenant: &TenantName, group: &GroupName) -> ApiError {
    not_found(format!("the tenant {tenant} has no group {group}"))
        .remedy("`mortise group ls` lists those that are; `mortise group apply FILE` declares one.")
}

pub(super) fn nothing_earlier(group: &GroupName) -> ApiError {
    conflict(format!("the group {group} has nothing to go back to: nothing that ran before was replaced"))
        .remedy("`mortise group apply FILE` with other versions changes it.")
}

pub(super) fn cannot_be_grouped(key: &ModuleKey, runtime: &Runtime) -> ApiError {
    let why = match runtime {
        Runtime::Base => "is a base, which has the listeners for clients",
        Runtime::Sdk | Runtime::Http | Runtime::Resource { .. } => "only holds resources",
    };
    let message = format!("modules.{}: {key} {why}: it does not change together with others", key.module);
    ApiError::new(ErrorCode::Invalid, Blame::Caller, message)
        .remedy(format!("Leave it out; `mortise swap {}@VERSION` replaces it by itself.", key.module))
}

pub(super) fn part_id_taken(id: &OperationId, op: &Op) -> ApiError {
    conflict(format!("operation {} is another's, and would be a part of operation {id}", op.operation.id))
        .remedy("Use another operation id.")
}

pub(super) fn starts_yet(op: &Op) -> ApiError {
    conflict(format!("{}: operation {} is still starting its workers", op.subject(), op.operation.id))
        .remedy("Ask again when it has come to its first share; an abort is possible now.")
}

pub(super) fn no_handover(key: &ModuleKey, version: &Version, why: &str) -> ApiError {
    conflict(format!("{key} cannot hand its state over to {version}: {why}")).remedy(format!(
        "`mortise swap {}@{version} --without-state` swaps all the same; the state is lost.",
        key.module
    ))
}

pub(super) fn nobody_hands_over(key: &ModuleKey, why: &str) -> ApiError {
    failed(Blame::Module, format!("{key} has no state to hand over: {why}"))
        .remedy("`mortise swap … --without-state` swaps all the same; the new version begins without.")
}

pub(super) fn hands_over(key: &ModuleKey) -> ApiError {
    let message = format!("modules.{}: {key} hands its state over, which it does by itself", key.module);
    ApiError::new(ErrorCode::Invalid, Blame::Caller, message).remedy(format!(
        "`mortise swap {}@VERSION` first; a group leaves alone what runs the version that it names.",
        key.module
    ))
}

pub(super) fn no_package(digest: &str) -> ApiError {
    not_found(format!("there is no package {digest} in the package store")).remedy("Upload the package first.")
}

pub(super) fn no_module(key: &ModuleKey) -> ApiError {
    not_found(format!("module {key} is not installed")).remedy("`mortise ps` lists the modules that are.")
}

pub(super) fn no_version(module: &Module, version: &Version) -> ApiError {
    let key = &module.record.key;
    not_found(format!("{key} {version} is not installed; installed: {}", list(module.versions.keys().rev())))
        .remedy("Install that version first, or name one that is installed.")
}

pub(super) fn no_service(key: &ModuleKey, version: &Version, service: &ServiceName, has: &str) -> ApiError {
    not_found(format!("{key} {version} does not provide service {service}; it provides: {has}"))
        .remedy("Name one of its services.")
}

pub(super) fn not_running(key: &ModuleKey, verb: &str) -> ApiError {
    conflict(format!("{key} is not running, so there is nothing to {verb}"))
        .remedy(format!("`mortise start {}` first.", key.module))
}

pub(super) fn still_running(key: &ModuleKey, version: &Version) -> ApiError {
    conflict(format!("{key} {version} is running")).remedy(format!("`mortise stop {}` first.", key.module))
}

pub(super) fn other_version_runs(key: &ModuleKey, running: &Version, asked: &Version) -> ApiError {
    conflict(format!("{key} runs version {running}")).remedy(format!(
        "`mortise swap {name}@{asked}` replaces it; `mortise start {name}@{asked} --beside` runs {asked} beside it.",
        name = key.module
    ))
}

pub(super) fn published_elsewhere(tenant_service: &ServiceName, owner: &ModuleKey) -> ApiError {
    conflict(format!("service {tenant_service} is published by {owner}"))
        .remedy(format!("`mortise unpublish {}` first: one module answers a service.", owner.module))
}

pub(super) fn route_taken(route: &str, key: &ModuleKey, owner: &ModuleKey, service: &ServiceName) -> ApiError {
    if owner.tenant != key.tenant {
        // Whose, and by what, is nothing that a tenant is told of another.
        return conflict(format!("the HTTP route {route} is taken by another tenant"))
            .remedy("Choose another host or path prefix in module.toml.");
    }
    conflict(format!("the HTTP route {route} is taken by service {service} of {owner}"))
        .remedy("Unpublish that service first, or choose another host or path prefix in module.toml.")
}

pub(super) fn drops_service(key: &ModuleKey, version: &Version, service: &ServiceName) -> ApiError {
    conflict(format!("{key} {version} does not provide service {service}, which is published"))
        .remedy(format!("`mortise unpublish {} {service}` first, or take a version that provides it.", key.module))
}

pub(super) fn no_resource(key: &ModuleKey, resource: &ResourceName) -> ApiError {
    conflict(format!("{key} maps resource {resource}, which no running module of its tenant provides"))
        .remedy("Start the module that holds the resource first.")
}

pub(super) fn resource_provided_elsewhere(resource: &ResourceName, owner: &ModuleKey) -> ApiError {
    conflict(format!("resource {resource} is provided by {owner}, which is running"))
        .remedy(format!("Stop {owner} first: one module provides a resource."))
}

pub(super) fn resource_in_use(resource: &ResourceName, users: &str) -> ApiError {
    conflict(format!("resource {resource} is mapped by {users}")).remedy("Stop (or restart) these modules first.")
}

pub(super) fn still_kept(key: &ModuleKey, version: &Version) -> ApiError {
    conflict(format!("{key} {version} is kept frozen for a rollback"))
        .remedy(format!("`mortise discard {}` ends it.", key.module))
}

pub(super) fn runs_beside(module: &Module) -> ApiError {
    let key = &module.record.key;
    let version = |it: Option<&Version>| it.map_or_else(|| "another version".to_owned(), ToString::to_string);
    let beside = version(module.record.beside.as_ref().map(|it| &it.version));
    let charge = version(module.record.version.as_ref());
    conflict(format!("{key} {beside} runs beside {charge}")).remedy(format!(
        "`mortise discard {name}` ends {beside}; `mortise swap {name}@{beside}` puts it in charge alone.",
        name = key.module
    ))
}

pub(super) fn not_ready_beside(module: &Module, version: &Version) -> ApiError {
    let key = &module.record.key;
    conflict(format!("{key} {version} runs beside, but not all its workers are ready"))
        .remedy(format!("`mortise status {name}` says why; `mortise discard {name}` ends it.", name = key.module))
}

pub(super) fn in_charge(key: &ModuleKey, version: &Version) -> ApiError {
    conflict(format!("{key} {version} is in charge: it cannot run beside itself"))
        .remedy(format!("`mortise scale {} N` runs more workers of it.", key.module))
}

pub(super) fn cannot_run_beside(key: &ModuleKey, runtime: &Runtime) -> ApiError {
    let why = match runtime {
        Runtime::Base => "is a base, which has the listeners for clients",
        Runtime::Sdk | Runtime::Http | Runtime::Resource { .. } => "only holds resources",
    };
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("{key} {why}: no other version of it runs beside it"))
        .remedy(format!("`mortise swap {}@VERSION` replaces it.", key.module))
}

pub(super) fn nothing_beside(module: &Module) -> ApiError {
    let key = &module.record.key;
    let others = module.versions.keys().rev().filter(|it| Some(*it) != module.record.version.as_ref());
    conflict(format!("nothing of {key} runs beside the version in charge; other versions installed: {}", list(others)))
        .remedy(format!("`mortise start {}@VERSION --beside` starts one.", key.module))
}

pub(super) fn bad_share(percent: u32) -> ApiError {
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("percent = {percent} is no share"))
        .remedy("0 to 100; `mortise swap` puts the version beside in charge alone.")
}

pub(super) fn nothing_kept(module: &Module) -> ApiError {
    let key = &module.record.key;
    let others = module.versions.keys().rev().filter(|it| Some(*it) != module.record.version.as_ref());
    conflict(format!("nothing of {key} is kept frozen; other versions installed: {}", list(others))).remedy(format!(
        "`mortise swap {}@VERSION` starts another version anew; `mortise swap --keep 10m`, or `swap.keep` in module.toml, keeps the \
         one that it replaces.",
        key.module
    ))
}

pub(super) fn kept_too_long(keep: Duration, most: Duration) -> ApiError {
    let message = format!("keep_ms = {} is longer than a version can be kept", keep.as_millis());
    ApiError::new(ErrorCode::Invalid, Blame::Caller, message)
        .remedy(format!("At most {} milliseconds (24 hours).", most.as_millis()))
}

pub(super) fn cannot_be_kept(key: &ModuleKey, runtime: &Runtime) -> ApiError {
    let why = match runtime {
        Runtime::Base => "is a base, which holds the connections of clients",
        Runtime::Sdk | Runtime::Http | Runtime::Resource { .. } => "has no workers",
    };
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("{key} {why}: nothing of it can be kept frozen"))
        .remedy("Ask without `keep`.")
}

pub(super) fn bad_instances(instances: u32, allowed: &RangeInclusive<u32>) -> ApiError {
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("instances = {instances} is out of range"))
        .remedy(format!("{} to {}; `mortise stop` ends them all.", allowed.start(), allowed.end()))
}

pub(super) fn no_workers(key: &ModuleKey) -> ApiError {
    ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("{key} only holds resources: it has no workers to scale"))
}
