//! Swaps that hand state over: nothing that was counted is lost, and whatever goes wrong, the old worker is called again.

use std::collections::BTreeSet;
use std::time::Duration;

use mortise_control::{ExportedState, ToSupervisor, WorkerId};

use super::host::{Host, Source};
use super::platform::running_platform;
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, OperationId, OperationState};
use crate::lifecycle::step::Step;
use crate::lifecycle::{Event, ExitStatus, Handover, ModuleSpec, Timer};

const TIMEOUT: Duration = Duration::from_secs(5);

impl ModuleSpec {
    pub(super) fn handing_over(mut self, version: u32, accepts: &[u32]) -> Self {
        let accepts: BTreeSet<u32> = accepts.iter().copied().collect();
        self.handover = Some(Handover { version, accepts, max_bytes: 1 << 20, timeout: TIMEOUT });
        self
    }
}

fn counter(major: u64) -> ModuleSpec {
    let state = u32::try_from(major).unwrap();
    module("counter", major).serving("counter").handing_over(state, &[1, 2])
}

/// A module whose worker counts, in two versions, the first in charge, and a module that calls it.
fn counting() -> Host {
    counting_in(running_platform())
}

fn counting_in(mut host: Host) -> Host {
    host.install(counter(1).package());
    host.install(counter(2).package());
    host.install(module("shop", 1).calling("counter").package());
    host.done(start_version("counter", 1));
    host.done(publish("counter"));
    host.done(start("shop"));
    host
}

fn id() -> OperationId {
    OperationId("swap".to_owned())
}

/// Until the operation has come to a step.
fn come_to(host: &mut Host, step: Step) {
    while !host.state.operations.get(&id()).unwrap().has_taken(step) {
        assert!(
            host.deliver(),
            "it never comes to {step:?}: {:#?}",
            host.log.iter().rev().take(20).collect::<Vec<_>>()
        );
    }
}

/// The worker that was there is called, as before.
fn check_old_serves(host: &Host, old: WorkerId) {
    assert_eq!(host.worker("counter"), old);
    assert!(
        host.reaches(host.worker("shop"), "counter", old),
        "{:#?}",
        host.log.iter().rev().take(20).collect::<Vec<_>>()
    );
    assert!(host.handed.is_empty(), "memory is held: {:?}", host.handed);
}

/// Why the swap failed.
fn failure(host: &Host) -> String {
    let ended = &host.finished[&id()];
    assert_eq!(ended.state, OperationState::Failed, "{ended:#?}");
    ended.error.clone().unwrap().message
}

#[test]
fn calls_are_held_back_from_before_the_export_until_the_new_worker_has_the_state() {
    let mut host = counting();
    let (shop, old) = (host.worker("shop"), host.worker("counter"));
    host.submit("swap", swap("counter", 2));
    come_to(&mut host, Step::Hold);
    let mut exported = false;
    while !host.finished.contains_key(&id()) {
        let nobody = !host.ready("counter").into_iter().any(|it| host.reaches(shop, "counter", it));
        let was = exported;
        exported |= host.processes.get(&old).is_some_and(|it| it.exported);
        assert!(nobody || !was || host.processes.values().any(|it| it.imported), "somebody is called in between");
        assert!(host.deliver());
    }
    let ended = &host.finished[&id()];
    assert_eq!(ended.state, OperationState::Done, "{ended:#?}");
    let steps: Vec<&str> = ended.steps.iter().map(|it| &*it.step).collect();
    let expected = ["accept", "start", "ready", "hold", "export", "import", "commit", "flip", "drain", "clean-up"];
    assert_eq!(steps, expected);
    let said = ended.steps[5].said.as_deref().unwrap();
    assert!(said.starts_with("9 bytes of version 1; calls were held back for "), "{said}");
    let new = host.worker("counter");
    assert!(new != old && host.processes[&new].imported && host.reaches(shop, "counter", new));
    host.quiesce();
}

#[test]
fn whatever_a_worker_makes_of_it_the_old_one_is_called_again() {
    let cases: [(u64, Vice, &str); 7] = [
        (1, Vice::ExportsNothing, "did not export its state within handover.timeout = 5s"),
        (1, Vice::CannotExport, "exports no state: the state is locked"),
        (1, Vice::ExportsTooMuch, "exports 18446744073709551615 bytes of state, and handover.max_bytes is 1M"),
        (1, Vice::ExportsAnother, "exports state of version 8, and its module.toml says handover.version = 1"),
        (1, Vice::MapsState, "cannot be handed over: the worker still has its memory mapped"),
        (2, Vice::ImportsNothing, "did not import the state within handover.timeout = 5s"),
        (2, Vice::RefusesState, "refuses the state of version 1: no count in it"),
    ];
    for (major, vice, why) in cases {
        let mut host = counting();
        let old = host.worker("counter");
        host.vice("counter", major, &[vice]);
        if let Some(process) = host.processes.get_mut(&old).filter(|_| major == 1) {
            process.vices.insert(vice);
        }
        host.submit("swap", swap("counter", 2));
        host.quiesce();
        let failed = failure(&host);
        assert!(failed.contains(why) && failed.contains("rolled back"), "{vice:?}: {failed}");
        check_old_serves(&host, old);
        // Once it is mended, the same module is swapped.
        host.vices.clear();
        host.processes.get_mut(&old).unwrap().vices.clear();
        host.done(swap("counter", 2));
        host.quiesce();
    }
}

#[test]
fn a_call_that_does_not_end_in_time_keeps_the_old_worker_and_costs_it_nothing() {
    let mut host = counting();
    let old = host.worker("counter");
    host.processes.get_mut(&old).unwrap().vices.insert(Vice::KeepsChannels);
    host.submit("swap", swap("counter", 2));
    host.deliver_all();
    host.due(&Timer::Handover(id()));
    let failed = failure(&host);
    assert!(
        failed.contains(&format!("calls that worker {old} had begun did not end within handover.timeout = 5s")),
        "{failed}"
    );
    check_old_serves(&host, old);
    // The call goes on, long after what a drain may take.
    for _ in 0..20 {
        assert!(host.tick());
        host.deliver_all();
    }
    check_old_serves(&host, old);
    let again = host.ask(swap("counter", 2)).unwrap().error.unwrap().message;
    assert!(again.contains("before an earlier hand-over have not ended"), "{again}");
    // It ends at last.
    let process = host.processes.get_mut(&old).unwrap();
    process.vices.clear();
    let ended: Vec<_> = process
        .channels
        .keys()
        .copied()
        .filter(|it| !host.state.edges.values().any(|edge| *edge == crate::lifecycle::channel::EdgeState::Channel(*it)))
        .collect();
    assert_eq!(ended.len(), 1, "one channel is left of it");
    let said = process.close(ended[0]).unwrap();
    host.says(old, said);
    host.quiesce();
    host.done(swap("counter", 2));
    host.quiesce();
}

#[test]
fn a_worker_that_dies_in_between_or_loses_its_connection_ends_it() {
    for step in [Step::Hold, Step::Export, Step::Import] {
        for which in [1, 2] {
            for dies in [true, false] {
                let mut host = counting();
                let old = host.worker("counter");
                // Whoever is waited for takes his time.
                let slow = [Vice::KeepsChannels, Vice::ExportsNothing];
                let slow = if step == Step::Hold { slow[0] } else { slow[1] };
                if step != Step::Import {
                    host.processes.get_mut(&old).unwrap().vices.insert(slow);
                }
                host.vice("counter", 2, &[Vice::ImportsNothing]);
                host.submit("swap", swap("counter", 2));
                come_to(&mut host, step);
                let new = host.ready("counter").into_iter().find(|it| *it != old).unwrap();
                let victim = if which == 1 { old } else { new };
                if dies {
                    host.exit(victim, ExitStatus::Signal(9));
                } else {
                    host.break_connection(victim);
                }
                host.processes.values_mut().for_each(|it| it.vices.clear());
                host.vices.clear();
                host.quiesce();
                let failed = failure(&host);
                assert!(failed.contains(&victim.to_string()), "{step:?} {which} {dies}: {failed}");
                let serves = host.worker("counter");
                assert_eq!(serves == old, which == 2 || !dies, "{step:?}: only its own death ends the old worker");
                check_old_serves(&host, serves);
            }
        }
    }
}

#[test]
fn a_commit_that_the_disk_refuses_has_the_old_worker_called_again() {
    let mut host = counting();
    let old = host.worker("counter");
    host.submit("swap", swap("counter", 2));
    come_to(&mut host, Step::Import);
    while !host.state.operations.get(&id()).unwrap().has_taken(Step::Commit) {
        host.store_fails = u32::from(host.processes.values().any(|it| it.imported));
        assert!(host.deliver());
    }
    host.store_fails = 0;
    host.quiesce();
    assert_eq!(host.finished[&id()].error.as_ref().unwrap().code, ErrorCode::Storage);
    check_old_serves(&host, old);
}

#[test]
fn a_new_worker_that_dies_while_the_commit_is_written_does_not_bring_the_old_state_back() {
    let mut host = counting();
    let (shop, old) = (host.worker("shop"), host.worker("counter"));
    host.submit("swap", swap("counter", 2));
    come_to(&mut host, Step::Commit);
    let new = host.ready("counter").into_iter().find(|it| *it != old).unwrap();
    host.exit(new, ExitStatus::Signal(9));
    let mut written = host.coming.remove(&Source::Store).unwrap_or_default();
    while host.deliver() {
        assert!(!host.reaches(shop, "counter", old));
        written.extend(host.coming.remove(&Source::Store).unwrap_or_default());
    }
    written.into_iter().for_each(|it| host.event(it));
    while host.deliver() {
        assert!(!host.reaches(shop, "counter", old), "what it would count is lost");
    }
    host.quiesce();
    assert_eq!(host.finished[&id()].state, OperationState::Done);
    assert!(host.reaches(shop, "counter", host.worker("counter")) && !host.processes.contains_key(&old));
}

#[test]
fn the_supervisors_death_rolls_back_before_the_commit_and_forward_after_it() {
    let mut moment = 0;
    let (mut back, mut forward, mut held) = (0, 0, 0);
    loop {
        let mut host = counting();
        let (shop, old) = (host.worker("shop"), host.worker("counter"));
        host.submit("swap", swap("counter", 2));
        let delivered = (0..moment).take_while(|_| host.deliver()).count();
        let accepted = host.on_disk(&id()).is_some();
        held += u32::from(host.state.operations.get(&id()).is_some_and(|it| it.handover.is_some()));
        let committed = host.disk.modules.iter().any(|it| it.key == key("counter") && it.version == Some(version(2)));
        host.restart_supervisor();
        while host.deliver() {
            assert!(!committed || !host.reaches(shop, "counter", old), "after {moment} events");
        }
        host.quiesce();
        let serves = host.worker("counter");
        assert!(host.reaches(shop, "counter", serves), "after {moment} events");
        assert_eq!(serves != old, committed, "after {moment} events");
        (back, forward) = (back + u32::from(!committed), forward + u32::from(committed));
        if accepted {
            let ended = host.on_disk(&id()).unwrap().clone();
            assert_eq!(ended.state == OperationState::Done, committed);
            let ticket = host.submit("swap", swap("counter", 2));
            host.deliver_all();
            assert_eq!(host.answers[&ticket].as_ref().unwrap(), &ended, "the same answer to the same id");
        }
        if delivered < moment {
            break;
        }
        moment += 1;
    }
    assert!(back > 5 && forward > 5 && held > 5, "{back} {forward} {held}");
}

#[test]
fn a_version_that_has_handed_its_state_over_is_kept_with_it() {
    let mut host = counting();
    let old = host.worker("counter");
    host.done(swap_and_keep("counter", 2));
    assert!(host.processes[&old].frozen);
    // An operator who goes back gets what it had: nothing is imported, whatever the one in charge would say.
    let new = host.ready("counter").into_iter().find(|it| *it != old).unwrap();
    host.processes.get_mut(&new).unwrap().vices.insert(Vice::CannotExport);
    host.processes.get_mut(&old).unwrap().exported = false;
    let back = host.done(rollback("counter"));
    assert!(back.steps.iter().all(|it| it.step != "export"), "{back:#?}");
    assert!(host.reaches(host.worker("shop"), "counter", old) && !host.processes[&old].imported);
}

#[test]
fn what_would_lose_state_is_refused_with_the_figures_unless_it_is_asked_for() {
    let mut host = counting();
    host.install(module("counter", 3).serving("counter").package());
    host.install(module("counter", 4).serving("counter").handing_over(4, &[2, 4]).package());
    let refused = |host: &mut Host, request, why: &str| {
        let error = host.ask(request).unwrap_err();
        assert!(error.message.contains(why), "{error:?}");
        error.remedy.unwrap_or_default()
    };
    let remedy = refused(&mut host, swap("counter", 3), "1.0.0 hands its state over, and 3.0.0 has no [handover]");
    assert!(remedy.contains("mortise swap counter@3.0.0 --without-state"), "{remedy}");
    refused(&mut host, swap("counter", 4), "1.0.0 exports state of version 1, and 4.0.0 accepts 2, 4");
    refused(&mut host, canary("counter", 2, &[50]), "state goes to one version all at once");
    refused(
        &mut host,
        apply_group("all", &[("counter", 2)], None),
        "modules.counter: default/counter hands its state over",
    );
    host.done(beside("counter", 2));
    refused(&mut host, swap("counter", 2), "2.0.0 runs beside 1.0.0 and has state of its own");
    host.done(discard("counter"));
    host.done(scale("counter", 2));
    refused(&mut host, swap("counter", 2), "it runs 2 instances, whose state is not one");
    host.done(scale("counter", 1));
    let done = host.done(without_state(swap("counter", 3)));
    assert!(done.steps.iter().all(|it| it.step != "hold"), "{done:#?}");
    // A version without state has none to hand over.
    host.done(swap("counter", 2));
    host.quiesce();
}

#[test]
fn a_module_that_is_not_ready_has_no_state_to_hand_over() {
    let mut host = counting();
    let old = host.worker("counter");
    host.vice("counter", 1, &[Vice::NeverReady]);
    host.exit(old, ExitStatus::Signal(9));
    host.deliver_all();
    let failed = host.ask(swap("counter", 2)).unwrap().error.unwrap();
    assert!(failed.message.contains("is not ready"), "{failed:?}");
    assert!(failed.remedy.unwrap().contains("--without-state"));
    host.done(without_state(swap("counter", 2)));
}

#[test]
fn code_that_does_not_hand_over_what_its_module_toml_says_never_comes_to_serve() {
    for (said, code) in [(Some(3), None), (None, Some(3)), (Some(3), Some(4))] {
        let mut host = counting();
        let mut spec = module("liar", 1);
        spec.handover = said.and_then(|it| module("liar", 1).handing_over(it, &[it]).handover);
        host.install(spec.package());
        host.vice("liar", 1, &[Vice::NeverReady]);
        host.submit("start", start("liar"));
        host.deliver_all();
        let worker = host.processes.values().find(|it| it.order.key == key("liar")).unwrap().order.worker;
        host.says(worker, ToSupervisor::Declare { services: Vec::new(), clients: Vec::new(), state: code });
        host.says(worker, ToSupervisor::Ready);
        host.deliver_all();
        let told = host.told.iter().any(|it| it.contains("its code") && it.contains("by its module.toml it"));
        assert!(told, "{:?}", host.told);
    }
}

#[test]
fn words_of_a_hand_over_that_nobody_asked_for_change_nothing() {
    let mut host = counting();
    let (shop, old) = (host.worker("shop"), host.worker("counter"));
    let before = host.actions;
    for handover in [0, 1, u64::MAX] {
        for worker in [shop, old] {
            let outcome = Ok(ExportedState { version: 1, len: 9 });
            host.says(worker, ToSupervisor::StateExported { handover, outcome });
            host.says(worker, ToSupervisor::StateImported { handover, outcome: Ok(()) });
            host.event(Event::StateSealed { operation: id(), handover, result: Ok(()) });
        }
    }
    host.deliver_all();
    assert_eq!(host.actions, before);
    // While one is under way, of the wrong worker or out of turn.
    host.processes.get_mut(&old).unwrap().vices.insert(Vice::ExportsNothing);
    host.submit("swap", swap("counter", 2));
    come_to(&mut host, Step::Export);
    let handover = *host.handed.keys().next().unwrap();
    let new = host.ready("counter").into_iter().find(|it| *it != old).unwrap();
    for worker in [shop, new] {
        host.says(worker, ToSupervisor::StateExported { handover, outcome: Ok(ExportedState { version: 1, len: 9 }) });
    }
    host.says(new, ToSupervisor::StateImported { handover, outcome: Ok(()) });
    host.deliver_all();
    assert!(!host.state.operations.get(&id()).unwrap().has_taken(Step::Import));
    host.due(&Timer::Handover(id()));
    host.quiesce();
    check_old_serves(&host, old);
}
