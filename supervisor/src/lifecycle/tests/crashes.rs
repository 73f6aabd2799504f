//! Workers that end, hang or fail, and what becomes of them.

use std::time::Duration;

use super::host::Host;
use super::platform::{platform, running_platform};
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, WorkerState};
use crate::lifecycle::{ExitStatus, Health, RestartPolicy, Timer};

fn state_of(host: &Host, module: &str) -> (WorkerState, String) {
    let snapshot = host.state.snapshot();
    let module = snapshot.modules.iter().find(|it| it.module.as_str() == module).unwrap();
    let worker = &module.workers[0];
    (worker.state, worker.reason.clone().unwrap_or_default())
}

#[test]
fn a_crashed_worker_comes_back_in_its_slot_and_is_called_again() {
    let mut host = running_platform();
    let (site, old) = (host.worker("site"), host.worker("spell"));
    host.exit(old, ExitStatus::Signal(11));
    host.deliver_all();
    let (state, reason) = state_of(&host, "spell");
    assert_eq!(state, WorkerState::Backoff);
    assert!(reason.contains("signal 11") && reason.contains("last words"), "{reason}");
    let pause = host.timers[&Timer::Backoff(old)].since(host.now);
    assert!((Duration::from_millis(50)..=Duration::from_millis(100)).contains(&pause), "{pause:?}");
    host.due(&Timer::Backoff(old));
    let new = host.worker("spell");
    assert_eq!((new.slot, new.generation), (old.slot, old.generation + 1));
    assert!(host.reaches(site, "spell", new));
}

#[test]
fn a_crash_loop_ends_as_failed_with_its_reason_and_stays_so_over_a_restart() {
    let mut host = running_platform();
    host.vice("spell", 1, &[Vice::Crashes]);
    host.exit(host.worker("spell"), ExitStatus::Code(3));
    host.quiesce();
    let (state, reason) = state_of(&host, "spell");
    assert_eq!(state, WorkerState::Failed);
    assert!(reason.contains("3 times in a row") && reason.contains("exit status 3"), "{reason}");
    host.restart_supervisor();
    host.quiesce();
    assert_eq!(state_of(&host, "spell"), (state, reason), "it is not started again, and the reason is kept");
    host.vice("spell", 1, &[]);
    host.done(start("spell"));
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn a_host_that_lacks_something_for_a_start_is_waited_for_however_long_it_takes() {
    let mut host = running_platform();
    (host.spawn_fails, host.short) = (20, true);
    host.exit(host.worker("spell"), ExitStatus::Code(3));
    host.quiesce();
    assert_eq!(host.spawn_fails, 0, "each was tried");
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
    // Whatever else keeps it from being started is not.
    (host.spawn_fails, host.short) = (20, false);
    host.exit(host.worker("spell"), ExitStatus::Code(3));
    host.quiesce();
    assert_eq!(state_of(&host, "spell").0, WorkerState::Failed);
}

#[test]
fn failures_are_forgotten_by_who_has_run_long_enough() {
    let mut host = running_platform();
    for _ in 0..5 {
        let worker = host.worker("spell");
        host.exit(worker, ExitStatus::Code(3));
        host.deliver_all();
        host.due(&Timer::Backoff(worker));
        host.due(&Timer::Stable(host.worker("spell")));
    }
    assert_eq!(host.ready("spell").len(), 1);
}

#[test]
fn a_start_fails_with_the_first_worker_that_does_and_says_why() {
    let mut host = platform();
    host.vice("site", 1, &[Vice::Crashes]);
    let operation = host.ask(start("site")).unwrap();
    let error = operation.error.unwrap();
    assert_eq!(error.code, ErrorCode::Failed);
    assert!(error.message.contains("exit status 3") && error.message.contains("last words"), "{error:?}");
    host.vice("site", 1, &[]);
    host.quiesce();
    assert_eq!(host.ready("site").len(), 1, "it is wanted, so it was tried again");
}

#[test]
fn who_is_not_ready_in_time_is_killed() {
    let mut host = platform();
    host.vice("site", 1, &[Vice::NeverReady]);
    let ticket = host.submit("slow", start("site"));
    host.deliver_all();
    assert!(host.answers.remove(&ticket).unwrap().is_ok());
    let worker = *host.processes.keys().next().unwrap();
    host.due(&Timer::Ready(worker));
    let operation = &host.finished[&crate::api::OperationId("slow".to_owned())];
    assert!(operation.error.as_ref().unwrap().message.contains("not ready within 10s"), "{operation:#?}");
}

#[test]
fn a_restart_policy_is_kept_also_over_a_restart_of_the_supervisor() {
    let mut host = Host::new();
    for (name, policy) in [("never", RestartPolicy::Never), ("failure", RestartPolicy::OnFailure)] {
        let mut spec = module(name, 1);
        spec.restart = policy;
        host.install(spec.package());
        host.done(start(name));
        host.exit(host.worker(name), ExitStatus::Code(0));
        host.deliver_all();
        assert_eq!(state_of(&host, name).0, WorkerState::Exited);
    }
    host.done(start("never"));
    host.exit(host.worker("never"), ExitStatus::Code(1));
    host.quiesce();
    host.restart_supervisor();
    host.quiesce();
    assert!(host.processes.is_empty());
    assert_eq!(state_of(&host, "never").0, WorkerState::Failed);
    assert_eq!(state_of(&host, "failure").0, WorkerState::Exited);
}

#[test]
fn an_unhealthy_worker_is_killed_after_so_many_bad_answers() {
    for vice in [Vice::Mute, Vice::Unwell] {
        let mut host = Host::new();
        let mut spec = module("sick", 1);
        spec.health = Some(Health { interval: Duration::from_secs(5), timeout: Duration::from_secs(1), failures: 2 });
        host.install(spec.package());
        host.done(start("sick"));
        let worker = host.worker("sick");
        host.due(&Timer::Ping(worker));
        assert!(host.processes.contains_key(&worker), "a good answer");
        host.processes.get_mut(&worker).unwrap().vices.insert(vice);
        for _ in 0..2 {
            host.due(&Timer::Ping(worker));
            let missing = host.timers.keys().find(|it| matches!(it, Timer::Pong { .. })).cloned().unwrap();
            host.due(&missing);
        }
        assert!(!host.processes.contains_key(&worker), "{vice:?}");
        assert!(state_of(&host, "sick").1.contains("unhealthy"));
    }
}

#[test]
fn who_does_not_drain_or_end_is_killed_at_its_deadline() {
    for (vice, reason) in [(Vice::IgnoresDrain, "did not drain"), (Vice::IgnoresTerm, "did not end")] {
        let mut host = running_platform();
        let worker = host.worker("spell");
        host.processes.get_mut(&worker).unwrap().vices.insert(vice);
        host.submit("stop", stop("spell"));
        host.deliver_all();
        assert!(host.processes.contains_key(&worker));
        let timer = if vice == Vice::IgnoresDrain { Timer::Drain(worker) } else { Timer::Stop(worker) };
        host.due(&timer);
        let stopped = &host.finished[&crate::api::OperationId("stop".to_owned())];
        assert_eq!(stopped.receipt.as_ref().unwrap().workers, 1);
        let spell = host.state.snapshot().modules.into_iter().find(|it| it.module.as_str() == "spell").unwrap();
        assert!(spell.workers[0].reason.as_ref().unwrap().contains(reason), "{spell:?}");
    }
}

#[test]
fn a_receipt_names_who_still_maps_what_a_stopped_worker_wrote() {
    let mut host = running_platform();
    let site = host.worker("site");
    host.processes.get_mut(&site).unwrap().vices.insert(Vice::KeepsChannels);
    let id = crate::api::OperationId("stop".to_owned());
    host.submit("stop", stop("spell"));
    host.deliver_all();
    assert!(!host.finished.contains_key(&id));
    host.due(&Timer::Receipt(id.clone()));
    let held = &host.finished[&id].receipt.as_ref().unwrap().still_held;
    assert!(held.len() == 1 && held[0].contains("default/site"), "{held:?}");
    let (channel, _) = host.state.channels.first_key_value().unwrap();
    host.due(&Timer::CallerReleased(*channel));
    assert!(!host.processes.contains_key(&site), "and it is killed in the end");
}

#[test]
fn a_resource_that_cannot_be_loaded_fails_its_start_and_is_tried_again() {
    let mut host = platform();
    host.load_fails = 2;
    let error = host.ask(start("words")).unwrap().error.unwrap();
    assert!(error.message.contains("no memory"), "{error:?}");
    let error = host.ask(start("spell")).unwrap().error.unwrap();
    assert!(error.message.contains("words"), "{error:?}");
    host.quiesce();
    assert_eq!((host.loaded.len(), host.ready("spell").len()), (1, 1));
}

#[test]
fn a_channel_that_cannot_be_made_is_tried_again() {
    let mut host = running_platform();
    host.done(unpublish("spell"));
    host.channel_fails = 2;
    host.done(publish("spell"));
    assert!(!host.reaches(host.worker("site"), "spell", host.worker("spell")));
    host.quiesce();
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn a_group_that_is_busy_is_removed_later_and_its_slot_stays_taken() {
    let mut host = running_platform();
    host.busy_groups = 3;
    host.submit("stop", stop("spell"));
    host.deliver_all();
    assert_eq!(host.groups.len(), 3, "not removed yet");
    host.quiesce();
    assert_eq!(host.groups.len(), 2);
}

#[test]
fn a_crashed_worker_whose_group_is_busy_says_so_and_comes_back_when_it_is_gone() {
    let mut host = running_platform();
    let (site, old) = (host.worker("site"), host.worker("spell"));
    host.busy_groups = 2;
    host.exit(old, ExitStatus::Code(3));
    host.deliver_all();
    let (state, reason) = state_of(&host, "spell");
    assert_eq!(state, WorkerState::Backoff);
    assert!(reason.contains("could not be removed yet (1 processes)"), "{reason}");
    host.due(&Timer::Remove(old));
    host.due(&Timer::Remove(old));
    let (_, reason) = state_of(&host, "spell");
    assert!(reason.contains("exit status 3"), "{reason}");
    host.due(&Timer::Backoff(old));
    assert!(host.reaches(site, "spell", host.worker("spell")));
}
