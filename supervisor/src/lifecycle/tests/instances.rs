//! More than one worker of a module: scaled while it works, and left out while unwell.

use std::time::Duration;

use mortise_control::WorkerId;

use super::host::Host;
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, OperationId, OperationState};
use crate::lifecycle::{ExitStatus, Health, Timer};

/// `user` calls `many`, which has three workers and is asked whether it is well; `page` is reached by HTTP.
fn three() -> Host {
    let mut host = Host::new();
    let health = Health { interval: Duration::from_secs(5), timeout: Duration::from_secs(1), failures: 3 };
    for major in [1, 2] {
        let mut many = module("many", major).serving("many").offering("page", "/").times(3);
        many.health = Some(health);
        host.install(many.package());
    }
    host.install(module("user", 1).calling("many").package());
    host.install(module("base", 1).base().package());
    host.done(start_version("many", 1));
    for module in ["user", "base"] {
        host.done(start(module));
    }
    host.done(publish("many"));
    host
}

/// Who is called, by both ways: workers with a share of the calls.
fn called(host: &Host) -> Vec<WorkerId> {
    let user = &host.processes[&host.worker("user")];
    let targets = user.routes.iter().flat_map(|it| &it.targets).filter(|it| it.weight > 0);
    let mut by_calls: Vec<WorkerId> = targets.map(|it| user.channels[&it.channel].peer).collect();
    let base = &host.processes[&host.worker("base")];
    let http = base.http.iter().flat_map(|it| &it.targets).filter(|it| it.weight > 0);
    let mut by_http: Vec<WorkerId> = http.map(|it| it.worker).collect();
    by_calls.sort_unstable();
    by_http.sort_unstable();
    assert_eq!(by_calls, by_http);
    by_calls
}

/// A ping is sent to the worker; what it says, or that it says nothing, is heard.
fn ask_health(host: &mut Host, worker: WorkerId) {
    host.due(&Timer::Ping(worker));
    let pong = host.timers.keys().find(|it| matches!(it, Timer::Pong { worker: it, .. } if *it == worker)).cloned();
    if let Some(pong) = pong {
        host.due(&pong);
    }
}

#[test]
fn a_module_is_scaled_up_and_down_while_it_works_and_stays_so() {
    let mut host = three();
    let all = host.ready("many");
    let up = host.done(scale("many", 5));
    assert_eq!((host.ready("many").len(), called(&host).len(), up.receipt.unwrap().workers), (5, 5, 0));
    let down = host.done(scale("many", 2));
    assert_eq!(down.receipt.unwrap().workers, 3);
    assert_eq!(host.ready("many"), all[..2], "the oldest stay");
    assert_eq!(called(&host), all[..2]);
    host.restart_supervisor();
    host.deliver_all();
    assert_eq!(host.ready("many"), all[..2]);
    host.done(swap("many", 2));
    assert_eq!(host.ready("many").len(), 2, "another version has as many");
    let mut as_written = scale("many", 1);
    if let crate::api::Request::Scale { instances, .. } = &mut as_written {
        *instances = None;
    }
    host.done(as_written);
    assert_eq!(host.ready("many").len(), 3);
}

#[test]
fn at_every_moment_of_scaling_somebody_is_called() {
    for seed in 0..20 {
        let mut host = three();
        host.random = true;
        host.chance = super::chance::Chance::new(seed);
        for (round, instances) in [1, 4, 2, 3, 1].into_iter().enumerate() {
            host.submit(&format!("scale-{round}"), scale("many", instances));
            while host.deliver() {
                let user = host.worker("user");
                assert!(host.ready("many").iter().any(|it| host.reaches(user, "many", *it)));
            }
            assert_eq!(host.finished[&OperationId(format!("scale-{round}"))].state, OperationState::Done);
            assert_eq!(host.ready("many").len(), instances as usize);
        }
    }
}

#[test]
fn who_is_of_no_use_goes_first() {
    let mut host = three();
    let all = host.ready("many");
    host.exit(all[0], ExitStatus::Signal(9));
    host.deliver_all();
    host.done(scale("many", 2));
    assert_eq!(host.ready("many"), all[1..]);
}

#[test]
fn a_scale_fails_with_its_workers_and_is_kept() {
    let mut host = three();
    host.vice("many", 1, &[Vice::Crashes]);
    let failed = host.ask(scale("many", 4)).unwrap();
    assert_eq!(failed.state, OperationState::Failed);
    assert_eq!(called(&host).len(), 3, "the others go on");
    host.vice("many", 1, &[]);
    host.quiesce();
    assert_eq!(called(&host).len(), 4, "it is tried again");
}

#[test]
fn a_number_of_workers_has_bounds_and_needs_workers() {
    let mut host = three();
    for instances in [0, 65] {
        let refused = host.ask(scale("many", instances)).unwrap_err();
        assert!(refused.message.contains(&format!("instances = {instances}")), "{refused:?}");
    }
    host.install(module("words", 1).holding("words").package());
    assert_eq!(host.ask(scale("words", 2)).unwrap_err().code, ErrorCode::Invalid);
    host.done(stop("many"));
    host.done(scale("many", 2));
    host.done(start_version("many", 1));
    assert_eq!(host.ready("many").len(), 2, "said before it ran");
}

#[test]
fn an_unwell_worker_is_not_called_and_comes_back_when_it_is_well() {
    let mut host = three();
    let all = host.ready("many");
    host.processes.get_mut(&all[1]).unwrap().vices.insert(Vice::Unwell);
    ask_health(&mut host, all[1]);
    assert_eq!(called(&host), [all[0], all[2]]);
    let status = host.state.snapshot().modules.into_iter().find(|it| it.module.as_str() == "many").unwrap();
    let reason = status.workers[1].reason.clone().unwrap_or_default();
    assert_eq!(reason, "unwell: it said that it is not well; it gets no new calls");
    host.processes.get_mut(&all[1]).unwrap().vices.clear();
    ask_health(&mut host, all[1]);
    assert_eq!(called(&host), all);
}

#[test]
fn at_most_half_are_left_out_and_never_the_last() {
    for vice in [Vice::Unwell, Vice::Mute] {
        let mut host = three();
        let all = host.ready("many");
        for worker in &all {
            host.processes.get_mut(worker).unwrap().vices.insert(vice);
            ask_health(&mut host, *worker);
        }
        assert_eq!(called(&host), all[1..], "one of three is left out");
        host.exit(all[2], ExitStatus::Signal(9));
        host.deliver_all();
        host.done(scale("many", 1));
        assert_eq!(called(&host).len(), 1, "the last is called as it is");
    }
}

#[test]
fn one_that_stays_unwell_is_replaced() {
    let mut host = three();
    let all = host.ready("many");
    host.processes.get_mut(&all[0]).unwrap().vices.insert(Vice::Mute);
    for _ in 0..3 {
        assert!(host.processes.contains_key(&all[0]));
        ask_health(&mut host, all[0]);
    }
    assert!(!host.processes.contains_key(&all[0]));
    host.quiesce();
    assert_eq!(called(&host).len(), 3);
}
