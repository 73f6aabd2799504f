//! Routes: applied as a whole, told to whoever calls, taken back.

use mortise_control::ServiceRoute;

use super::host::Host;
use super::platform::running_platform;
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, OperationId, OperationState, Request};
use crate::lifecycle::Timer;

fn two_spells() -> Host {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").package());
    host.done(beside("spell", 2));
    host
}

/// What the callers of spell were told.
fn told(host: &Host, caller: &str) -> ServiceRoute {
    let process = &host.processes[&host.worker(caller)];
    process.routes.iter().find(|it| it.service == service("spell")).expect("a route").clone()
}

fn number(host: &Host) -> (u64, Vec<u64>) {
    let routes = host.state.snapshot().routes;
    routes.first().map_or((0, Vec::new()), |it| (it.number, it.earlier.clone()))
}

#[test]
fn every_caller_is_told_the_rules_that_its_calls_may_match_and_the_base_those_of_requests() {
    let mut host = two_spells();
    assert!(told(&host, "site").rules.is_empty());
    assert!(told(&host, "site").targets.iter().all(|it| it.version.is_none()), "no rules, no cost");
    let done = host.done(apply_routes("canary", 10));
    assert_eq!(done.steps.last().unwrap().step, "route");
    assert_eq!((told(&host, "site").rules.len(), told(&host, "base").rules.len()), (2, 1));
    let route = told(&host, "site");
    let mut shares: Vec<_> =
        route.targets.iter().map(|it| (it.version.as_ref().unwrap().version.major, it.weight)).collect();
    shares.sort_unstable();
    assert_eq!(shares, [(1, 1), (2, 0)], "what no rule decides goes to the version in charge");
    assert!(route.targets.iter().all(|it| it.version.as_ref().unwrap().weight == 1));
    let base = &host.processes[&host.worker("base")];
    assert!(base.http.iter().all(|it| it.rules.len() == 1 && it.tags.len() == 1));
}

#[test]
fn they_are_numbered_taken_back_one_by_one_and_kept_over_the_supervisors_death() {
    let mut host = two_spells();
    assert_eq!(host.ask(rollback_routes()).unwrap_err().code, ErrorCode::Conflict);
    for (lane, expected) in [("a", (1, vec![])), ("b", (2, vec![1])), ("b", (2, vec![1])), ("c", (3, vec![1, 2]))] {
        host.done(apply_routes(lane, 10));
        assert_eq!(number(&host), expected);
    }
    host.done(rollback_routes());
    assert_eq!(number(&host), (2, vec![1]));
    host.restart_supervisor();
    host.deliver_all();
    assert_eq!(number(&host), (2, vec![1]));
    let lane = |host: &Host| told(host, "site").rules.first().map(|it| it.matches.tags[0].1.clone());
    assert_eq!(lane(&host).as_deref(), Some("b"));
    host.done(apply_routes("d", 10));
    assert_eq!(number(&host), (4, vec![1, 2]), "a number is never given twice");
    for _ in 0..3 {
        host.done(rollback_routes());
    }
    assert_eq!((number(&host), lane(&host)), ((0, vec![]), None));
    for n in 0..20 {
        host.done(apply_routes(&format!("lane-{n}"), 10));
    }
    assert_eq!(number(&host).1.len(), 9, "ten are kept");
}

#[test]
fn unsound_ones_change_nothing_and_are_named() {
    let mut host = two_spells();
    host.done(apply_routes("canary", 10));
    let refused = host.ask(apply_routes("canary", 2_000_000)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Invalid);
    assert!(refused.message.contains("route[0].rule[1].to[1].weight = \"2000000\": 0 to 1000000"), "{refused:?}");
    assert_eq!(number(&host), (1, vec![]));
}

#[test]
fn they_are_done_when_the_last_caller_has_taken_them_or_has_had_its_time() {
    let mut host = two_spells();
    let site = host.worker("site");
    host.processes.get_mut(&site).unwrap().vices.insert(Vice::IgnoresRoutes);
    host.submit("routes", apply_routes("canary", 10));
    host.deliver_all();
    let id = OperationId("routes".to_owned());
    assert!(!host.finished.contains_key(&id));
    assert_eq!(host.ask(rollback_routes()).unwrap_err().code, ErrorCode::Conflict, "one after the other");
    let of_site = |it: &&Timer| matches!(it, Timer::Routes { worker, .. } if *worker == site);
    // Those of earlier epochs, which it had taken, mean nothing any more.
    let timer = host.timers.keys().rfind(of_site).cloned();
    host.due(&timer.expect("it has a time"));
    assert_eq!(host.finished[&id].state, OperationState::Done);
}

#[test]
fn the_supervisors_death_at_any_moment_leaves_the_old_ones_or_the_new() {
    let mut moment = 0;
    loop {
        let mut host = two_spells();
        host.done(apply_routes("old", 10));
        let id = OperationId("routes".to_owned());
        host.submit(&id.0, apply_routes("new", 10));
        let delivered = (0..moment).take_while(|_| host.deliver()).count();
        let accepted = host.on_disk(&id).is_some();
        host.restart_supervisor();
        host.quiesce();
        let lane = told(&host, "site").rules[0].matches.tags[0].1.clone();
        assert_eq!(lane, if accepted { "new" } else { "old" }, "after {moment} events");
        let state = host.on_disk(&id).map(|it| it.state);
        assert_eq!(state, accepted.then_some(OperationState::Done), "after {moment} events");
        if delivered < moment {
            break;
        }
        moment += 1;
    }
    assert!(moment > 3, "{moment}");
}

#[test]
fn a_tenants_file_may_name_what_is_not_there() {
    let mut host = running_platform();
    let routes =
        toml::from_str("[[route]]\nservice = \"nowhere\"\n[[route.rule]]\nto = [{ version = \"9.0.0\" }]").unwrap();
    host.done(Request::ApplyRoutes { tenant: tenant(), routes });
    assert!(told(&host, "site").rules.is_empty());
}
