//! Random requests, crashes, broken connections, forged messages, failures of store and host, deaths of the supervisor; then
//! peace. The simulated host checks each action; here it is checked that after the faults what is wanted is what is.

use mortise_control::shadow::Shadowed;
use mortise_control::{ChannelId, ExportedState, Phase, Released, ToSupervisor, WorkerId};
use proptest::prelude::*;

use super::host::Host;
use super::process::Vice;
use super::world::*;
use crate::api::{Desired, OperationState, Request, Steering};
use crate::lifecycle::worker::Life;
use crate::lifecycle::{CommitId, Event, ExitStatus, ModuleSpec, Remains, Ticket};
use crate::store::EndKind;

const MODULES: [&str; 7] = ["words", "spell", "markdown", "site", "legacy", "base", "counter"];

fn specs() -> Vec<ModuleSpec> {
    let mut specs = Vec::new();
    for major in [1, 2] {
        let mut legacy = module("legacy", major).offering("legacy", "/legacy");
        legacy.runtime = crate::lifecycle::Runtime::Http;
        legacy.restart = crate::lifecycle::RestartPolicy::OnFailure;
        specs.extend([
            module("words", major).holding("words"),
            module("spell", major).serving("spell").mapping("words").calling("markdown"),
            module("markdown", major).serving("markdown").calling("spell").times(2),
            module("site", major)
                .offering("site", "/")
                .calling("spell")
                .calling("markdown")
                .calling("counter")
                .times(major as u32),
            legacy,
            module("counter", major).serving("counter").calling("spell").handing_over(major as u32, &[1, 2]),
            module("base", major).base().calling("spell"),
        ]);
    }
    specs
}

#[derive(Clone, Debug)]
enum Command {
    Request(u8, u8, u8),
    Deliver(u8),
    Tick,
    Crash(u8),
    BreakConnection(u8),
    StoreFails(u8),
    SpawnFails,
    ChannelFails,
    LoadFails,
    GroupBusy,
    Vice(u8, u8, u8),
    Virtue,
    Forge(u8, u8),
    Die(u8),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        12 => (0..27u8, 0..7u8, 1..3u8).prop_map(|(what, module, major)| Command::Request(what, module, major)),
        12 => (1..60u8).prop_map(Command::Deliver),
        4 => Just(Command::Tick),
        3 => any::<u8>().prop_map(Command::Crash),
        2 => any::<u8>().prop_map(Command::BreakConnection),
        1 => (1..3u8).prop_map(Command::StoreFails),
        1 => Just(Command::SpawnFails),
        1 => Just(Command::ChannelFails),
        1 => Just(Command::LoadFails),
        1 => Just(Command::GroupBusy),
        3 => (0..7u8, 1..3u8, 0..22u8).prop_map(|(module, major, vice)| Command::Vice(module, major, vice)),
        1 => Just(Command::Virtue),
        3 => (any::<u8>(), 0..14u8).prop_map(|(worker, what)| Command::Forge(worker, what)),
        2 => any::<u8>().prop_map(Command::Die),
    ]
}

const VICES: [Vice; 22] = [
    Vice::Silent,
    Vice::NeverReady,
    Vice::Crashes,
    Vice::Leaves,
    Vice::WrongServices,
    Vice::MapsNothing,
    Vice::KeepsChannels,
    Vice::IgnoresRoutes,
    Vice::IgnoresDrain,
    Vice::IgnoresTerm,
    Vice::Mute,
    Vice::Unwell,
    Vice::NeverFrozen,
    Vice::NeverThawed,
    Vice::Errs,
    Vice::ExportsNothing,
    Vice::CannotExport,
    Vice::ExportsTooMuch,
    Vice::ExportsAnother,
    Vice::MapsState,
    Vice::ImportsNothing,
    Vice::RefusesState,
];

fn request(what: u8, module: &str, major: u64) -> Request {
    match what {
        0 => start(module),
        1 => start_version(module, major),
        2 => stop(module),
        3 => restart(module),
        4 => swap(module, major),
        5 => publish(module),
        6 => unpublish(module),
        7 => swap_and_keep(module, major),
        8 => rollback(module),
        9 => discard(module),
        10 => scale(module, major as u32),
        11 => beside(module, major),
        12 => apply_routes(module, major as u32),
        13 => rollback_routes(),
        14 => share_out(module, major as u32 * 40),
        15 => canary(module, major, &[10, 50, 100]),
        16 => steer(module, Steering::Pause),
        17 => steer(module, Steering::Resume),
        18 => steer(module, Steering::Abort),
        19 => limit(module, major),
        20 => apply_group("shop", &[("spell", major), ("site", major), (MODULES[2], 3 - major)], Some(600_000)),
        21 => apply_group("words", &[("spell", major), ("legacy", major)], None),
        22 => rollback_group(if major == 1 { "shop" } else { "words" }),
        23 => remove_group("words"),
        24 => shadow(module, (major as u32 - 1) * 40),
        25 => without_state(swap(module, major)),
        _ => uninstall(module, Some(major)),
    }
}

fn pick(host: &Host, which: u8) -> Option<WorkerId> {
    let all: Vec<WorkerId> = host.processes.keys().copied().collect();
    (!all.is_empty()).then(|| all[which as usize % all.len()])
}

fn forged(host: &Host, worker: WorkerId, what: u8) -> Event {
    let channel = host.processes.values().flat_map(|it| it.channels.keys()).next().copied().unwrap_or(ChannelId(1));
    let handover = host.handed.keys().next().copied().unwrap_or(1);
    let old = WorkerId { generation: worker.generation.saturating_sub(1), ..worker };
    let message = match what {
        0 => ToSupervisor::Ready,
        1 => ToSupervisor::Mapped { channel },
        2 => ToSupervisor::Released(Released { channel: ChannelId(99), calls: 1 }),
        3 => ToSupervisor::RoutesApplied { table: None, epoch: u64::MAX },
        4 => ToSupervisor::HttpDrained { worker: old },
        5 => ToSupervisor::Drained { served: 1 },
        6 => ToSupervisor::Violation { channel, what: "a lie".to_owned() },
        7 => ToSupervisor::Want { service: service("markdown") },
        8 => ToSupervisor::Shadowed(Shadowed { service: service("spell"), run: 1, methods: Vec::new() }),
        9 => return Event::Exited { worker: old, exit: crate::lifecycle::Exit::default() },
        10 => return Event::GroupGone { worker, remains: Remains::default() },
        11 => ToSupervisor::StateImported { handover, outcome: Ok(()) },
        12 => ToSupervisor::StateExported { handover, outcome: Ok(ExportedState { version: 1, len: 1 }) },
        _ => return Event::Persisted { commit: CommitId(u64::MAX), result: Err("forged".to_owned()) },
    };
    Event::Message { worker, message }
}

fn run(host: &mut Host, commands: Vec<Command>) {
    for (number, command) in commands.into_iter().enumerate() {
        match command {
            Command::Request(what, module, major) => {
                let request = request(what, MODULES[module as usize], major.into());
                let _: Ticket = host.submit(&format!("op-{number}"), request);
            }
            Command::Deliver(times) => (0..times).for_each(|_| _ = host.deliver()),
            Command::Tick => _ = host.tick(),
            Command::Crash(which) => {
                if let Some(worker) = pick(host, which) {
                    host.exit(worker, if which % 3 == 0 { ExitStatus::Code(0) } else { ExitStatus::Signal(11) });
                }
            }
            Command::BreakConnection(which) => {
                if let Some(worker) = pick(host, which) {
                    host.break_connection(worker);
                }
            }
            Command::StoreFails(times) => host.store_fails = times.into(),
            Command::SpawnFails => {
                host.spawn_fails += 1;
                host.short = !host.short;
            }
            Command::ChannelFails => host.channel_fails += 1,
            Command::LoadFails => host.load_fails += 1,
            Command::GroupBusy => host.busy_groups += 1,
            Command::Vice(module, major, vice) => {
                host.vice(MODULES[module as usize], major.into(), &[VICES[vice as usize]]);
            }
            Command::Virtue => host.vices.clear(),
            Command::Forge(which, what) => {
                if let Some(worker) = pick(host, which) {
                    let event = forged(host, worker, what);
                    host.event(event);
                }
            }
            Command::Die(which) => {
                if which % 2 == 0 {
                    host.die_during(Event::Timer(crate::lifecycle::Timer::Persist));
                } else {
                    let request = request(which % 7, MODULES[which as usize % MODULES.len()], 1);
                    let package = None;
                    let operation = crate::api::OperationId(format!("last-{number}"));
                    let submitted = crate::lifecycle::Submitted {
                        ticket: Ticket(u64::MAX),
                        operation,
                        request,
                        package,
                        used: Vec::new(),
                    };
                    host.die_during(Event::Request(Box::new(submitted)));
                }
            }
        }
    }
}

/// No new faults, and processes behave. Those that have learnt a vice keep it until they are replaced.
fn make_peace(host: &mut Host) {
    host.vices.clear();
    for process in host.processes.values_mut() {
        process.vices.clear();
    }
    host.deliver_all();
    for module in MODULES {
        // One that is paused would never end.
        let _: Ticket = host.submit(&format!("resume-{module}"), steer(module, Steering::Resume));
    }
    (host.store_fails, host.spawn_fails, host.channel_fails, host.load_fails, host.busy_groups) = (0, 0, 0, 0, 0);
    host.quiesce();
}

/// What is wanted is what is.
fn check_quiet(host: &Host) {
    let state = &host.state;
    let unended: Vec<_> = state.operations.unended().collect();
    assert!(state.journal.idle() && unended.is_empty(), "unended: {unended:#?}");
    assert!(host.disk.operations.iter().all(|it| it.operation.state != OperationState::Running));
    for worker in state.slots.workers() {
        let at_rest = match worker.life {
            Life::Running => worker.ready && worker.condemned.is_none(),
            Life::Settled(_) => true,
            Life::Waiting => state.resources_for(&worker.key, worker.maps()).is_err(),
            _ => false,
        };
        assert!(at_rest, "{worker:#?}");
        assert_eq!(worker.life == Life::Running, host.processes.contains_key(&worker.id));
        if worker.life == Life::Running {
            let said = state.modules[&worker.key].record.limits;
            assert_eq!(host.limits[&worker.id], said, "the kernel keeps worker {} within other limits", worker.id);
        }
        assert!(worker.reported.is_empty(), "never decided: {:?}", worker.reported);
        let stale = worker.dropped.keys().find(|it| !state.channels.contains_key(it));
        assert!(stale.is_none(), "{} {:?} {:?}", worker.id, worker.dropped, worker.routes);
    }
    for id in host.processes.keys() {
        assert!(state.slots.get(*id).is_some(), "process {id} belongs to nobody");
    }
    for record in &host.disk.modules {
        let module = &state.modules[&record.key];
        assert_eq!(module.record, *record);
        let workers: Vec<_> = module.workers.iter().filter_map(|it| state.slots.get(*it)).collect();
        match (record.desired, module.current()) {
            (Desired::Installed, _) => assert!(workers.is_empty(), "{workers:#?}"),
            (Desired::Running, None) => panic!("{record:?} runs a version that is not installed"),
            (Desired::Running, Some(it)) if !it.spec.resources().is_empty() => {
                assert!(state.all_loaded(&record.key, &it.spec.version));
            }
            (Desired::Running, Some(it)) => {
                let current = workers.iter().filter(|it| it.cohort == record.cohort).count();
                assert_eq!(current, module.wanted(&it.spec) as usize, "{workers:#?}");
                let failed =
                    workers.iter().any(|it| matches!(it.life, Life::Settled(EndKind::Failed | EndKind::Exited)));
                let starved = workers.iter().any(|it| it.life == Life::Waiting);
                assert!(failed || starved || workers.iter().all(|it| module.stands(it.cohort)), "{workers:#?}");
                if let Some(beside) = &record.beside {
                    assert!(record.kept.is_none(), "a third generation: {record:?}");
                    let present = workers.iter().filter(|it| it.cohort == beside.cohort).count();
                    let wanted = module.wanted(&module.versions[&beside.version].spec);
                    assert_eq!(present, wanted as usize, "{workers:#?}");
                }
            }
        }
    }
    check_calls(host);
    for slot in state.slots.numbers() {
        assert!(!state.slots.slot(slot).unwrap().unsaved(slot));
    }
}

/// Every caller reaches every worker that answers what it requires, and nobody else.
fn check_calls(host: &Host) {
    let ready = |it: &&crate::lifecycle::worker::Worker| it.life == Life::Running && it.ready;
    let workers: Vec<_> = host.state.slots.workers().filter(ready).collect();
    let stands = |it: &crate::lifecycle::worker::Worker| host.state.modules[&it.key].stands(it.cohort);
    for caller in &workers {
        for callee in &workers {
            for provided in &callee.spec.provides {
                let record = &host.state.modules[&callee.key].record;
                let published = record.published.contains(&provided.service);
                if provided.http.is_some() {
                    continue;
                }
                let asks = caller.spec.requires.contains(&provided.service) || caller.wants.contains(&provided.service);
                let process = &host.processes[&caller.id];
                let routed = process.reaches(&provided.service, callee.id);
                let edge = crate::lifecycle::channel::Edge {
                    caller: caller.id,
                    callee: callee.id,
                    service: provided.service.clone(),
                };
                let parted = host.state.edges.get(&edge) == Some(&crate::lifecycle::channel::EdgeState::Parted);
                if published && asks && caller.key != callee.key && stands(callee) && !parted {
                    assert!(
                        host.reaches(caller.id, provided.service.as_str(), callee.id),
                        "{} does not reach {}",
                        caller.id,
                        callee.id
                    );
                } else if !published {
                    assert!(!routed);
                    let held =
                        process.channels.values().any(|it| it.peer == callee.id && it.service == provided.service);
                    assert!(!held, "{} holds a channel to {} without a grant", caller.id, callee.id);
                }
            }
        }
    }
    let bases: Vec<_> = host.processes.values().filter(|it| it.order.role == mortise_control::Role::Base).collect();
    for base in bases {
        for worker in &workers {
            let record = &host.state.modules[&worker.key].record;
            let published =
                worker.spec.provides.iter().any(|it| it.http.is_some() && record.published.contains(&it.service));
            let told = base.http.iter().flat_map(|it| &it.targets).any(|it| it.worker == worker.id);
            if stands(worker) {
                assert_eq!(published, told, "worker {} and the routes of {}", worker.id, base.order.worker);
            }
        }
        let dead = base.http.iter().flat_map(|it| &it.targets).any(|it| !host.processes.contains_key(&it.worker));
        assert!(!dead);
    }
}

fn check_stopped(host: &mut Host) {
    host.event(Event::StopAll);
    host.stopping = true;
    host.quiesce();
    assert!(host.all_stopped, "{:#?}", host.state);
    assert!(host.processes.is_empty() && host.groups.is_empty() && host.loaded.is_empty() && host.made.is_empty());
    assert!(host.disk.workers.iter().all(|it| it.occupant.is_none()));
}

fn case(seed: u64, commands: Vec<Command>) {
    let mut host = Host::random(seed);
    for spec in specs() {
        host.install(spec.package());
    }
    run(&mut host, commands);
    make_peace(&mut host);
    check_quiet(&host);
    check_stopped(&mut host);
}

/// All that there is runs and is published before the faults begin.
fn running_case(seed: u64, commands: Vec<Command>) {
    let mut host = Host::random(seed);
    for spec in specs() {
        host.install(spec.package());
    }
    for module in ["base", "words", "spell", "markdown", "site", "legacy", "counter"] {
        host.done(start_version(module, 1));
    }
    for module in ["spell", "markdown", "site", "legacy", "counter"] {
        host.done(publish(module));
    }
    run(&mut host, commands);
    make_peace(&mut host);
    check_quiet(&host);
    check_stopped(&mut host);
    assert!(host.processes.values().all(|it| it.phase != Phase::Ready));
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("STEP_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(150);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 4000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn after_faults_what_is_wanted_is_what_is(seed: u64, commands in prop::collection::vec(command(), 1..60)) {
        case(seed, commands);
    }

    #[test]
    fn a_running_platform_survives_faults(seed: u64, commands in prop::collection::vec(command(), 1..60)) {
        running_case(seed, commands);
    }
}

/// Requests for what is there already.
fn idle(times: usize) -> Vec<Command> {
    vec![Command::Request(0, 0, 1); times]
}

/// Found by the test above: a base that connects again while a version is being frozen counts as one that may use its workers, and says
/// nothing of them when they are thawed to end.
#[test]
fn a_version_that_is_kept_ends_though_its_base_has_connected_again() {
    use Command::{BreakConnection, ChannelFails, Deliver, Die, Request};
    let parts = [
        idle(3),
        vec![ChannelFails],
        idle(1),
        vec![ChannelFails],
        idle(4),
        vec![ChannelFails, ChannelFails],
        idle(3),
        vec![Die(0)],
        idle(6),
        vec![ChannelFails, Request(7, 3, 2), Deliver(41), BreakConnection(88)],
    ];
    running_case(0, parts.concat());
}

/// Found by the test above: a caller that gets SIGTERM before it has taken its routes is waited for no longer.
#[test]
fn routes_are_in_force_when_the_caller_that_has_not_taken_them_is_on_its_way_out() {
    use Command::{ChannelFails, Crash, Deliver, Die, Forge, LoadFails, Request, StoreFails, Tick};
    let parts = [
        vec![Deliver(1); 4],
        idle(1),
        vec![Die(155), StoreFails(1), Crash(75)],
        idle(2),
        vec![Deliver(8)],
        idle(1),
        vec![Deliver(13), LoadFails, Tick, LoadFails],
        idle(1),
        vec![Deliver(1), Tick],
        idle(1),
        vec![Deliver(1), Deliver(15), ChannelFails, Request(12, 0, 1), Deliver(13), Request(12, 0, 1), Die(44)],
        vec![Request(1, 1, 2), Forge(0, 0), Request(3, 3, 1), Deliver(16)],
    ];
    running_case(16_989_388_535_460_280_476, parts.concat());
}
