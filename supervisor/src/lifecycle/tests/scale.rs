//! What an event costs in a large house. No clock is read: the work is counted in actions, and it must not grow with the
//! number of modules that have nothing to do with it.

use super::host::Host;
use super::world::*;

fn house(modules: usize) -> Host {
    let mut host = Host::new();
    host.checks = super::host::Checks::AtTheEnd;
    for n in 0..modules {
        let name = format!("m{n}");
        host.install(module(&name, 1).serving(&name).calling("common").package());
        host.done(start(&name));
    }
    host
}

/// Events and actions of publishing one service and withdrawing it.
fn publish_cost(host: &mut Host) -> (usize, u64) {
    let (events, actions) = (host.events, host.actions);
    host.done(publish("m1"));
    host.done(unpublish("m1"));
    (host.events - events, host.actions - actions)
}

#[test]
fn what_a_publish_does_depends_on_who_is_concerned_only() {
    let costs: Vec<_> = [10, 300].into_iter().map(|it| publish_cost(&mut house(it))).collect();
    assert_eq!(costs[0], costs[1]);
}

/// Run by hand: `STEP_MODULES=1000 cargo test --release -p mortise-supervisor lifecycle::tests::scale -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings and asserts nothing about them"]
fn the_time_of_one_event() {
    let largest: usize = std::env::var("STEP_MODULES").ok().and_then(|it| it.parse().ok()).unwrap_or(1000);
    for modules in [10, largest] {
        let mut host = house(modules);
        host.install(module("common", 1).serving("common").package());
        host.done(start("common"));
        let report = |what: &str, host: &mut Host, request| {
            (host.spent, host.slowest) = Default::default();
            let events = host.events;
            host.done(request);
            let events = (host.events - events) as u32;
            println!(
                "{modules:5} modules: {what:20} {events:5} events, mean {:?}, slowest {:?}",
                host.spent / events,
                host.slowest
            );
        };
        report("publish, no callers", &mut host, publish("m1"));
        report("swap nobody calls", &mut host, restart("m1"));
        report("unpublish", &mut host, unpublish("m1"));
        report("publish, all call", &mut host, publish("common"));
        report("restart, all call", &mut host, restart("common"));
        let timed = |what: &str, show: &mut dyn FnMut() -> crate::api::Snapshot| {
            let before = std::time::Instant::now();
            let _ = std::hint::black_box(show());
            println!("{modules:5} modules: {what:21} {:?}", before.elapsed());
        };
        timed("shown from nothing", &mut || host.state.snapshot());
        let _ = host.state.show();
        host.done(restart("m1"));
        timed("shown after a restart", &mut || host.state.show());
        timed("shown again", &mut || host.state.show());
    }
}
