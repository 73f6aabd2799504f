//! Two versions of a module that serve at once: one in charge, one beside it.

use mortise_control::WorkerId;

use super::host::Host;
use super::platform::running_platform;
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, Operation, OperationId, OperationState, Request};
use crate::lifecycle::ExitStatus;

/// spell and site have second versions, and site 2 runs beside site 1.
fn two_versions() -> Host {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").calling("helper").package());
    host.install(module("spell", 3).serving("spell").mapping("words").package());
    host.install(module("site", 2).offering("site", "/").calling("spell").package());
    host
}

fn of(host: &Host, module: &str, major: u64) -> Vec<WorkerId> {
    let of = |it: &&super::process::Process| it.order.key == key(module) && it.order.spec.version == version(major);
    host.processes.values().filter(of).map(|it| it.order.worker).collect()
}

fn only(host: &Host, module: &str, major: u64) -> WorkerId {
    match of(host, module, major)[..] {
        [worker] => worker,
        ref other => panic!("{module} {major} has workers {other:?}"),
    }
}

/// The shares with which a caller's calls of spell go to a worker, without any rule.
fn share(host: &Host, caller: WorkerId, callee: WorkerId) -> u32 {
    let process = &host.processes[&caller];
    let route = process.routes.iter().find(|it| it.service == service("spell")).expect("a route");
    let peer = |channel| process.channels.get(channel).is_some_and(|it| it.peer == callee);
    route.targets.iter().filter(|it| peer(&it.channel)).map(|it| it.weight).sum()
}

fn steps(operation: &Operation) -> Vec<&str> {
    operation.steps.iter().map(|it| it.step.as_str()).collect()
}

#[test]
fn a_version_beside_is_reached_by_every_caller_and_gets_nothing_by_itself() {
    let mut host = two_versions();
    let done = host.done(beside("spell", 2));
    assert_eq!(steps(&done), ["accept", "start", "ready", "commit", "route"], "{done:?}");
    let (first, second, site) = (only(&host, "spell", 1), only(&host, "spell", 2), host.worker("site"));
    for callee in [first, second] {
        assert!(host.reaches(site, "spell", callee) && host.reaches(host.worker("base"), "spell", callee));
    }
    assert_eq!((share(&host, site, first), share(&host, site, second)), (1, 0));
    let shown = host.state.snapshot().modules.into_iter().find(|it| it.module == name("spell")).unwrap();
    assert_eq!((shown.version.clone(), shown.beside.clone()), (Some(version(1)), Some(version(2))));
    host.done(beside("site", 2));
    let (first, second) = (only(&host, "site", 1), only(&host, "site", 2));
    assert!(host.http_reaches(first) && host.http_reaches(second));
    let base = &host.processes[&host.worker("base")];
    let weights: Vec<_> = base.http.iter().flat_map(|it| &it.targets).map(|it| (it.worker, it.weight)).collect();
    assert_eq!(weights, [(first, 1), (second, 0)]);
}

#[test]
fn a_caller_that_comes_has_no_route_before_it_has_all_that_a_rule_may_choose_from() {
    let mut host = two_versions();
    host.done(beside("spell", 2));
    host.done(share_out("spell", 50));
    let (first, second, before) = (only(&host, "spell", 1), only(&host, "spell", 2), host.worker("site"));
    host.processes.get_mut(&second).unwrap().vices.insert(Vice::MapsNothing);
    host.exit(before, ExitStatus::Code(1));
    let open = |host: &Host, site: WorkerId| {
        host.processes.get(&site).is_some_and(|it| it.channels.values().any(|it| it.peer == first && it.open))
    };
    let site = loop {
        host.deliver_all();
        if let Some(site) = of(&host, "site", 1).into_iter().find(|it| *it != before && open(&host, *it)) {
            break site;
        }
        assert!(host.tick(), "it comes again");
    };
    assert!(!host.reaches(site, "spell", first), "the other channel is being made");
    // That takes too long: one version is better than none.
    while !host.reaches(site, "spell", first) {
        assert!(host.tick(), "the channel is given up");
        host.deliver_all();
    }
    assert!(!host.reaches(site, "spell", second));
    host.processes.get_mut(&second).unwrap().vices.clear();
    host.quiesce();
    assert!(host.reaches(site, "spell", first) && host.reaches(site, "spell", second));
}

/// The shares of the last rule that a caller has for spell, by version; none: the version in charge gets everything.
fn last_rule(host: &Host, caller: &str) -> Vec<(u64, u32)> {
    let route = &host.processes[&host.worker(caller)].routes;
    let rule = route.iter().find(|it| it.service == service("spell")).expect("a route").rules.last();
    rule.map(|it| it.to.iter().map(|it| (it.version.major, it.weight)).collect()).unwrap_or_default()
}

#[test]
fn its_share_of_what_no_route_decides_is_given_and_taken() {
    let mut host = two_versions();
    let refused = host.ask(share_out("spell", 10)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.remedy.unwrap().contains("mortise start spell@VERSION --beside"));
    host.done(beside("spell", 2));
    assert_eq!(host.ask(share_out("spell", 101)).unwrap_err().code, ErrorCode::Invalid);
    assert_eq!(last_rule(&host, "site"), []);
    let done = host.done(share_out("spell", 10));
    assert_eq!(steps(&done), ["accept", "route"], "{done:?}");
    for caller in ["site", "base"] {
        assert_eq!(last_rule(&host, caller), [(1, 90), (2, 10)]);
    }
    // It comes behind what the tenant has laid down.
    host.done(apply_routes("canary", 30));
    assert_eq!(last_rule(&host, "site"), [(1, 90), (2, 10)]);
    let shown = host.state.snapshot().modules.into_iter().find(|it| it.module == name("spell")).unwrap();
    assert_eq!(shown.beside_share, Some(10));
    host.done(rollback_routes());
    host.restart_supervisor();
    host.quiesce();
    assert_eq!(last_rule(&host, "site"), [(1, 90), (2, 10)]);
    host.done(share_out("spell", 0));
    assert_eq!(last_rule(&host, "site"), []);
    host.done(share_out("spell", 100));
    assert_eq!(last_rule(&host, "site"), [(1, 0), (2, 100)]);
    host.done(swap("spell", 2));
    assert_eq!(last_rule(&host, "site"), []);
    host.done(beside("site", 2));
    host.done(share_out("site", 25));
    let http = &host.processes[&host.worker("base")].http;
    let rule = http.iter().find(|it| it.service == service("site")).unwrap().rules.last().unwrap();
    assert_eq!(rule.to.iter().map(|it| (it.version.major, it.weight)).collect::<Vec<_>>(), [(1, 75), (2, 25)]);
    host.done(discard("site"));
    assert!(host.processes[&host.worker("base")].http.iter().all(|it| it.rules.is_empty()));
}

#[test]
fn a_swap_to_it_puts_it_in_charge_in_one_step_and_the_other_can_be_kept() {
    for (request, frozen) in [(swap("spell", 2), 0), (swap_and_keep("spell", 2), 1)] {
        let mut host = two_versions();
        host.done(beside("spell", 2));
        let (second, site, spawned) = (only(&host, "spell", 2), host.worker("site"), host.groups.len());
        let done = host.done(request);
        let last = if frozen == 1 { "freeze" } else { "clean-up" };
        assert_eq!(steps(&done).first_chunk(), Some(&["accept", "commit", "flip"]), "{done:?}");
        assert_eq!(steps(&done).last(), Some(&last), "{done:?}");
        let receipt = done.receipt.unwrap();
        assert_eq!((receipt.workers, receipt.frozen), (1 - frozen, frozen));
        assert_eq!(host.groups.len(), spawned - 1 + frozen as usize, "nobody was started");
        assert!(host.reaches(site, "spell", second));
        assert_eq!(share(&host, site, second), 1);
        if frozen == 1 {
            host.done(rollback("spell"));
            assert!(host.reaches(site, "spell", only(&host, "spell", 1)));
        }
    }
}

#[test]
fn a_discard_lets_it_finish_and_the_one_in_charge_goes_on() {
    let mut host = two_versions();
    host.done(beside("spell", 2));
    let (first, second, site) = (only(&host, "spell", 1), only(&host, "spell", 2), host.worker("site"));
    host.submit("discard", discard("spell"));
    while host.deliver() {
        assert_eq!(share(&host, site, first), 1);
        let killed = host.log.iter().any(|it| it.contains(&format!("Kill {{ worker: {second:?}")));
        assert!(!killed, "it is given its time");
    }
    let done = &host.finished[&OperationId("discard".to_owned())];
    assert_eq!((done.state, done.receipt.as_ref().unwrap().workers), (OperationState::Done, 1));
    assert!(of(&host, "spell", 2).is_empty());
    assert_eq!(only(&host, "spell", 1), first);
    host.done(beside("spell", 3));
}

#[test]
fn what_would_make_a_third_generation_is_refused_and_says_how_to_go_on() {
    let mut host = two_versions();
    host.done(beside("spell", 2));
    for request in [swap("spell", 3), restart("spell"), beside("spell", 3), beside("spell", 2), rollback("spell")] {
        let refused = host.ask(request.clone()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Conflict, "{request:?}: {refused:?}");
    }
    let refused = host.ask(swap("spell", 3)).unwrap_err();
    assert!(refused.message.contains("2.0.0 runs beside 1.0.0"), "{refused:?}");
    assert!(refused.remedy.unwrap().contains("mortise discard spell"));
    let refused = host.ask(uninstall("spell", Some(2))).unwrap_err();
    assert!(refused.message.contains("runs beside"), "{refused:?}");
    assert_eq!(host.ask(beside("spell", 1)).unwrap_err().code, ErrorCode::Conflict, "it is in charge");
    host.install(module("base", 2).base().calling("spell").package());
    host.install(module("words", 2).holding("words").package());
    for module in ["base", "words"] {
        assert_eq!(host.ask(beside(module, 2)).unwrap_err().code, ErrorCode::Invalid);
    }
    host.done(stop("spell"));
    assert!(of(&host, "spell", 1).is_empty() && of(&host, "spell", 2).is_empty());
}

#[test]
fn one_that_is_kept_ends_before_another_comes_beside() {
    let mut host = two_versions();
    host.done(swap_and_keep("spell", 2));
    host.done(beside("spell", 3));
    assert!(of(&host, "spell", 1).is_empty());
    assert_eq!((of(&host, "spell", 2).len(), of(&host, "spell", 3).len()), (1, 1));
}

#[test]
fn both_versions_are_scaled_and_both_come_back_from_a_crash() {
    let mut host = two_versions();
    host.done(beside("spell", 2));
    host.done(scale("spell", 3));
    assert_eq!((of(&host, "spell", 1).len(), of(&host, "spell", 2).len()), (3, 3));
    host.done(scale("spell", 1));
    let (crashed, site) = (only(&host, "spell", 2), host.worker("site"));
    host.exit(crashed, ExitStatus::Signal(11));
    host.quiesce();
    let again = only(&host, "spell", 2);
    assert!(again != crashed && host.reaches(site, "spell", again));
    assert_eq!(share(&host, site, again), 0);
}

#[test]
fn one_that_does_not_get_ready_is_rolled_back_and_one_that_fails_later_cannot_take_charge() {
    let mut host = two_versions();
    host.vice("spell", 2, &[Vice::Crashes]);
    let failed = host.ask(beside("spell", 2)).unwrap();
    assert!(failed.error.unwrap().message.contains("rolled back"));
    assert!(of(&host, "spell", 2).is_empty());
    host.vice("spell", 2, &[]);
    host.done(beside("spell", 2));
    let second = only(&host, "spell", 2);
    host.vice("spell", 2, &[Vice::NeverReady]);
    host.exit(second, ExitStatus::Signal(11));
    host.deliver_all();
    let refused = host.ask(swap("spell", 2)).unwrap_err();
    assert!(refused.message.contains("not all its workers are ready"), "{refused:?}");
    host.done(discard("spell"));
}

#[test]
fn the_supervisors_death_at_any_moment_ends_in_what_was_accepted() {
    let workers = |host: &Host| [of(host, "spell", 1).len(), of(host, "spell", 2).len()];
    // What is asked; the workers before and after.
    let asked: [(Request, _, _); 3] =
        [(beside("spell", 2), [1, 0], [1, 1]), (swap("spell", 2), [1, 1], [0, 1]), (discard("spell"), [1, 1], [1, 0])];
    for (request, before, after) in asked {
        let mut moment = 0;
        loop {
            let mut host = two_versions();
            if before == [1, 1] {
                host.done(beside("spell", 2));
            }
            let id = OperationId("it".to_owned());
            host.submit(&id.0, request.clone());
            let delivered = (0..moment).take_while(|_| host.deliver()).count();
            host.restart_supervisor();
            host.quiesce();
            let done = host.on_disk(&id).is_some_and(|it| it.state == OperationState::Done);
            let expected = if done { after } else { before };
            assert_eq!(workers(&host), expected, "{request:?} after {moment} events");
            let site = host.worker("site");
            let serving = if expected[0] == 1 { 1 } else { 2 };
            assert_eq!(share(&host, site, only(&host, "spell", serving)), 1, "{request:?} after {moment} events");
            if delivered < moment {
                assert!(done, "{request:?}");
                break;
            }
            moment += 1;
        }
        assert!(moment > 5, "{moment}");
    }
}
