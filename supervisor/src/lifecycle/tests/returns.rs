//! The supervisor dies and comes back: nothing that worked stops working.

use mortise_control::{ChannelId, ChannelReport, ChannelRole, ToSupervisor};

use super::host::{Host, Source};
use super::platform::running_platform;
use super::process::{Held, Vice};
use super::world::*;
use crate::api::{OperationId, OperationState};
use crate::lifecycle::{Event, ExitStatus, Timer};

#[test]
fn calls_go_on_at_every_moment_of_the_return() {
    for seed in 0..40 {
        let mut host = running_platform();
        host.random = true;
        host.chance = super::chance::Chance::new(seed);
        let (base, site, spell) = (host.worker("base"), host.worker("site"), host.worker("spell"));
        let channels: Vec<ChannelId> = host.processes[&spell].channels.keys().copied().collect();
        for _ in 0..2 {
            host.restart_supervisor();
            loop {
                assert!(host.reaches(site, "spell", spell) && host.reaches(base, "spell", spell));
                assert!(host.http_reaches(site));
                if !host.deliver() {
                    break;
                }
            }
        }
        host.quiesce();
        assert_eq!((host.worker("base"), host.worker("site"), host.worker("spell")), (base, site, spell));
        assert_eq!(host.processes[&spell].channels.keys().copied().collect::<Vec<_>>(), channels);
        host.done(unpublish("spell"));
        assert!(host.processes[&spell].channels.is_empty(), "and it governs them again");
    }
}

#[test]
fn a_worker_has_been_what_it_is_since_before_the_return() {
    let mut host = running_platform();
    let started = super::host::started(host.processes[&host.worker("spell")].start_time);
    host.restart_supervisor();
    host.quiesce();
    let spell = host.state.snapshot().modules.into_iter().find(|it| it.module.as_str() == "spell").unwrap();
    assert_eq!(spell.workers[0].since, started);
    // What it becomes from now on is dated as it happens.
    host.done(restart("spell"));
    let spell = host.state.snapshot().modules.into_iter().find(|it| it.module.as_str() == "spell").unwrap();
    assert_ne!(spell.workers[0].since, started);
}

#[test]
fn who_died_meanwhile_is_started_again() {
    let mut host = running_platform();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    host.processes.remove(&spell);
    host.restart_supervisor();
    host.quiesce();
    assert_eq!(host.worker("site"), site);
    assert_ne!(host.worker("spell"), spell);
    assert!(host.reaches(site, "spell", host.worker("spell")));
}

#[test]
fn a_host_that_is_started_anew_is_nobody_s_failure() {
    let mut host = running_platform();
    // Oftener than a worker may fail, and none of them lives long enough to be taken for stable.
    for _ in 0..10 {
        host.reboot();
        host.deliver_all();
        assert_eq!((host.ready("base").len(), host.ready("spell").len(), host.ready("site").len()), (1, 1, 1));
    }
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn a_start_goes_on_over_a_start_of_the_host() {
    let mut host = running_platform();
    host.done(stop("spell"));
    host.vice("spell", 1, &[Vice::Silent]);
    host.submit("start", start("spell"));
    host.deliver_all();
    assert!(host.processes.values().any(|it| it.has(Vice::Silent)), "it runs, is on disk and not ready");
    host.vice("spell", 1, &[]);
    host.reboot();
    host.quiesce();
    let operation = &host.finished[&OperationId("start".to_owned())];
    assert_eq!(operation.state, OperationState::Done, "{operation:#?}");
}

#[test]
fn who_does_not_connect_again_is_replaced() {
    let mut host = running_platform();
    let spell = host.worker("spell");
    host.processes.get_mut(&spell).unwrap().vices.insert(Vice::Silent);
    host.restart_supervisor();
    host.deliver_all();
    assert!(host.processes.contains_key(&spell), "it has its time");
    host.due(&Timer::Reconnect(spell));
    host.quiesce();
    assert_ne!(host.worker("spell"), spell);
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn a_worker_that_was_started_and_not_recorded_is_removed_and_started_once() {
    let mut host = running_platform();
    let worker = host.worker("spell");
    host.exit(worker, ExitStatus::Code(1));
    host.deliver_all();
    host.coming.clear();
    host.event(Event::Timer(Timer::Backoff(worker)));
    while host.ready("spell").is_empty() && !host.log.last().unwrap().contains("Spawn(") {
        assert!(host.deliver());
    }
    // Its process lives, and its pid is not on disk.
    host.restart_supervisor();
    host.quiesce();
    assert_eq!(host.ready("spell").len(), 1);
    assert_eq!(host.groups.len(), 3);
}

#[test]
fn a_channel_that_only_one_peer_reports_is_closed() {
    let mut host = running_platform();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    let invented = ChannelId(4711);
    let held = Held { role: ChannelRole::Caller, service: service("spell"), peer: spell, open: true };
    host.processes.get_mut(&site).unwrap().channels.insert(invented, held);
    let real = *host.processes[&spell].channels.iter().find(|(_, it)| it.peer == site).unwrap().0;
    host.restart_supervisor();
    host.quiesce();
    assert!(!host.processes[&site].channels.contains_key(&invented));
    assert!(host.processes[&site].channels.contains_key(&real));
    assert!(host.state.channels.contains_key(&real) && !host.state.channels.contains_key(&invented));
}

#[test]
fn a_report_cannot_take_over_somebody_elses_channel() {
    let mut host = running_platform();
    let (base, site, spell) = (host.worker("base"), host.worker("site"), host.worker("spell"));
    let real = *host.processes[&spell].channels.iter().find(|(_, it)| it.peer == site).unwrap().0;
    let mut hello = host.processes[&base].hello();
    if let ToSupervisor::Hello(hello) = &mut hello {
        let report = ChannelReport { channel: real, role: ChannelRole::Callee, service: service("spell"), peer: site };
        hello.channels.push(report);
    }
    host.event(Event::Disconnected { worker: base });
    host.event(Event::Message { worker: base, message: hello });
    host.deliver_all();
    assert!(host.reaches(site, "spell", spell));
    assert_eq!(host.state.channels[&real].edge.callee, spell);
}

#[test]
fn a_broken_connection_is_taken_up_where_it_was() {
    let mut host = running_platform();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    let channels = host.state.channels.len();
    for worker in [site, spell, host.worker("base")] {
        host.break_connection(worker);
        while host.deliver() {
            assert!(host.reaches(site, "spell", spell) && host.http_reaches(site));
        }
    }
    assert_eq!(host.state.channels.len(), channels);
    host.quiesce();
    assert_eq!((host.worker("site"), host.worker("spell")), (site, spell));
}

/// What an operation has come to at each moment of the supervisor's death.
fn dies_at_every_moment(prepare: impl Fn() -> Host, request: &crate::api::Request, holds: impl Fn(&Host)) {
    for moment in 0.. {
        let mut host = prepare();
        host.submit("it", request.clone());
        let delivered = (0..moment).take_while(|_| host.deliver()).count();
        let accepted = host.on_disk(&OperationId("it".to_owned())).is_some();
        host.restart_supervisor();
        host.quiesce();
        if !accepted {
            assert_eq!(host.on_disk(&OperationId("it".to_owned())), None);
            let ticket = host.submit("it", request.clone());
            host.quiesce();
            assert!(host.answers.remove(&ticket).unwrap().is_ok());
        }
        let operation = host.on_disk(&OperationId("it".to_owned())).unwrap();
        assert_eq!(operation.state, OperationState::Done, "after {moment} events: {operation:#?}");
        holds(&host);
        if delivered < moment {
            assert!(moment > 1);
            return;
        }
    }
}

#[test]
fn a_start_goes_on() {
    let prepare = || {
        let mut host = running_platform();
        host.done(stop("spell"));
        host
    };
    dies_at_every_moment(prepare, &start("spell"), |host| {
        assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
    });
}

#[test]
fn a_stop_goes_on() {
    dies_at_every_moment(running_platform, &stop("spell"), |host| assert!(host.ready("spell").is_empty()));
}

#[test]
fn an_unpublish_goes_on() {
    dies_at_every_moment(running_platform, &unpublish("spell"), |host| {
        assert!(host.processes[&host.worker("spell")].channels.is_empty());
    });
}

#[test]
fn an_uninstall_goes_on() {
    let prepare = || {
        let mut host = running_platform();
        host.done(stop("site"));
        host
    };
    dies_at_every_moment(prepare, &uninstall("site", None), |host| {
        assert!(host.disk.modules.iter().all(|it| it.key != key("site")));
        assert!(host.log.iter().any(|it| it.contains("RemovePackage")));
    });
}

#[test]
fn a_stop_of_everything_that_was_cut_short_leaves_what_is_wanted() {
    let mut host = running_platform();
    host.event(Event::StopAll);
    (0..4).for_each(|_| _ = host.deliver());
    host.coming.remove(&Source::Store);
    host.restart_supervisor();
    host.quiesce();
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
    assert!(host.http_reaches(host.worker("site")) && host.ready("base").len() == 1);
}
