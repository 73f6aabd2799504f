//! Hot swaps: nothing is lost, and before the commit nothing is changed.

use mortise_control::WorkerId;

use super::host::{Host, Source};
use super::platform::running_platform;
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, OperationId, OperationState};
use crate::lifecycle::operation::Stage;
use crate::lifecycle::step::Step;
use crate::lifecycle::{Event, ExitStatus, Timer};

fn with_second_versions(mut host: Host) -> Host {
    host.install(module("spell", 2).serving("spell").mapping("words").package());
    host.install(module("site", 2).offering("site", "/").calling("spell").package());
    host
}

/// A caller's next call finds a worker that answers.
fn check_served(host: &Host, caller: WorkerId) {
    let served = host.processes.values().filter(|it| it.order.key.module.as_str() == "spell");
    let served = served.map(|it| it.order.worker).any(|it| host.reaches(caller, "spell", it));
    assert!(served, "no worker answers: {:#?}", host.log.iter().rev().take(20).collect::<Vec<_>>());
    let sites = host.processes.values().filter(|it| it.order.key.module.as_str() == "site");
    assert!(sites.map(|it| it.order.worker).any(|it| host.http_reaches(it)), "the ingress reaches nobody");
}

#[test]
fn at_every_moment_of_a_swap_somebody_answers() {
    for seed in 0..40 {
        let mut host = with_second_versions(running_platform());
        host.random = true;
        host.chance = super::chance::Chance::new(seed);
        let caller = host.worker("base");
        for (round, major) in [2, 1, 2].into_iter().enumerate() {
            host.submit(&format!("spell-{round}"), swap("spell", major));
            host.submit(&format!("site-{round}"), swap("site", major));
            while host.deliver() {
                check_served(&host, caller);
            }
        }
        assert!(host.finished.values().all(|it| it.state == OperationState::Done));
        assert_eq!(host.processes.len(), 3);
    }
}

#[test]
fn a_version_that_does_not_get_ready_leaves_the_old_one_serving_and_says_why() {
    for vice in [Vice::Crashes, Vice::Leaves, Vice::WrongServices] {
        let mut host = with_second_versions(running_platform());
        let (site, old) = (host.worker("site"), host.worker("spell"));
        host.vice("spell", 2, &[vice]);
        let failed = host.ask(swap("spell", 2)).unwrap();
        let error = failed.error.unwrap();
        assert!(error.message.contains("rolled back") && error.message.contains("ended"), "{error:?}");
        assert_eq!(host.worker("spell"), old);
        assert!(host.reaches(site, "spell", old));
        assert_eq!(host.processes.len(), 3, "nothing of the new version is left");
        host.vice("spell", 2, &[]);
        host.done(swap("spell", 2));
    }
}

#[test]
fn a_commit_that_does_not_reach_the_disk_rolls_back() {
    let mut host = with_second_versions(running_platform());
    let old = host.worker("spell");
    let id = OperationId("swap".to_owned());
    host.submit("swap", swap("spell", 2));
    while !host.state.operations.get(&id).unwrap().has_taken(Step::Ready) {
        // The commit is asked for in the same turn in which the new worker becomes ready.
        host.store_fails = u32::from(host.ready("spell").len() == 2);
        assert!(host.deliver());
    }
    host.store_fails = 0;
    host.quiesce();
    let error = host.finished[&id].error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::Storage);
    assert_eq!(host.worker("spell"), old);
}

#[test]
fn a_new_worker_that_dies_while_the_commit_is_written_does_not_leave_callers_alone() {
    let mut host = with_second_versions(running_platform());
    let (site, old) = (host.worker("site"), host.worker("spell"));
    let id = OperationId("swap".to_owned());
    host.submit("swap", swap("spell", 2));
    while !host.state.operations.get(&id).unwrap().has_taken(Step::Commit) {
        assert!(host.deliver());
    }
    let new = host.ready("spell").into_iter().find(|it| *it != old).unwrap();
    host.exit(new, ExitStatus::Signal(9));
    // Everything else is faster than the disk.
    let mut written = host.coming.remove(&Source::Store).unwrap_or_default();
    while host.deliver() {
        written.extend(host.coming.remove(&Source::Store).unwrap_or_default());
    }
    assert!(!host.processes.contains_key(&new) && host.state.operations.get(&id).unwrap().stage == Stage::Committing);
    written.into_iter().for_each(|it| host.event(it));
    host.deliver_all();
    assert!(host.reaches(site, "spell", old), "committed, and the old worker goes on until the new one is ready");
    host.quiesce();
    assert_eq!(host.finished[&id].state, OperationState::Done);
    assert!(host.reaches(site, "spell", host.worker("spell")));
    assert!(!host.processes.contains_key(&old));
}

#[test]
fn the_supervisors_death_rolls_back_before_the_commit_and_forward_after_it() {
    let mut moment = 0;
    let (mut back, mut forward) = (0, 0);
    loop {
        let mut host = with_second_versions(running_platform());
        let old = host.worker("spell");
        host.submit("swap", swap("spell", 2));
        let delivered = (0..moment).take_while(|_| host.deliver()).count();
        let accepted = host.on_disk(&OperationId("swap".to_owned())).is_some();
        let committed = host.disk.modules.iter().any(|it| it.version == Some(version(2)));
        host.restart_supervisor();
        host.quiesce();
        let site = host.worker("site");
        assert!(host.reaches(site, "spell", host.worker("spell")), "after {moment} events");
        if committed {
            assert_ne!(host.worker("spell"), old);
            forward += 1;
        } else {
            assert_eq!(host.worker("spell"), old, "after {moment} events");
            back += 1;
        }
        let state = host.on_disk(&OperationId("swap".to_owned())).map(|it| it.state);
        let expected = match (accepted, committed) {
            (false, _) => None,
            (true, false) => Some(OperationState::Failed),
            (true, true) => Some(OperationState::Done),
        };
        assert_eq!(state, expected, "after {moment} events");
        if delivered < moment {
            break;
        }
        moment += 1;
    }
    assert!(back > 3 && forward > 3, "{back} {forward}");
}

#[test]
fn a_caller_that_ignores_routes_holds_nothing_up() {
    let mut host = with_second_versions(running_platform());
    let (site, old) = (host.worker("site"), host.worker("spell"));
    host.processes.get_mut(&site).unwrap().vices.insert(Vice::IgnoresRoutes);
    host.submit("swap", swap("spell", 2));
    host.deliver_all();
    assert!(host.processes.contains_key(&old), "its routes may still be in use");
    host.quiesce();
    assert!(!host.processes.contains_key(&old));
    assert!(host.processes.contains_key(&site), "routes are advice");
}

#[test]
fn a_swap_is_refused_that_would_drop_a_published_service() {
    let mut host = running_platform();
    host.install(module("spell", 3).serving("other").package());
    let refused = host.ask(swap("spell", 3)).unwrap_err();
    assert!(refused.message.contains("service spell, which is published"), "{refused:?}");
    assert_eq!(host.ask(swap("spell", 9)).unwrap_err().code, ErrorCode::NotFound);
    host.done(stop("site"));
    assert_eq!(host.ask(swap("site", 1)).unwrap_err().code, ErrorCode::Conflict, "it does not run");
}

#[test]
fn a_swap_to_the_version_in_charge_is_done_and_changes_nothing() {
    let mut host = running_platform();
    let before = host.worker("spell");
    host.done(swap("spell", 1));
    assert_eq!(host.worker("spell"), before);
}

#[test]
fn a_superseded_worker_is_left_when_its_time_is_over_even_if_a_channel_cannot_be_made() {
    let mut host = with_second_versions(running_platform());
    let old = host.worker("spell");
    host.channel_fails = u32::MAX;
    host.submit("swap", swap("spell", 2));
    host.deliver_all();
    assert!(host.reaches(host.worker("site"), "spell", old), "kept while nobody else can be reached");
    host.event(Event::Timer(Timer::Flip(old)));
    host.deliver_all();
    assert!(!host.processes.contains_key(&old));
    host.channel_fails = 0;
    host.quiesce();
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn all_instances_are_replaced() {
    let mut host = running_platform();
    host.install(module("many", 1).serving("many").times(3).package());
    host.install(module("many", 2).serving("many").times(2).package());
    host.install(module("user", 1).calling("many").package());
    host.done(start_version("many", 1));
    host.done(start("user"));
    host.done(publish("many"));
    let user = host.worker("user");
    let old = host.ready("many");
    assert_eq!(old.len(), 3);
    assert!(old.iter().all(|it| host.reaches(user, "many", *it)));
    let receipt = host.done(swap("many", 2)).receipt.unwrap();
    assert_eq!((receipt.workers, receipt.channels_closed), (3, 3));
    let new = host.ready("many");
    assert!(new.len() == 2 && new.iter().all(|it| host.reaches(user, "many", *it)));
}
