//! Groups: the versions of several modules change together or not at all.

use mortise_control::GroupName;

use super::host::Host;
use super::platform::running_platform;
use super::process::Vice;
use super::world::*;
use crate::api::{Desired, ErrorCode, OperationId, OperationState, Request, Steering};
use crate::lifecycle::step::Step;
use crate::store::ModuleRecord;

fn shop(major: u64) -> Request {
    apply_group("shop", &[("site", major), ("spell", major)], Some(600_000))
}

/// What there is of the platform, and second versions of two modules of it.
fn two_versions() -> Host {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").package());
    host.install(module("site", 2).offering("site", "/").calling("spell").package());
    host
}

fn record<'a>(host: &'a Host, text: &str) -> &'a ModuleRecord {
    host.disk.modules.iter().find(|it| it.key == key(text)).unwrap()
}

/// The major numbers of what is in charge, by the disk.
fn in_charge(host: &Host) -> (u64, u64) {
    let of = |text| record(host, text).version.as_ref().map_or(0, |it| it.major);
    (of("site"), of("spell"))
}

fn group(host: &Host) -> Vec<(String, u64, Option<u64>)> {
    let groups = host.state.group_statuses();
    let shop = groups.iter().find(|it| it.group.as_str() == "shop");
    let modules = shop.into_iter().flat_map(|it| &it.modules);
    modules.map(|it| (it.module.to_string(), it.version.major, it.earlier.as_ref().map(|it| it.major))).collect()
}

/// What the ingress reaches has somebody to call, of its own generation and of no other.
fn check_lanes(host: &Host) {
    let of = |text: &str| -> Vec<_> {
        let processes = host.processes.values().filter(|it| it.order.key.module.as_str() == text);
        processes.map(|it| (it.order.worker, it.order.spec.version.major)).collect()
    };
    for (site, major) in of("site") {
        let called = of("spell").into_iter().filter(|(it, _)| host.reaches(site, "spell", *it));
        let called: Vec<u64> = called.map(|it| it.1).collect();
        assert!(called.iter().all(|it| *it == major), "site {major} calls spell {called:?}: {:#?}", tail(host));
        if host.http_reaches(site) {
            assert!(!called.is_empty(), "site {major} has nobody to call: {:#?}", tail(host));
        }
    }
    let (base, spell) = (host.worker("base"), of("spell"));
    assert!(spell.iter().any(|(it, _)| host.reaches(base, "spell", *it)), "{:#?}", tail(host));
}

fn tail(host: &Host) -> Vec<&String> {
    host.log.iter().rev().take(40).collect()
}

#[test]
fn the_versions_of_a_group_change_in_one_commit_and_go_back_in_one() {
    for seed in 0..30 {
        let mut host = two_versions();
        host.random = true;
        host.chance = super::chance::Chance::new(seed);
        for (round, (request, then)) in
            [(shop(2), 2), (rollback_group("shop"), 1), (rollback_group("shop"), 2), (shop(1), 1)]
                .into_iter()
                .enumerate()
        {
            let before = in_charge(&host);
            host.submit(&format!("group-{round}"), request);
            while host.deliver() {
                check_lanes(&host);
                let now = in_charge(&host);
                assert!(now == before || now == (then, then), "{now:?} after {before:?}, seed {seed}");
            }
            assert_eq!(host.finished[&OperationId(format!("group-{round}"))].state, OperationState::Done);
            assert_eq!(in_charge(&host), (then, then));
        }
        assert_eq!(group(&host), [("site".into(), 1, Some(2)), ("spell".into(), 1, Some(2))]);
    }
}

#[test]
fn a_rollback_thaws_what_is_kept_and_starts_what_is_not() {
    let mut host = two_versions();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    host.done(shop(2));
    host.done(discard("spell"));
    let group = GroupName::new("shop").unwrap();
    let rollback = host.done(Request::RollbackGroup { tenant: tenant(), group, keep_ms: Some(0) }).id;
    let step = |module: &str| host.finished[&OperationId(format!("{rollback}.{module}"))].steps[1].step.clone();
    assert_eq!((step("site"), step("spell")), ("thaw".to_owned(), "start".to_owned()));
    assert_eq!(in_charge(&host), (1, 1));
    assert_eq!(host.worker("site"), site, "the same process as before");
    assert_ne!(host.worker("spell"), spell);
}

#[test]
fn one_that_does_not_get_ready_takes_all_back_and_nothing_has_changed() {
    for (module, other) in [("spell", "site"), ("site", "spell")] {
        let mut host = two_versions();
        let before = (host.worker("site"), host.worker("spell"));
        host.vice(module, 2, &[Vice::Crashes]);
        let failed = host.ask(shop(2)).unwrap();
        let error = failed.error.unwrap();
        assert!(error.message.starts_with(&format!("default/{module}: ")), "{error:?}");
        let of_other = host.finished[&OperationId(format!("{}.{other}", failed.id))].error.clone().unwrap();
        assert!(of_other.message.contains(&format!("default/{module}, which changes with it, failed")), "{of_other:?}");
        assert_eq!((host.worker("site"), host.worker("spell")), before);
        assert_eq!(host.processes.len(), 3, "nothing of the new versions is left");
        assert!(group(&host).is_empty(), "what has come to nothing declares nothing");
        assert_eq!(in_charge(&host), (1, 1));
        host.vice(module, 2, &[]);
        host.done(shop(2));
    }
}

#[test]
fn an_abort_of_a_part_takes_all_back() {
    let mut host = two_versions();
    host.vice("spell", 2, &[Vice::NeverReady]);
    let id = OperationId("group".to_owned());
    host.submit("group", shop(2));
    host.deliver_all();
    host.done(steer("spell", Steering::Abort));
    assert_eq!(host.finished[&id].state, OperationState::Failed);
    assert!(host.finished[&id].error.as_ref().unwrap().message.contains("aborted"), "{:?}", host.finished[&id]);
    assert_eq!((in_charge(&host), host.processes.len()), ((1, 1), 3));
}

#[test]
fn a_commit_that_does_not_reach_the_disk_takes_all_back() {
    let mut host = two_versions();
    let id = OperationId("group".to_owned());
    host.submit("group", shop(2));
    while !host.state.operations.get(&id).unwrap().has_taken(Step::Commit) {
        host.store_fails = u32::from(host.ready("spell").len() + host.ready("site").len() == 4);
        assert!(host.deliver());
    }
    host.store_fails = 0;
    host.quiesce();
    assert_eq!(host.finished[&id].error.as_ref().unwrap().code, ErrorCode::Storage);
    assert_eq!((in_charge(&host), host.processes.len()), ((1, 1), 3));
}

/// The supervisor dies after so many events of this request, and its successor works on until all is quiet.
fn dies(mut host: Host, request: &Request, moment: usize) -> (Host, bool) {
    host.submit("group", request.clone());
    let delivered = (0..moment).take_while(|_| host.deliver()).count();
    host.restart_supervisor();
    host.quiesce();
    (host, delivered < moment)
}

#[test]
fn the_supervisors_death_takes_all_back_before_the_commit_and_forward_after_it() {
    let id = OperationId("group".to_owned());
    let (mut back, mut forward) = (0, 0);
    for moment in 0.. {
        let (mut host, over) = dies(two_versions(), &shop(2), moment);
        let now = in_charge(&host);
        let state = host.on_disk(&id).map(|it| it.state);
        match now {
            (1, 1) => assert_ne!(state, Some(OperationState::Done), "after {moment} events"),
            (2, 2) => assert_eq!(state, Some(OperationState::Done), "after {moment} events"),
            _ => panic!("{now:?} after {moment} events"),
        }
        if state.is_some() {
            (back, forward) = (back + u32::from(now == (1, 1)), forward + u32::from(now == (2, 2)));
            let (told, again) = (host.on_disk(&id).cloned(), host.submit("group", shop(2)));
            host.deliver_all();
            assert_eq!(host.answers.remove(&again).unwrap().ok(), told, "the same answer to the same id");
        }
        assert_eq!(host.ready("site").len() + host.ready("spell").len(), 2);
        if over {
            break;
        }
    }
    assert!(back > 3 && forward > 3, "{back} {forward}");
}

#[test]
fn a_rollback_that_the_supervisors_death_interrupts_is_whole_or_not_at_all() {
    let kept = |only: Option<&str>| {
        let mut host = two_versions();
        host.done(shop(2));
        only.map(|it| host.done(discard(it)));
        host
    };
    for (discarded, least_back) in [(None, 0), (Some("spell"), 1)] {
        let (mut back, mut forward) = (0, 0);
        for moment in 0.. {
            let (host, over) = dies(kept(discarded), &rollback_group("shop"), moment);
            let accepted = host.on_disk(&OperationId("group".to_owned())).is_some();
            match in_charge(&host) {
                (1, 1) => forward += 1,
                (2, 2) => back += u32::from(accepted),
                mixed => panic!("{mixed:?} after {moment} events"),
            }
            if over {
                break;
            }
        }
        // What is frozen needs nothing more, so it goes on; what is to be started is taken back, with what was thawed.
        assert!(forward > 3 && (back > least_back) == discarded.is_some(), "{discarded:?}: {back} {forward}");
    }
}

#[test]
fn what_does_not_run_is_started_with_the_others_and_ends_with_them_when_they_fail() {
    let mut host = two_versions();
    host.done(stop("site"));
    host.vice("spell", 2, &[Vice::Crashes]);
    assert_eq!(host.ask(shop(2)).unwrap().state, OperationState::Failed);
    assert_eq!((record(&host, "site").desired, host.processes.len()), (Desired::Installed, 2));
    host.vice("spell", 2, &[]);
    host.done(apply_group("shop", &[("site", 2), ("spell", 2)], None));
    assert_eq!((in_charge(&host), record(&host, "site").desired), ((2, 2), Desired::Running));
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
    assert_eq!(group(&host), [("site".into(), 2, None), ("spell".into(), 2, Some(1))]);
    host.done(rollback_group("shop"));
    assert_eq!(in_charge(&host), (2, 1), "what was started stays");
}

#[test]
fn what_is_as_the_group_wants_it_is_left_alone_and_a_module_can_be_in_several() {
    let mut host = two_versions();
    let before = host.worker("spell");
    host.done(shop(1));
    assert_eq!(host.worker("spell"), before);
    assert!(host.ask(rollback_group("shop")).unwrap_err().message.contains("nothing to go back to"));
    host.done(apply_group("words", &[("spell", 2)], None));
    assert_eq!(in_charge(&host), (1, 2));
    let groups = host.state.group_statuses();
    let runs: Vec<_> = groups.iter().flat_map(|it| &it.modules).map(|it| it.runs.clone().unwrap().major).collect();
    assert_eq!(runs, [1, 2, 2], "site and spell of shop, spell of words");
    host.done(remove_group("words"));
    assert_eq!((host.state.group_statuses().len(), in_charge(&host)), (1, (1, 2)));
    assert_eq!(host.ask(remove_group("words")).unwrap_err().code, ErrorCode::NotFound);
    host.restart_supervisor();
    host.quiesce();
    assert_eq!(host.state.group_statuses().len(), 1);
}

#[test]
fn one_that_has_failed_is_restarted_though_it_is_the_version_that_is_wanted() {
    let mut host = two_versions();
    let worker = host.worker("spell");
    host.vice("spell", 1, &[Vice::Crashes]);
    host.exit(worker, crate::lifecycle::ExitStatus::Signal(9));
    host.quiesce();
    assert!(host.ready("spell").is_empty());
    host.vice("spell", 1, &[]);
    host.done(shop(1));
    assert_eq!(host.ready("spell").len(), 1);
}

#[test]
fn a_group_is_refused_with_what_is_in_its_way_and_nothing_is_begun() {
    let mut host = two_versions();
    host.install(module("rival", 1).offering("rival", "/").package());
    host.install(module("spell", 3).serving("other").package());
    let refused = |host: &mut Host, modules: &[(&str, u64)]| host.ask(apply_group("shop", modules, None)).unwrap_err();
    for (modules, named) in [
        (&[][..], "modules: the group shop has 0"),
        (&[("spell", 2), ("nothing", 1)], "default/nothing is not installed"),
        (&[("spell", 2), ("site", 9)], "default/site 9.0.0 is not installed; installed: 2.0.0, 1.0.0"),
        (&[("spell", 2), ("base", 1)], "modules.base: default/base is a base"),
        (&[("spell", 2), ("words", 1)], "modules.words: default/words only holds resources"),
        (&[("spell", 3), ("site", 2)], "service spell, which is published"),
    ] {
        let error = refused(&mut host, modules);
        assert!(error.message.contains(named), "{error:?}");
        assert!(error.remedy.is_some(), "{error:?}");
    }
    host.submit("swap", swap("spell", 2));
    assert!(refused(&mut host, &[("spell", 2), ("site", 2)]).message.contains("operation swap (swap) is under way"));
    host.done(beside("site", 2));
    assert!(refused(&mut host, &[("spell", 2), ("site", 2)]).message.contains("runs beside"));
    host.done(discard("site"));
    host.done(publish("rival"));
    host.done(stop("site"));
    let error = refused(&mut host, &[("rival", 1), ("site", 2)]);
    assert!(error.message.contains("the HTTP route */ is taken by service"), "{error:?}");
    host.submit("group.site", stop("rival"));
    host.deliver_all();
    let ticket = host.submit("group", apply_group("shop", &[("site", 1)], None));
    host.deliver_all();
    let error = host.answers.remove(&ticket).unwrap().unwrap_err();
    assert!(error.message.contains("operation group.site is another's"), "{error:?}");
    assert_eq!(in_charge(&host), (0, 2));
    assert!(host.state.group_statuses().is_empty());
}

#[test]
fn a_group_takes_no_more_of_a_tenants_quota_than_there_is() {
    let mut host = two_versions();
    let limits = crate::api::TenantLimits { workers: Some(3), ..Default::default() };
    host.done(Request::SetTenant { tenant: tenant(), limits, lift: Default::default() });
    let error = host.ask(shop(2)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Quota, "two more beside two: {error:?}");
    let limits = crate::api::TenantLimits { workers: Some(4), ..Default::default() };
    host.done(Request::SetTenant { tenant: tenant(), limits, lift: Default::default() });
    host.done(shop(2));
}

#[test]
fn a_part_that_has_ended_is_not_forgotten_before_the_whole_has() {
    let mut host = two_versions();
    host.install(module("other", 1).serving("other").package());
    host.vice("spell", 2, &[Vice::NeverReady]);
    let (id, parts) =
        (OperationId("group".to_owned()), ["group.site", "group.spell"].map(|it| OperationId(it.to_owned())));
    host.submit("group", shop(2));
    host.deliver_all();
    // One part's group is removed later than the other's: the second ends when the first has.
    host.busy_groups = 1;
    host.done(steer("spell", Steering::Abort));
    let ended = |host: &Host| parts.iter().filter(|it| host.finished.contains_key(it)).count();
    assert_eq!((ended(&host), host.finished.contains_key(&id)), (1, false));
    for _ in 0..300 {
        host.done(publish("other"));
    }
    assert!(parts.iter().all(|it| host.on_disk(it).is_some()));
    host.restart_supervisor();
    host.quiesce();
    assert!(host.on_disk(&id).is_some_and(|it| it.error.as_ref().is_some_and(|it| it.message.contains("aborted"))));
}
