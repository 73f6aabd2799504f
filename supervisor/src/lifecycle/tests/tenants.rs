//! Tenants: declared, limited, taken away.

use std::collections::BTreeSet;

use mortise_control::TenantName;

use super::host::Host;
use super::platform::running_platform;
use super::world::*;
use crate::api::{ApiError, ErrorCode, LimitsStatus, OperationState, Request, TenantLimit, TenantLimits, TenantUse};
use crate::lifecycle::{ModuleSpec, Timer};

fn acme() -> TenantName {
    TenantName::new("acme").unwrap()
}

fn limits(of: &TenantName, limits: TenantLimits) -> Request {
    Request::SetTenant { tenant: of.clone(), limits, lift: BTreeSet::new() }
}

fn add(limits: TenantLimits) -> Request {
    Request::AddTenant { tenant: acme(), limits }
}

fn remove() -> Request {
    Request::RemoveTenant { tenant: acme() }
}

/// As `request`, of acme.
fn of_acme(request: Request) -> Request {
    let mut json = serde_json::to_value(request).unwrap();
    json["tenant"] = "acme".into();
    serde_json::from_value(json).unwrap()
}

fn sized(mut spec: ModuleSpec, memory: u64) -> ModuleSpec {
    spec.limits = LimitsStatus { memory_bytes: Some(memory), ..LimitsStatus::default() };
    spec
}

fn install(host: &mut Host, spec: ModuleSpec) -> Result<(), ApiError> {
    let package = spec.package();
    let digest = package.digest.clone();
    host.packages.insert(digest.clone(), package);
    host.ask(Request::Install { tenant: acme(), digest }).map(drop)
}

#[track_caller]
fn quota(refused: ApiError, parts: &[&str]) {
    assert_eq!(refused.code, ErrorCode::Quota, "{refused:?}");
    let text = format!("{} {}", refused.message, refused.remedy.unwrap());
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

fn used(host: &Host, tenant: &TenantName) -> TenantUse {
    let tenants = host.state.snapshot().tenants;
    tenants.into_iter().find(|it| it.tenant == *tenant).map(|it| it.used).expect("the tenant is listed")
}

#[test]
fn modules_come_only_for_a_tenant_that_is_there() {
    let mut host = Host::new();
    let refused = install(&mut host, module("site", 1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    assert!(refused.message.contains("no tenant acme") && refused.remedy.unwrap().contains("tenant add acme"));
    assert_eq!(host.ask(of_acme(apply_routes("a", 1))).unwrap_err().code, ErrorCode::NotFound);
    host.done(add(TenantLimits::default()));
    install(&mut host, module("site", 1)).unwrap();
    assert_eq!(host.ask(add(TenantLimits::default())).unwrap_err().code, ErrorCode::Conflict);
    host.install(module("site", 1).package());
}

#[test]
fn a_tenant_goes_when_its_last_module_has_gone_and_leaves_nothing_to_who_gets_its_name() {
    let mut host = Host::new();
    assert_eq!(host.ask(remove()).unwrap_err().code, ErrorCode::NotFound);
    host.done(add(TenantLimits { workers: Some(3), ..TenantLimits::default() }));
    install(&mut host, module("site", 1)).unwrap();
    host.done(of_acme(apply_routes("a", 1)));
    let refused = host.ask(remove()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("has modules: site"), "{refused:?}");
    host.done(of_acme(uninstall("site", None)));
    host.done(remove());
    assert!(host.disk.tenants.is_empty());
    assert!(host.disk.routes.iter().all(|it| it.kept.is_empty()));
    assert_eq!(host.quotas[&acme()], TenantLimits::default(), "the host was told");
    assert!(!host.state.snapshot().tenants.iter().any(|it| it.tenant == acme()));
    let default = Request::RemoveTenant { tenant: tenant() };
    assert_eq!(host.ask(default).unwrap_err().code, ErrorCode::Conflict);
}

#[test]
fn limits_are_kept_over_the_supervisors_death_and_told_to_the_host_again() {
    let mut host = running_platform();
    host.done(add(TenantLimits { workers: Some(3), memory_bytes: Some(1 << 30), ..TenantLimits::default() }));
    let lift = BTreeSet::from([TenantLimit::Workers]);
    let changes = TenantLimits { pids: Some(90), ..TenantLimits::default() };
    host.done(Request::SetTenant { tenant: acme(), limits: changes, lift });
    host.done(limits(&tenant(), TenantLimits { modules: Some(50), ..TenantLimits::default() }));
    let expected = TenantLimits { memory_bytes: Some(1 << 30), pids: Some(90), ..TenantLimits::default() };
    assert_eq!(host.quotas[&acme()], expected);
    host.quotas.clear();
    host.restart_supervisor();
    host.quiesce();
    assert_eq!(host.quotas[&acme()], expected);
    assert_eq!(host.quotas[&tenant()].modules, Some(50));
    let bad = TenantLimits { memory_bytes: Some(5), ..TenantLimits::default() };
    let refused = host.ask(limits(&acme(), bad)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Invalid);
    assert!(refused.message.contains("memory_bytes = 5") && refused.remedy.is_some(), "{refused:?}");
}

#[test]
fn what_would_go_beyond_a_limit_is_refused_before_anything_is_started() {
    let mut host = Host::new();
    let at_most = TenantLimits {
        modules: Some(2),
        workers: Some(3),
        memory_bytes: Some(100 << 20),
        services: Some(1),
        ..TenantLimits::default()
    };
    host.done(add(at_most));
    install(&mut host, sized(module("site", 1).times(2).serving("site"), 20 << 20)).unwrap();
    install(&mut host, sized(module("site", 2).times(2).serving("site"), 20 << 20)).unwrap();
    install(&mut host, sized(module("large", 1).serving("large"), 64 << 20)).unwrap();
    quota(
        install(&mut host, module("third", 1)).unwrap_err(),
        &["modules = 2", "it has 2", "tenant set acme modules=3"],
    );
    host.done(of_acme(start_version("site", 1)));
    assert_eq!(
        used(&host, &acme()),
        TenantUse { modules: 2, workers: 2, memory_bytes: 40 << 20, ..TenantUse::default() }
    );
    quota(host.ask(of_acme(start("large"))).unwrap_err(), &["memory = 100M", "it has 40M", "64M more", "memory=104M"]);
    quota(host.ask(of_acme(swap("site", 2))).unwrap_err(), &["workers = 3", "it has 2", "swap asks for 2 more"]);
    quota(host.ask(of_acme(restart("site"))).unwrap_err(), &["workers = 3"]);
    quota(host.ask(of_acme(beside("site", 2))).unwrap_err(), &["workers = 3"]);
    quota(host.ask(of_acme(scale("site", 4))).unwrap_err(), &["workers = 3", "scale asks for 2 more"]);
    assert_eq!(host.processes.len(), 2, "nothing was started");
    // Whatever needs nothing more goes on.
    host.done(of_acme(scale("site", 1)));
    host.done(of_acme(swap("site", 2)));
    host.done(of_acme(publish("site")));
    quota(host.ask(of_acme(publish("large"))).unwrap_err(), &["services = 1", "it has 1"]);
    host.done(of_acme(publish("site")));
    host.done(of_acme(start("site")));
    // Below what it has: nothing of that is taken away.
    host.done(limits(&acme(), TenantLimits { workers: Some(0), ..TenantLimits::default() }));
    assert_eq!(host.processes.len(), 1);
    assert_eq!(host.ask(of_acme(scale("site", 2))).unwrap_err().code, ErrorCode::Quota);
    host.done(of_acme(stop("site")));
    quota(host.ask(of_acme(start("site"))).unwrap_err(), &["workers = 0", "it has 0"]);
}

#[test]
fn two_requests_at_once_do_not_share_the_last_place() {
    let mut host = Host::new();
    host.done(add(TenantLimits { workers: Some(1), modules: Some(2), ..TenantLimits::default() }));
    for text in ["a", "b"] {
        install(&mut host, module(text, 1)).unwrap();
    }
    host.submit("first", of_acme(start("a")));
    let second = host.submit("second", of_acme(start("b")));
    host.deliver_all();
    let refused = host.answers.remove(&second).unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Quota, "{refused:?}");
}

#[test]
fn a_version_that_is_kept_frozen_counts_and_makes_room_for_the_next() {
    let mut host = Host::new();
    host.done(add(TenantLimits { workers: Some(2), ..TenantLimits::default() }));
    for major in 1..=3 {
        install(&mut host, module("site", major)).unwrap();
    }
    install(&mut host, module("other", 1)).unwrap();
    host.done(of_acme(start_version("site", 1)));
    host.done(of_acme(swap_and_keep("site", 2)));
    assert_eq!(used(&host, &acme()).workers, 2);
    assert_eq!(host.ask(of_acme(start("other"))).unwrap_err().code, ErrorCode::Quota);
    host.done(of_acme(swap_and_keep("site", 3)));
    host.done(of_acme(rollback("site")));
    host.done(of_acme(discard("site")));
    host.done(of_acme(start("other")));
}

#[test]
fn a_caller_beyond_its_tenants_channels_waits_and_goes_on_when_there_is_room() {
    let mut host = running_platform();
    let before = used(&host, &tenant()).channels;
    assert!(before > 0);
    let at_most = TenantLimits { channels: Some(u32::try_from(before).unwrap()), ..TenantLimits::default() };
    host.done(limits(&tenant(), at_most));
    host.install(module("late", 1).calling("spell").package());
    host.done(start("late"));
    assert_eq!(used(&host, &tenant()).channels, before);
    assert_eq!(host.told.iter().filter(|it| it.contains("may have channels")).count(), 1, "it is told once");
    host.done(stop("site"));
    let late = host.worker("late");
    let again = host.timers.keys().find(|it| matches!(it, Timer::Connect { caller, .. } if *caller == late));
    let again = again.cloned().expect("it is tried again");
    host.due(&again);
    host.deliver_all();
    let routes = &host.processes[&late].routes;
    assert!(routes.iter().any(|it| it.service == service("spell") && !it.targets.is_empty()), "{routes:?}");
    assert!(used(&host, &tenant()).channels <= before);
}

#[test]
fn the_supervisors_death_at_any_moment_leaves_the_old_limits_or_the_new() {
    let mut moment = 0;
    loop {
        let mut host = Host::new();
        host.done(add(TenantLimits { pids: Some(1), ..TenantLimits::default() }));
        let id = crate::api::OperationId("set".to_owned());
        host.submit(&id.0, limits(&acme(), TenantLimits { pids: Some(2), ..TenantLimits::default() }));
        let delivered = (0..moment).take_while(|_| host.deliver()).count();
        let accepted = host.on_disk(&id).is_some();
        host.restart_supervisor();
        host.quiesce();
        assert_eq!(host.quotas[&acme()].pids, Some(if accepted { 2 } else { 1 }), "after {moment} events");
        assert_eq!(host.on_disk(&id).map(|it| it.state), accepted.then_some(OperationState::Done));
        if delivered < moment {
            break;
        }
        moment += 1;
    }
    assert!(moment > 1, "{moment}");
}

#[test]
fn limits_that_the_kernel_does_not_take_are_tried_again_until_it_does() {
    let mut host = Host::new();
    host.done(add(TenantLimits::default()));
    host.quota_fails = 2;
    let pids = TenantLimits { pids: Some(9), ..TenantLimits::default() };
    host.done(limits(&acme(), pids));
    assert_ne!(host.quotas[&acme()], pids);
    let told = |host: &Host, what: &str| host.told.iter().filter(|it| it.contains(what)).count();
    for again in 0..2 {
        assert_eq!((told(&host, "device or resource busy"), told(&host, "enforces the quota")), (1, 0), "{again}");
        host.due(&Timer::Quota(acme()));
        host.deliver_all();
    }
    assert_eq!((host.quotas[&acme()], told(&host, "enforces the quota")), (pids, 1));
    assert!(!host.timers.contains_key(&Timer::Quota(acme())));
    // A successor asks as well.
    host.quota_fails = 1;
    host.restart_supervisor();
    host.deliver_all();
    host.due(&Timer::Quota(acme()));
    host.deliver_all();
    assert_eq!((told(&host, "device or resource busy"), told(&host, "enforces the quota")), (2, 2));
}
