//! A replaced version that is kept: frozen, put in charge again, ended.

use super::host::Host;
use super::platform::running_platform;
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, OperationId, OperationState, Request, WorkerState};
use crate::lifecycle::{ExitStatus, Timer};

/// spell and site have a second version; spell runs it, and the first is kept.
fn kept() -> Host {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").calling("helper").package());
    host.install(module("site", 2).offering("site", "/").calling("spell").package());
    let receipt = host.done(swap_and_keep("spell", 2)).receipt.unwrap();
    assert_eq!((receipt.workers, receipt.frozen, receipt.frozen_bytes), (0, 1, 2000), "{receipt:?}");
    assert!(receipt.frozen_until.is_some());
    host
}

fn keep_timer(host: &Host) -> Timer {
    host.timers.keys().find(|it| matches!(it, Timer::Keep { .. })).expect("a time is set").clone()
}

fn shown(host: &Host, module: &str, major: u64) -> Option<WorkerState> {
    let status = host.state.snapshot().modules.into_iter().find(|it| it.module.as_str() == module).unwrap();
    let worker = status.workers.iter().find(|it| it.version == version(major) && it.pid.is_some())?;
    assert_eq!(worker.kept.is_some(), worker.state == WorkerState::Frozen);
    Some(worker.state)
}

fn frozen(host: &Host) -> usize {
    host.processes.values().filter(|it| it.frozen).count()
}

#[test]
fn a_rollback_puts_the_same_worker_in_charge_again_and_keeps_the_other() {
    let mut host = kept();
    let first = host.processes.values().find(|it| it.frozen).unwrap().order.worker;
    let site = host.worker("site");
    assert_eq!((frozen(&host), shown(&host, "spell", 1)), (1, Some(WorkerState::Frozen)));
    for (major, other) in [(1, 2), (2, 1), (1, 2)] {
        let spawned = host.groups.len();
        let operation = host.done(rollback("spell"));
        let steps: Vec<&str> = operation.steps.iter().map(|it| it.step.as_str()).collect();
        assert_eq!(steps, ["accept", "thaw", "ready", "commit", "flip", "drain", "freeze"], "{operation:?}");
        let frost = shown(&host, "spell", other);
        assert_eq!((frost, host.groups.len()), (Some(WorkerState::Frozen), spawned), "nobody was started");
        assert_eq!(shown(&host, "spell", major), Some(WorkerState::Published));
        let serving = host.processes.values().find(|it| !it.frozen && it.order.key == key("spell")).unwrap();
        let serving = serving.order.worker;
        assert_eq!(serving == first, major == 1);
        assert!(host.reaches(site, "spell", serving));
    }
}

#[test]
fn an_http_worker_is_kept_too() {
    let mut host = kept();
    let first = host.worker("site");
    host.done(swap_and_keep("site", 2));
    assert!(!host.http_reaches(first) && host.processes[&first].frozen);
    host.done(rollback("site"));
    assert!(host.http_reaches(first) && !host.processes[&first].frozen);
}

#[test]
fn its_time_over_it_ends_by_an_operation_with_a_receipt() {
    let mut host = kept();
    let timer = keep_timer(&host);
    host.due(&timer);
    let discarded = host.finished.values().find(|it| matches!(it.request, Request::Discard { .. })).unwrap();
    assert_eq!(discarded.state, OperationState::Done);
    let receipt = discarded.receipt.as_ref().unwrap();
    assert_eq!((receipt.workers, receipt.cgroups_removed, receipt.memory_bytes), (1, 1, 1000));
    assert_eq!((frozen(&host), shown(&host, "spell", 1)), (0, None));
    let refused = host.ask(rollback("spell")).unwrap_err();
    assert!(refused.message.contains("nothing of default/spell is kept") && refused.message.contains("1.0.0"));
}

#[test]
fn its_time_waits_for_an_operation_that_has_the_module_and_for_the_disk() {
    let mut host = kept();
    let timer = keep_timer(&host);
    host.store_fails = 3;
    host.due(&timer);
    assert_eq!(frozen(&host), 1, "what is not on disk has not happened");
    host.store_fails = 0;
    while frozen(&host) > 0 {
        assert!(host.tick(), "it is asked for again");
        host.deliver_all();
    }
    let mut host = kept();
    let (timer, spell) = (keep_timer(&host), host.processes.keys().copied().collect::<Vec<_>>());
    host.submit("busy", unpublish("spell"));
    host.due(&timer);
    assert_eq!((frozen(&host), host.finished[&OperationId("busy".to_owned())].state), (0, OperationState::Done));
    assert!(host.processes.keys().all(|it| spell.contains(it)));
}

#[test]
fn stop_discard_and_another_swap_end_what_is_kept() {
    for (request, left) in
        [(stop("spell"), 0), (discard("spell"), 1), (swap_and_keep("spell", 1), 2), (restart("spell"), 1)]
    {
        let mut host = kept();
        let before: Vec<_> = host.processes.iter().filter(|(_, it)| it.frozen).map(|(it, _)| *it).collect();
        host.done(request.clone());
        assert!(before.iter().all(|it| !host.processes.contains_key(it)), "{request:?}");
        let workers = host.processes.values().filter(|it| it.order.key == key("spell")).count();
        assert_eq!(workers, left, "{request:?}");
    }
}

#[test]
fn a_third_generation_comes_when_the_first_is_gone() {
    let mut host = kept();
    host.submit("swap", swap_and_keep("spell", 1));
    loop {
        let generations = host.processes.values().filter(|it| it.order.key == key("spell")).count();
        assert!(generations <= 2);
        if !host.deliver() {
            break;
        }
    }
    assert_eq!(host.finished[&OperationId("swap".to_owned())].state, OperationState::Done);
}

#[test]
fn a_frozen_worker_that_dies_is_let_go_and_a_rollback_says_so() {
    let mut host = kept();
    let worker = host.processes.values().find(|it| it.frozen).unwrap().order.worker;
    host.exit(worker, ExitStatus::Signal(9));
    host.deliver_all();
    assert!(!host.groups.contains(&worker));
    let refused = host.ask(rollback("spell")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    host.done(swap("spell", 1));
}

#[test]
fn a_thawed_worker_that_is_not_well_leaves_the_other_in_charge() {
    for vice in [Vice::Mute, Vice::Unwell, Vice::NeverThawed] {
        let mut host = kept();
        let old = host.processes.values().find(|it| it.frozen).unwrap().order.worker;
        host.processes.get_mut(&old).unwrap().vices.insert(vice);
        let (site, new) = (
            host.worker("site"),
            host.processes.values().find(|it| !it.frozen && it.order.key == key("spell")).unwrap().order.worker,
        );
        host.submit("rollback", rollback("spell"));
        host.deliver_all();
        assert!(host.reaches(site, "spell", new), "{vice:?}");
        let id = OperationId("rollback".to_owned());
        while !host.finished.contains_key(&id) {
            assert!(host.tick(), "{vice:?}");
            host.deliver_all();
        }
        assert!(host.finished[&id].error.as_ref().unwrap().message.contains("rolled back"), "{vice:?}");
        assert!(host.reaches(site, "spell", new) && !host.processes.contains_key(&old), "{vice:?}");
    }
}

#[test]
fn a_publish_does_not_wait_for_a_caller_that_is_kept() {
    let mut host = kept();
    host.install(module("helper", 1).serving("helper").package());
    host.done(start("helper"));
    host.done(swap_and_keep("spell", 1));
    host.done(publish("helper"));
    let callers = host.processes.values().filter(|it| it.order.spec.requires.contains(&service("helper")));
    assert!(callers.into_iter().all(|it| it.frozen && it.channels.is_empty()));
    host.done(rollback("spell"));
    assert!(host.reaches(
        host.ready("spell").into_iter().find(|it| !host.processes[it].frozen).unwrap(),
        "helper",
        host.worker("helper")
    ));
}

#[test]
fn what_cannot_be_frozen_ends() {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").package());
    let old = host.worker("spell");
    host.processes.get_mut(&old).unwrap().vices.insert(Vice::NeverFrozen);
    let receipt = host.done(swap_and_keep("spell", 2)).receipt.unwrap();
    assert_eq!((receipt.workers, receipt.frozen), (1, 0));
    assert!(!host.processes.contains_key(&old));
}

#[test]
fn a_base_and_resources_are_not_kept() {
    let mut host = running_platform();
    host.install(module("base", 2).base().calling("spell").package());
    host.install(module("words", 2).holding("words").package());
    for module in ["base", "words"] {
        let refused = host.ask(swap_and_keep(module, 2)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid, "{refused:?}");
    }
    let mut request = swap_and_keep("spell", 1);
    if let Request::Swap { keep_ms, .. } = &mut request {
        *keep_ms = Some(25 * 60 * 60 * 1000);
    }
    assert!(host.ask(request).unwrap_err().message.contains("keep_ms = 90000000"));
}

#[test]
fn its_module_toml_says_how_long_it_is_kept() {
    let mut host = running_platform();
    let mut spec = module("spell", 2).serving("spell").mapping("words");
    spec.keep = std::time::Duration::from_secs(60);
    host.install(spec.package());
    assert_eq!(host.done(swap("spell", 2)).receipt.unwrap().frozen, 0, "the version that goes does not say so");
    assert_eq!(host.done(swap("spell", 1)).receipt.unwrap().frozen, 1);
    let mut request = rollback("spell");
    if let Request::Rollback { keep_ms, .. } = &mut request {
        *keep_ms = None;
    }
    let receipt = host.done(request).receipt.unwrap();
    assert_eq!((receipt.frozen, receipt.workers), (0, 1), "version 1 does not say so");
}

#[test]
fn a_successor_of_the_supervisor_knows_what_is_frozen_without_hearing_it() {
    let mut host = kept();
    host.restart_supervisor();
    host.deliver_all();
    assert_eq!((frozen(&host), shown(&host, "spell", 1)), (1, Some(WorkerState::Frozen)));
    let frozen_worker = host.processes.values().find(|it| it.frozen).unwrap().order.worker;
    assert!(!host.timers.contains_key(&Timer::Reconnect(frozen_worker)), "it is not expected to connect");
    let timer = keep_timer(&host);
    host.done(rollback("spell"));
    assert_eq!(shown(&host, "spell", 1), Some(WorkerState::Published));
    host.due(&timer);
    assert_eq!(frozen(&host), 1, "the time of an earlier life is not that of another version");
}

#[test]
fn the_supervisors_death_at_any_moment_of_a_rollback_ends_in_one_version_serving() {
    let mut moment = 0;
    loop {
        let mut host = kept();
        host.submit("rollback", rollback("spell"));
        let delivered = (0..moment).take_while(|_| host.deliver()).count();
        let accepted = host.on_disk(&OperationId("rollback".to_owned())).is_some();
        host.restart_supervisor();
        host.deliver_all();
        let site = host.worker("site");
        let serving: Vec<_> = host
            .processes
            .values()
            .filter(|it| it.order.key == key("spell") && host.reaches(site, "spell", it.order.worker))
            .collect();
        assert_eq!(serving.len(), 1, "after {moment} events");
        let expected = if accepted { version(1) } else { version(2) };
        assert_eq!(serving[0].order.spec.version, expected, "after {moment} events");
        assert_eq!(
            frozen(&host),
            1,
            "after {moment} events: {:#?}",
            host.log.iter().rev().take(40).collect::<Vec<_>>()
        );
        let state = host.on_disk(&OperationId("rollback".to_owned())).map(|it| it.state);
        assert_eq!(state, accepted.then_some(OperationState::Done), "after {moment} events");
        if delivered < moment {
            break;
        }
        moment += 1;
    }
    assert!(moment > 10, "{moment}");
}
