//! Calls that also go to the version beside: who is told to, and what callers tell of it.

use mortise_control::shadow::{Difference, MOST_EXAMPLES, MOST_METHODS, Piece, ShadowRoute, Shadowed, ShadowedMethod};
use mortise_control::{ToSupervisor, WorkerId};

use super::host::Host;
use super::platform::running_platform;
use super::world::*;
use crate::api::{ErrorCode, OperationId, OperationState, ShadowReport};
use crate::lifecycle::{Event, ExitStatus, Timer};

/// spell 2 runs beside spell 1; site and the base call it.
fn two_versions() -> Host {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").calling("helper").package());
    host.done(beside("spell", 2));
    host
}

fn beside_of(host: &Host) -> Vec<WorkerId> {
    let second = |it: &&super::process::Process| it.order.key == key("spell") && it.order.spec.version == version(2);
    host.processes.values().filter(second).map(|it| it.order.worker).collect()
}

fn told(host: &Host, caller: &str) -> Option<ShadowRoute> {
    let routes = &host.processes[&host.worker(caller)].routes;
    routes.iter().find(|it| it.service == service("spell")).expect("a route").shadow.clone()
}

/// The percent that a caller is told, if it has a channel to each worker beside for that.
fn percent(host: &Host, caller: &str) -> u32 {
    let Some(route) = told(host, caller) else { return 0 };
    let channels = &host.processes[&host.worker(caller)].channels;
    let mut peers: Vec<_> = route.channels.iter().map(|it| channels[it].peer).collect();
    peers.sort_unstable();
    assert_eq!(peers, beside_of(host));
    route.percent
}

fn report(host: &Host) -> Option<ShadowReport> {
    let snapshot = host.state.snapshot();
    let spell = snapshot.modules.iter().find(|it| it.module == name("spell")).unwrap();
    spell.shadow.as_ref().map(|it| ShadowReport::clone(it))
}

fn difference(path: &str) -> Difference {
    let (charge, beside) = (Piece::Nothing, Piece::Text(5));
    Difference { path: path.to_owned(), charge, beside, charge_bytes: 9, beside_bytes: 14, charge_ns: 1, beside_ns: 2 }
}

fn method(name: &str, equal: u64, different: u64) -> ShadowedMethod {
    let examples = if different > 0 { vec![difference(".words[3]")] } else { Vec::new() };
    let mut latency = vec![0; 12];
    latency[11] = u64::saturating_add(equal, different);
    ShadowedMethod {
        method: name.to_owned(),
        equal,
        different,
        charge_latency_log2: latency.clone(),
        beside_latency_log2: latency,
        examples,
        ..ShadowedMethod::default()
    }
}

fn tell(host: &mut Host, worker: WorkerId, run: u64, methods: Vec<ShadowedMethod>) {
    let shadowed = Shadowed { service: service("spell"), run, methods };
    host.event(Event::Message { worker, message: ToSupervisor::Shadowed(shadowed) });
    // It is shown at once, or when the time for that has come.
    let timer = Timer::Shadowing(key("spell"));
    if host.timers.contains_key(&timer) {
        host.due(&timer);
    }
}

/// Method, compared, different.
fn figures(host: &Host) -> Vec<(String, u64, u64)> {
    let methods = report(host).map(|it| it.methods).unwrap_or_default();
    methods.into_iter().map(|it| (it.method, it.compared, it.different)).collect()
}

#[test]
fn callers_of_the_tenant_are_told_the_share_and_the_workers_beside() {
    let mut host = two_versions();
    assert_eq!((told(&host, "site"), report(&host)), (None, None));
    assert_eq!(host.ask(shadow("spell", 101)).unwrap_err().code, ErrorCode::Invalid);
    let refused = host.ask(shadow("site", 5)).unwrap_err();
    assert!(refused.remedy.unwrap().contains("mortise start site@VERSION --beside"));
    host.done(shadow("spell", 30));
    assert_eq!(["site", "base"].map(|it| percent(&host, it)), [30, 30]);
    assert_eq!(report(&host).map(|it| (it.beside, it.percent)), Some((version(2), 30)));
    // A worker beside that comes again is told of, too, and one that is not there is not.
    host.done(scale("spell", 2));
    assert_eq!((beside_of(&host).len(), percent(&host, "site")), (2, 30));
    host.done(scale("spell", 1));
    let lost = beside_of(&host)[0];
    host.exit(lost, ExitStatus::Signal(9));
    host.deliver_all();
    assert_eq!(told(&host, "site"), None);
    host.quiesce();
    assert_eq!(percent(&host, "site"), 30);
    host.done(shadow("spell", 0));
    assert_eq!((percent(&host, "site"), report(&host).map(|it| it.percent)), (0, Some(0)));
    for ends in [swap("spell", 2), discard("spell")] {
        let mut host = two_versions();
        host.done(shadow("spell", 30));
        host.done(ends);
        assert_eq!((told(&host, "site"), report(&host)), (None, None));
    }
}

#[test]
fn what_callers_tell_is_summed_up_also_when_they_end_or_the_supervisor_does() {
    let mut host = two_versions();
    host.done(shadow("spell", 30));
    let run = told(&host, "site").unwrap().run;
    let (site, base) = (host.worker("site"), host.worker("base"));
    tell(&mut host, site, run, vec![method("check", 1, 1)]);
    tell(&mut host, site, run, vec![method("check", 8, 1)]);
    tell(&mut host, base, run, vec![method("check", 1, 0), method("known", 3, 0)]);
    let expected = [("check".to_owned(), 10, 1), ("known".to_owned(), 3, 0)];
    assert_eq!(figures(&host), expected);
    let check = &report(&host).unwrap().methods[0];
    let example = &check.examples[0];
    assert_eq!((&*example.path, &*example.charge, &*example.beside), (".words[3]", "none", "text of 5 bytes"));
    assert!(check.beside.p99_ns.is_some_and(|it| (1 << 20..=1 << 21).contains(&it)), "{check:?}");
    // It goes on with another share, and a caller that comes again begins at nothing.
    host.done(shadow("spell", 60));
    assert_eq!(told(&host, "site").unwrap().run, run);
    host.exit(site, ExitStatus::Signal(9));
    host.quiesce();
    let again = host.worker("site");
    tell(&mut host, again, run, vec![method("check", 5, 0)]);
    assert_eq!(figures(&host)[0], ("check".to_owned(), 15, 1));
    // What the supervisor had in memory, the callers that there are tell again.
    host.restart_supervisor();
    host.quiesce();
    assert_eq!((percent(&host, "site"), figures(&host)), (60, vec![]));
    tell(&mut host, again, run, vec![method("check", 5, 0)]);
    assert_eq!(figures(&host), [("check".to_owned(), 5, 0)]);
    // The end of it keeps its figures, and another beginning has none.
    host.done(shadow("spell", 0));
    tell(&mut host, again, run, vec![method("check", 6, 0)]);
    assert_eq!(figures(&host), [("check".to_owned(), 6, 0)]);
    host.done(shadow("spell", 5));
    assert_ne!(told(&host, "site").unwrap().run, run);
    tell(&mut host, again, run, vec![method("check", 7, 0)]);
    assert_eq!(figures(&host), []);
}

#[test]
fn what_no_honest_caller_tells_changes_nothing() {
    let mut host = two_versions();
    host.done(shadow("spell", 30));
    let run = told(&host, "site").unwrap().run;
    let site = host.worker("site");
    let with = |change: fn(&mut ShadowedMethod)| {
        let mut it = method("check", 1, 1);
        change(&mut it);
        it
    };
    let lies = [
        vec![with(|it| it.method.clear())],
        vec![with(|it| it.method = "x".repeat(65))],
        vec![with(|it| it.method = "\u{1b}[2J".into())],
        vec![with(|it| it.charge_latency_log2 = vec![1; 33])],
        vec![with(|it| it.beside_latency_log2 = vec![1; 9_999])],
        vec![with(|it| it.examples = vec![difference(&"x".repeat(161))])],
        vec![with(|it| it.examples = vec![difference("\n")])],
        vec![with(|it| it.examples = vec![difference(""); MOST_EXAMPLES + 1])],
        vec![method("check", 1, 0); MOST_METHODS + 1],
    ];
    for lie in lies {
        tell(&mut host, site, run, lie);
        assert_eq!(figures(&host), []);
    }
    for (worker, run) in [(site, 0), (site, run + 1), (beside_of(&host)[0], run)] {
        tell(&mut host, worker, run, vec![method("check", 1, 1)]);
        assert_eq!(figures(&host), [], "{worker} {run}");
    }
    let foreign = Shadowed { service: service("helper"), run, methods: vec![method("check", 1, 1)] };
    host.event(Event::Message { worker: site, message: ToSupervisor::Shadowed(foreign) });
    assert_eq!(figures(&host), []);
    // Sums of lies do not overflow, and callers that come and go leave no more than is bounded.
    for round in 0..12 {
        let site = host.worker("site");
        let most = |at: u64| ShadowedMethod { failed: u64::MAX, ..method(&format!("m{round}-{at}"), 1 << 63, 1 << 63) };
        tell(&mut host, site, run, (0..MOST_METHODS as u64).map(most).collect());
        host.done(restart("site"));
    }
    let known = figures(&host);
    assert!(known.len() <= 9 * MOST_METHODS && known.iter().all(|it| it.1 == u64::MAX), "{}", known.len());
}

#[test]
fn the_supervisors_death_at_any_moment_ends_in_what_was_accepted() {
    for (before, after) in [(0, 30), (30, 0), (30, 60)] {
        let mut moment = 0;
        loop {
            let mut host = two_versions();
            if before > 0 {
                host.done(shadow("spell", before));
            }
            let id = OperationId("it".to_owned());
            host.submit(&id.0, shadow("spell", after));
            let delivered = (0..moment).take_while(|_| host.deliver()).count();
            host.restart_supervisor();
            host.quiesce();
            let done = host.on_disk(&id).is_some_and(|it| it.state == OperationState::Done);
            let expected = if done { after } else { before };
            assert_eq!(["site", "base"].map(|it| percent(&host, it)), [expected; 2], "after {moment} events");
            if delivered < moment {
                assert!(done);
                break;
            }
            moment += 1;
        }
        assert!(moment > 3, "{moment}");
    }
}
