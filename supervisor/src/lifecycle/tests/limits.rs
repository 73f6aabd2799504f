//! Limits said for a module: for the workers that run and those that come, below what they use only with consent.

use std::collections::BTreeSet;

use super::host::Host;
use super::world::*;
use crate::api::{
    ErrorCode, LimitsStatus, ModuleLimit, ModuleLimits, OperationId, OperationState, Request, TenantLimits,
};
use crate::lifecycle::ExitStatus;

const MIB: u64 = 1 << 20;

fn memory(mib: u64) -> ModuleLimits {
    ModuleLimits { memory_bytes: Some(mib * MIB), ..ModuleLimits::default() }
}

fn limits(module: &str, limits: ModuleLimits, force: bool) -> Request {
    Request::SetLimits { tenant: tenant(), module: name(module), limits, lift: BTreeSet::new(), force }
}

fn lift(module: &str, limit: ModuleLimit) -> Request {
    let (limits, lift) = (ModuleLimits::default(), BTreeSet::from([limit]));
    Request::SetLimits { tenant: tenant(), module: name(module), limits, lift, force: false }
}

/// Two workers of `many` with 100 MiB each, and another version on disk.
fn two() -> Host {
    let mut host = Host::new();
    for major in [1, 2] {
        let mut many = module("many", major).serving("many").times(2);
        many.limits = LimitsStatus { memory_bytes: Some(100 * MIB), cpu: Some(1.0), pids: Some(64) };
        host.install(many.package());
    }
    host.done(start_version("many", 1));
    host
}

/// What the kernel was told for the workers that run.
fn kept(host: &Host) -> Vec<ModuleLimits> {
    host.ready("many").iter().map(|it| host.limits[it]).collect()
}

#[test]
fn they_hold_for_those_that_run_those_that_come_and_every_version_until_they_are_lifted() {
    let mut host = two();
    let workers = host.ready("many");
    let said = ModuleLimits { cpu_milli: Some(250), ..memory(200) };
    host.done(limits("many", said, false));
    assert_eq!((host.ready("many"), kept(&host)), (workers.clone(), vec![said; 2]), "nobody is started anew");
    let shown = host.state.snapshot();
    let status = shown.modules.iter().find(|it| it.module.as_str() == "many").unwrap();
    assert_eq!(status.limits, said);
    for worker in &status.workers {
        let shown = LimitsStatus { memory_bytes: Some(200 * MIB), cpu: Some(0.25), pids: Some(64) };
        assert_eq!(worker.limits, shown);
    }
    // One that crashes, one more, and those of another version.
    host.exit(workers[0], ExitStatus::Signal(11));
    host.quiesce();
    host.done(scale("many", 3));
    assert_eq!(kept(&host), [said; 3]);
    host.done(swap("many", 2));
    assert_eq!(kept(&host), [said; 3]);
    host.restart_supervisor();
    host.quiesce();
    host.done(lift("many", ModuleLimit::Cpu));
    assert_eq!(kept(&host), [memory(200); 3]);
    host.done(lift("many", ModuleLimit::Memory));
    assert_eq!(kept(&host), [ModuleLimits::default(); 3]);
}

#[test]
fn less_than_a_worker_uses_is_refused_without_consent_and_nothing_has_changed() {
    let mut host = two();
    let workers = host.ready("many");
    host.memory = vec![(workers[0], 10 * MIB), (workers[1], 90 * MIB)];
    let refused = host.ask(limits("many", memory(80), false)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    let (message, remedy) = (refused.message, refused.remedy.unwrap());
    assert!(message.contains("80M") && message.contains(&format!("worker {} uses 90M", workers[1])), "{message}");
    assert!(!message.contains(&format!("worker {} uses", workers[0])), "{message}");
    assert!(remedy.contains("--force") && remedy.contains("killed"), "{remedy}");
    assert_eq!(kept(&host), [ModuleLimits::default(); 2]);
    // More than it uses, and whatever is not less memory.
    host.done(limits("many", memory(95), false));
    host.memory = vec![(workers[1], 99 * MIB)];
    host.done(limits("many", ModuleLimits { pids: Some(9), ..ModuleLimits::default() }, false));
    host.done(limits("many", memory(98), false));
    assert_eq!(host.ready("many"), workers);
}

#[test]
fn with_consent_a_worker_that_does_not_fit_is_ended_and_starts_within_them() {
    let mut host = two();
    let workers = host.ready("many");
    host.memory = vec![(workers[1], 90 * MIB)];
    host.too_large.insert(workers[1]);
    let done = host.done(limits("many", memory(80), true));
    assert_eq!(done.state, OperationState::Done);
    host.quiesce();
    let now = host.ready("many");
    assert!(now.contains(&workers[0]) && !now.contains(&workers[1]) && now.len() == 2, "{now:?}");
    assert_eq!(kept(&host), [memory(80); 2]);
}

#[test]
fn what_the_kernel_does_not_keep_fails_without_consent_and_ends_nobody() {
    let mut host = two();
    let workers = host.ready("many");
    // It grew between the look and the deed.
    host.too_large.insert(workers[1]);
    let failed = host.ask(limits("many", memory(80), false)).unwrap();
    assert_eq!(failed.state, OperationState::Failed);
    let error = failed.error.unwrap();
    assert!(error.message.contains(&format!("worker {}", workers[1])), "{error:?}");
    assert!(error.message.contains("EBUSY") && error.remedy.unwrap().contains("restart"));
    assert_eq!(host.ready("many"), workers);
    host.too_large.clear();
    host.done(restart("many"));
    assert_eq!(kept(&host), [memory(80); 2]);
}

#[test]
fn the_supervisors_death_at_any_moment_leaves_the_old_limits_or_the_new() {
    let mut told_before = BTreeSet::new();
    for moment in 0.. {
        let mut host = two();
        let id = OperationId("set".to_owned());
        host.submit(&id.0, limits("many", memory(200), false));
        let delivered = (0..moment).take_while(|_| host.deliver()).count();
        let accepted = host.on_disk(&id).is_some();
        told_before.insert(kept(&host) == [memory(200); 2]);
        host.restart_supervisor();
        host.quiesce();
        let expected = if accepted { memory(200) } else { ModuleLimits::default() };
        assert_eq!(kept(&host), [expected; 2], "after {moment} events");
        assert_eq!(host.on_disk(&id).map(|it| it.state), accepted.then_some(OperationState::Done));
        if delivered < moment {
            break;
        }
    }
    assert_eq!(told_before.len(), 2, "it died before the kernel was told, and after it");
}

#[test]
fn what_cannot_be_a_limit_names_field_value_and_range() {
    let mut host = two();
    for (bad, field) in [
        (memory(1), "memory_bytes = 1048576"),
        (ModuleLimits { cpu_milli: Some(1), ..ModuleLimits::default() }, "cpu_milli = 1"),
        (ModuleLimits { pids: Some(1), ..ModuleLimits::default() }, "pids = 1"),
        (ModuleLimits { io_weight: Some(0), ..ModuleLimits::default() }, "io_weight = 0"),
        (ModuleLimits::default(), "no limit is named"),
    ] {
        let refused = host.ask(limits("many", bad, true)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid);
        assert!(refused.message.contains(field) && refused.remedy.is_some(), "{refused:?}");
    }
    assert_eq!(host.ask(limits("nobody", memory(80), true)).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(kept(&host), [ModuleLimits::default(); 2]);
}

#[test]
fn a_tenant_cannot_give_its_modules_more_than_it_has() {
    let mut host = two();
    let most = TenantLimits { memory_bytes: Some(300 * MIB), ..TenantLimits::default() };
    host.done(Request::SetTenant { tenant: tenant(), limits: most, lift: BTreeSet::new() });
    host.done(limits("many", memory(150), false));
    let refused = host.ask(limits("many", memory(151), false)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Quota);
    assert!(refused.message.contains("memory = 300M"), "{refused:?}");
    // Smaller ones leave room for another.
    host.done(limits("many", memory(100), false));
    host.done(scale("many", 3));
    assert_eq!(host.ask(scale("many", 4)).unwrap_err().code, ErrorCode::Quota);
}
