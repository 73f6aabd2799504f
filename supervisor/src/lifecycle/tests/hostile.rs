//! Workers that lie, and events that come late.

use mortise_control::shadow::Shadowed;
use mortise_control::{ChannelId, ChannelRole, Hello, Phase, Released, RouteTable, ToSupervisor, Token, WorkerId};

use super::host::Host;
use super::platform::{platform, running_platform};
use super::process::Vice;
use super::world::*;
use crate::lifecycle::{Event, Exit, Remains, StartFault, Timer};

fn hello(host: &Host, worker: WorkerId, change: impl Fn(&mut Hello)) -> Event {
    let ToSupervisor::Hello(mut hello) = host.processes[&worker].hello() else { unreachable!() };
    change(&mut hello);
    Event::Message { worker, message: ToSupervisor::Hello(hello) }
}

/// A worker that was spawned and has not said hello.
fn unheard() -> (Host, WorkerId) {
    let mut host = platform();
    host.vice("site", 1, &[Vice::Silent]);
    host.submit("start", start("site"));
    host.deliver_all();
    let worker = *host.processes.keys().next().unwrap();
    host.processes.get_mut(&worker).unwrap().connected = true;
    (host, worker)
}

fn last_actions(host: &Host) -> Vec<&String> {
    host.log.iter().rev().take_while(|it| it.starts_with("    ")).collect()
}

#[test]
fn a_hello_is_believed_only_with_its_token_and_its_generation() {
    let (mut host, worker) = unheard();
    for forged in
        [hello(&host, worker, |it| it.token = Token([7; 16])), hello(&host, worker, |it| it.worker.generation += 1)]
    {
        host.processes.get_mut(&worker).unwrap().vices.insert(Vice::Silent);
        let now_connected = host.processes[&worker].connected;
        assert!(now_connected);
        host.event(forged);
        assert!(last_actions(&host).iter().any(|it| it.contains("Disconnect")), "{:?}", last_actions(&host));
        assert!(host.ready("site").is_empty());
        host.coming.clear();
    }
    let honest = hello(&host, worker, |_| ());
    host.event(honest);
    host.deliver_all();
    assert_eq!(host.worker("site"), worker);
}

#[test]
fn a_first_hello_that_says_ready_or_speaks_another_protocol_ends_the_worker() {
    for change in [(|it: &mut Hello| it.phase = Phase::Ready) as fn(&mut Hello), |it| it.protocol = 77] {
        let (mut host, worker) = unheard();
        let event = hello(&host, worker, change);
        host.event(event);
        assert!(!host.processes.contains_key(&worker));
    }
}

#[test]
fn who_speaks_before_the_welcome_is_cut_off() {
    for message in [
        ToSupervisor::Ready,
        ToSupervisor::RoutesApplied { table: None, epoch: 1 },
        ToSupervisor::Drained { served: 0 },
    ] {
        let (mut host, worker) = unheard();
        host.event(Event::Message { worker, message });
        assert!(last_actions(&host).iter().any(|it| it.contains("Disconnect")));
        assert!(!host.state.slots.get(worker).unwrap().ready);
    }
}

#[test]
fn lies_and_late_events_change_nothing() {
    let mut host = running_platform();
    let (site, spell, base) = (host.worker("site"), host.worker("spell"), host.worker("base"));
    let foreign = *host.processes[&spell].channels.iter().find(|(_, it)| it.peer == base).unwrap().0;
    let old = WorkerId { generation: site.generation - 1, ..site };
    let nobody = WorkerId { slot: 900, generation: 1 };
    let says = |message| Event::Message { worker: site, message };
    let events = [
        says(ToSupervisor::Ready),
        says(ToSupervisor::NeverReady { reason: "no".to_owned() }),
        says(ToSupervisor::Mapped { channel: foreign }),
        says(ToSupervisor::Mapped { channel: ChannelId(1) }),
        says(ToSupervisor::Released(Released { channel: foreign, calls: 9 })),
        says(ToSupervisor::Released(Released { channel: ChannelId(1), calls: 9 })),
        says(ToSupervisor::RoutesApplied { table: None, epoch: u64::MAX }),
        says(ToSupervisor::RoutesApplied { table: None, epoch: 0 }),
        says(ToSupervisor::Want { service: service("markdown") }),
        says(ToSupervisor::HttpDrained { worker: spell }),
        says(ToSupervisor::Drained { served: 3 }),
        says(ToSupervisor::Pong { nonce: 12, healthy: false }),
        says(ToSupervisor::Violation { channel: foreign, what: "not mine".to_owned() }),
        says(ToSupervisor::Violation { channel: ChannelId(1), what: "not there".to_owned() }),
        says(ToSupervisor::Shadowed(Shadowed { service: service("spell"), run: 0, methods: Vec::new() })),
        says(ToSupervisor::Shadowed(Shadowed { service: service("spell"), run: 9, methods: Vec::new() })),
        Event::Exited { worker: old, exit: Exit::default() },
        Event::Exited { worker: nobody, exit: Exit::default() },
        Event::Lost { worker: site, exit: Exit::default() },
        Event::Adopted { worker: site, started: jiff::Timestamp::UNIX_EPOCH },
        Event::SpawnDone { worker: site, pid: 1, start_time: 1 },
        Event::SpawnFailed { worker: site, reason: "late".to_owned(), fault: StartFault::Other },
        Event::GroupGone { worker: site, remains: Remains::default() },
        Event::GroupBusy { worker: site, processes: 1, reason: "late".to_owned() },
        Event::ChannelFailed { channel: foreign, reason: "late".to_owned() },
        Event::Timer(Timer::Ready(site)),
        Event::Timer(Timer::Drain(site)),
        Event::Timer(Timer::Stop(site)),
        Event::Timer(Timer::Backoff(site)),
        Event::Timer(Timer::Reconnect(site)),
        Event::Timer(Timer::Mapped(foreign)),
        Event::Timer(Timer::CalleeReleased(foreign)),
        Event::Timer(Timer::CallerReleased(foreign)),
        Event::PackageRemoved { operation: crate::api::OperationId("none".to_owned()), result: Ok(1) },
    ];
    for event in events {
        let text = format!("{event:?}");
        host.event(event);
        assert!(last_actions(&host).is_empty(), "{text}: {:?}", last_actions(&host));
    }
    host.quiesce();
    assert!(host.reaches(site, "spell", spell) && host.reaches(base, "spell", spell) && host.http_reaches(site));
}

#[test]
fn who_changed_its_segment_is_killed_and_the_other_end_goes_on() {
    let mut host = running_platform();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    let channel = *host.processes[&site].channels.keys().next().unwrap();
    let what = "it has 0 bytes instead of 65536".to_owned();
    host.event(Event::ChannelTampered { channel, writer: ChannelRole::Callee, what });
    host.quiesce();
    assert!(!host.processes.contains_key(&spell));
    assert!(host.processes.contains_key(&site));
    assert!(host.reaches(site, "spell", host.worker("spell")), "its successor is called");
}

#[test]
fn who_broke_the_protocol_of_a_channel_is_killed_and_the_channel_goes() {
    let mut host = running_platform();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    let channel = *host.processes[&site].channels.keys().next().unwrap();
    let message = ToSupervisor::Violation { channel, what: "slot 4 names no block".to_owned() };
    host.event(Event::Message { worker: site, message });
    host.quiesce();
    assert!(!host.processes.contains_key(&spell));
    assert!(host.processes.contains_key(&site));
    assert!(host.reaches(site, "spell", host.worker("spell")), "its successor is called");
}

#[test]
fn a_base_is_not_killed_on_a_tenants_word() {
    let mut host = running_platform();
    let (base, spell) = (host.worker("base"), host.worker("spell"));
    let channel = *host.processes[&base].channels.keys().next().unwrap();
    let message = ToSupervisor::Violation { channel, what: "a lie".to_owned() };
    host.event(Event::Message { worker: spell, message });
    host.quiesce();
    assert_eq!((host.worker("base"), host.worker("spell")), (base, spell));
    assert!(!host.reaches(base, "spell", spell), "the two are kept apart");
    host.done(restart("spell"));
    assert!(host.reaches(base, "spell", host.worker("spell")));
}

#[test]
fn a_callee_that_keeps_a_channel_is_killed_so_that_an_unpublish_holds() {
    let mut host = running_platform();
    let spell = host.worker("spell");
    host.processes.get_mut(&spell).unwrap().vices.insert(Vice::KeepsChannels);
    let id = crate::api::OperationId("unpublish".to_owned());
    host.submit("unpublish", unpublish("spell"));
    host.deliver_all();
    assert!(!host.finished.contains_key(&id), "not while a call could arrive");
    let timers: Vec<Timer> = host.timers.keys().filter(|it| matches!(it, Timer::CalleeReleased(_))).cloned().collect();
    host.due(&timers[0]);
    assert!(host.finished.contains_key(&id));
    assert!(!host.processes.contains_key(&spell));
}

#[test]
fn a_base_that_keeps_a_route_is_killed_so_that_an_unpublish_holds() {
    let mut host = running_platform();
    let base = host.worker("base");
    host.processes.get_mut(&base).unwrap().vices.insert(Vice::IgnoresRoutes);
    let id = crate::api::OperationId("unpublish".to_owned());
    host.submit("unpublish", unpublish("site"));
    host.deliver_all();
    assert!(!host.finished.contains_key(&id));
    let withdrawal =
        host.timers.keys().rfind(|it| matches!(it, Timer::Routes { worker, .. } if *worker == base)).cloned();
    host.due(&withdrawal.unwrap());
    assert!(host.finished.contains_key(&id) && !host.processes.contains_key(&base));
}

#[test]
fn a_base_gets_routes_to_what_it_wants_and_nobody_else_does() {
    let mut host = running_platform();
    host.install(module("extra", 1).serving("extra").package());
    host.done(start("extra"));
    host.done(publish("extra"));
    let (base, site, extra) = (host.worker("base"), host.worker("site"), host.worker("extra"));
    for worker in [base, site] {
        host.event(Event::Message { worker, message: ToSupervisor::Want { service: service("extra") } });
    }
    host.deliver_all();
    assert!(host.reaches(base, "extra", extra) && !host.reaches(site, "extra", extra));
    host.restart_supervisor();
    host.quiesce();
    assert!(host.reaches(base, "extra", extra), "what it holds says what it wants");
}

#[test]
fn who_maps_nothing_is_asked_again_and_killed_if_it_lets_nothing_go() {
    let mut host = platform();
    host.done(start("words"));
    host.vice("spell", 1, &[Vice::MapsNothing]);
    for module in ["spell", "site"] {
        host.done(start(module));
    }
    host.submit("publish", publish("spell"));
    host.deliver_all();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    assert!(!host.reaches(site, "spell", spell));
    let late = host.timers.keys().find(|it| matches!(it, Timer::Mapped(_))).cloned().unwrap();
    host.processes.get_mut(&spell).unwrap().vices.clear();
    host.due(&late);
    host.quiesce();
    assert!(host.reaches(site, "spell", spell));
}

#[test]
fn routes_are_acknowledged_by_table() {
    for (table, counts) in [
        (Some(RouteTable::Http), true),
        (Some(RouteTable::Services), false),
        // Protocol 1 did not say.
        (None, true),
    ] {
        let mut host = platform();
        host.vice("base", 1, &[Vice::IgnoresRoutes]);
        host.ask(start("base")).unwrap();
        host.deliver_all();
        let base = host.worker("base");
        let http = |host: &Host| host.state.slots.get(base).unwrap().http.unacknowledged.clone();
        let epoch = *http(&host).first().expect("HTTP routes have been sent");
        host.event(Event::Message { worker: base, message: ToSupervisor::RoutesApplied { table, epoch } });
        assert_eq!(http(&host).is_empty(), counts, "{table:?}");
    }
}
