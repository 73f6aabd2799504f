//! Swaps by steps: shares that grow, gates that are passed or not, and what steers them.

use super::host::{Host, Source};
use super::platform::running_platform;
use super::process::Vice;
use super::world::*;
use crate::api::{ErrorCode, Operation, OperationId, OperationState, Request, Steering};
use crate::lifecycle::step::Step;
use crate::lifecycle::{Event, ExitStatus, Timer};

fn two_versions() -> Host {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").package());
    host.install(module("spell", 3).serving("spell").mapping("words").package());
    host
}

/// A swap to the second version by two short steps, which errs or not.
fn by_two_steps(errs: bool) -> (Host, Request) {
    let mut host = two_versions();
    if errs {
        host.vice("spell", 2, &[Vice::Errs]);
    }
    let mut request = canary("spell", 2, &[5, 50]);
    if let Request::Swap { rollout: Some(rollout), .. } = &mut request {
        rollout.pause_ms = 2_000;
    }
    (host, request)
}

/// The supervisor's own view of which version has which share.
fn shares(host: &Host) -> (u64, Option<u32>) {
    let spell = host.state.snapshot().modules.into_iter().find(|it| it.module == name("spell")).unwrap();
    (spell.version.as_ref().unwrap().major, spell.beside_share)
}

fn id() -> OperationId {
    OperationId("it".to_owned())
}

fn begin(host: &mut Host, request: Request) {
    host.submit(&id().0, request);
    host.deliver_all();
}

fn look(host: &mut Host) {
    host.due(&Timer::Look(id()));
}

/// As many looks as a step takes.
fn step(host: &mut Host) {
    (0..60).for_each(|_| look(host));
}

fn operation(host: &Host) -> Operation {
    host.on_disk(&id()).expect("it was accepted").clone()
}

fn steps(operation: &Operation) -> Vec<&str> {
    operation.steps.iter().map(|it| it.step.as_str()).collect()
}

#[test]
fn a_good_version_gets_more_and_more_and_then_everything() {
    let mut host = two_versions();
    begin(&mut host, canary("spell", 2, &[5, 50]));
    assert_eq!(shares(&host), (1, Some(5)));
    step(&mut host);
    assert_eq!(shares(&host), (1, Some(50)), "{:#?}", operation(&host));
    step(&mut host);
    let done = host.finished[&id()].clone();
    assert_eq!(done.state, OperationState::Done, "{done:#?}");
    let taken = ["accept", "start", "ready", "beside", "share 5%", "share 50%", "commit", "flip", "drain", "clean-up"];
    assert_eq!(steps(&done), taken);
    let said = done.steps.iter().find(|it| it.step == "share 5%").and_then(|it| it.said.as_deref());
    assert_eq!(said, Some("60000 calls; error_rate 0.00 % against 0.00 %, restarts 0 against 0"));
    assert_eq!((shares(&host), done.receipt.unwrap().workers), ((2, None), 1));
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn one_that_errs_is_taken_back_at_once_and_the_answer_says_which_figure() {
    let mut host = two_versions();
    host.vice("spell", 2, &[Vice::Errs]);
    begin(&mut host, canary("spell", 2, &[5, 50]));
    let second = host.ready("spell")[1];
    look(&mut host);
    let failed = host.finished[&id()].clone();
    let error = failed.error.clone().unwrap();
    let said = "error_rate of 2.0.0 20.00 % against 0.00 % of 1.0.0, at most +1% allowed, at step 5 %; rolled back, the \
                workers that were there go on";
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Failed, said));
    assert_eq!(steps(&failed).last(), Some(&"roll-back"));
    assert_eq!((shares(&host), host.ready("spell").len()), ((1, None), 1));
    let killed = host.log.iter().any(|it| it.contains(&format!("Kill {{ worker: {second:?}")));
    assert!(!killed, "it is let finish what it has begun");
    host.done(beside("spell", 2));
}

#[test]
fn a_crash_in_a_step_takes_it_back_however_few_calls_there_were() {
    let mut host = two_versions();
    host.calls_a_look = 0;
    begin(&mut host, canary("spell", 2, &[5]));
    host.exit(host.ready("spell")[1], ExitStatus::Signal(11));
    host.deliver_all();
    let backoff = host.timers.keys().find(|it| matches!(it, Timer::Backoff(_))).cloned().expect("a backoff");
    host.due(&backoff);
    look(&mut host);
    let message = host.finished[&id()].error.clone().unwrap().message;
    assert!(message.starts_with("restarts of 2.0.0 1 against 0 of 1.0.0, at most 0 allowed, at step 5 %"), "{message}");
}

#[test]
fn a_step_lasts_until_there_are_enough_calls() {
    let mut host = two_versions();
    host.calls_a_look = 1;
    begin(&mut host, canary("spell", 2, &[5]));
    step(&mut host);
    assert_eq!(shares(&host), (1, Some(5)));
    assert_eq!(operation(&host).steps.last().unwrap().said.as_deref(), Some("waits for calls: 60 of 100"));
    (0..40).for_each(|_| look(&mut host));
    assert_eq!(shares(&host), (2, None));
}

#[test]
fn a_pause_holds_it_and_does_not_stop_the_judge() {
    let mut host = two_versions();
    begin(&mut host, canary("spell", 2, &[5, 50]));
    host.done(steer("spell", Steering::Pause));
    (0..3).for_each(|_| step(&mut host));
    assert_eq!(shares(&host), (1, Some(5)));
    host.done(steer("spell", Steering::Resume));
    assert_eq!(shares(&host), (1, Some(50)));
    host.done(steer("spell", Steering::Pause));
    step(&mut host);
    let second = host.ready("spell")[1];
    host.processes.get_mut(&second).unwrap().vices.insert(Vice::Errs);
    host.quiesce();
    assert_eq!(host.finished[&id()].state, OperationState::Failed);
    assert_eq!(shares(&host), (1, None));
}

#[test]
fn an_abort_ends_it_at_any_time_and_what_is_no_swap_is_not_steered() {
    let mut host = two_versions();
    let refused = host.ask(steer("spell", Steering::Abort)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    begin(&mut host, canary("spell", 2, &[5, 50]));
    let busy = host.ask(stop("spell")).unwrap_err();
    assert!(busy.remedy.unwrap().contains("mortise swap abort spell"));
    host.done(steer("spell", Steering::Abort));
    let message = host.finished[&id()].error.clone().unwrap().message;
    assert!(message.starts_with("aborted at step 5 %"), "{message}");
    assert_eq!((shares(&host), host.ready("spell").len()), ((1, None), 1));
    // While its workers are being started, too, and whatever makes workers beside those that are there.
    host.vice("spell", 2, &[Vice::NeverReady]);
    for (number, request) in [canary("spell", 2, &[5]), swap("spell", 2), beside("spell", 2)].into_iter().enumerate() {
        let id = format!("start-{number}");
        host.submit(&id, request);
        host.deliver_all();
        let early = host.ask(steer("spell", Steering::Pause)).unwrap_err();
        assert!(early.message.contains("still starting"), "{early:?}");
        host.done(steer("spell", Steering::Abort));
        let message = host.finished[&OperationId(id)].error.clone().unwrap().message;
        assert!(message.starts_with("aborted"), "{message}");
        assert_eq!(host.ready("spell").len(), 1);
    }
}

#[test]
fn what_steers_waits_for_the_change_that_is_on_its_way() {
    let mut host = two_versions();
    begin(&mut host, canary("spell", 2, &[5, 50]));
    (0..59).for_each(|_| look(&mut host));
    // The last look: the next share is on its way to the disk when the abort comes.
    let at = host.timers.remove(&Timer::Look(id())).unwrap();
    host.now = at;
    host.event(Event::Timer(Timer::Look(id())));
    assert!(host.deliver(), "the figures");
    host.submit("abort", steer("spell", Steering::Abort));
    host.deliver_all();
    let message = host.finished[&id()].error.clone().unwrap().message;
    assert!(message.starts_with("aborted at step 50 %"), "{message}");
    assert_eq!(host.finished[&OperationId("abort".to_owned())].state, OperationState::Done);
}

#[test]
fn a_full_disk_stops_it_where_it_is_until_there_is_room() {
    let mut host = two_versions();
    begin(&mut host, canary("spell", 2, &[5, 50]));
    (0..59).for_each(|_| look(&mut host));
    host.store_fails = 1;
    look(&mut host);
    assert_eq!(shares(&host), (1, Some(5)));
    look(&mut host);
    assert_eq!(shares(&host), (1, Some(50)));
    host.store_fails = 1;
    assert_eq!(host.ask(steer("spell", Steering::Abort)).unwrap_err().code, ErrorCode::Storage);
    host.quiesce();
    assert_eq!(shares(&host), (2, None));
}

#[test]
fn a_disk_that_refuses_once_at_any_moment_changes_nothing_of_how_it_ends() {
    for errs in [false, true] {
        for moment in 0.. {
            let (mut host, request) = by_two_steps(errs);
            let ticket = host.submit(&id().0, request);
            // The disk is slower than all else.
            let next = |host: &mut Host| host.deliver_from(&Source::Figures) || host.deliver() || host.tick();
            let moments = (0..moment).take_while(|_| next(&mut host)).count();
            host.store_fails = 1;
            let goes_on = |host: &Host| !host.finished.contains_key(&id());
            let _ = (0..2_000).take_while(|_| goes_on(&host) && next(&mut host)).count();
            host.quiesce();
            if moments < moment {
                assert!(moment > 30, "it ends after {moment} events");
                break;
            }
            let Some(ended) = host.finished.get(&id()) else {
                assert!(host.answers[&ticket].is_err(), "it does not end if the disk refuses after {moment} events");
                continue;
            };
            let message = ended.error.clone().map(|it| it.message).unwrap_or_default();
            assert!(!message.contains("at step 0 %"), "{message} after {moment} events");
            let new = ended.state == OperationState::Done;
            assert_eq!((shares(&host), host.ready("spell").len()), ((if new { 2 } else { 1 }, None), 1), "{ended:#?}");
            let refused = message.contains("could not be written to disk");
            assert!(refused || new != errs, "{ended:#?} after {moment} events");
        }
    }
}

/// The figures of a look that arrive while a change of the swap is on its way to the disk.
fn figures_meanwhile(host: &mut Host, on_its_way: impl FnOnce(&mut Host)) {
    let at = host.timers.remove(&Timer::Look(id())).unwrap();
    host.now = host.now.max(at);
    host.event(Event::Timer(Timer::Look(id())));
    on_its_way(host);
    while host.deliver_from(&Source::Figures) {}
}

#[test]
fn a_gate_that_fails_while_the_commit_is_on_its_way_says_nothing_against_what_is_in_charge() {
    let mut host = two_versions();
    begin(&mut host, canary("spell", 2, &[5]));
    (0..59).for_each(|_| look(&mut host));
    figures_meanwhile(&mut host, |_| {});
    assert!(host.state.operations.get(&id()).unwrap().has_taken(Step::Commit));
    let errs = host.ready("spell")[1];
    host.processes.get_mut(&errs).unwrap().vices.insert(Vice::Errs);
    host.calls_a_look *= 1_000;
    figures_meanwhile(&mut host, |_| {});
    host.quiesce();
    let ended = host.finished[&id()].clone();
    assert_eq!((ended.state, shares(&host)), (OperationState::Done, (2, None)), "{ended:#?}");
}

#[test]
fn a_gate_that_fails_while_the_next_share_is_on_its_way_takes_it_back_all_the_same() {
    let mut host = two_versions();
    begin(&mut host, canary("spell", 2, &[5, 50]));
    (0..59).for_each(|_| look(&mut host));
    figures_meanwhile(&mut host, |_| {});
    let errs = host.ready("spell")[1];
    host.processes.get_mut(&errs).unwrap().vices.insert(Vice::Errs);
    host.calls_a_look *= 1_000;
    figures_meanwhile(&mut host, |_| {});
    host.quiesce();
    let ended = host.finished[&id()].clone();
    assert_eq!((ended.state, shares(&host)), (OperationState::Failed, (1, None)), "{ended:#?}");
    assert_eq!(host.ready("spell").len(), 1);
}

#[test]
fn what_the_disk_refuses_while_it_is_looked_at_does_not_end_the_looking() {
    for steering in [Steering::Pause, Steering::Abort] {
        let mut host = two_versions();
        begin(&mut host, canary("spell", 2, &[5, 50]));
        host.store_fails = 1;
        figures_meanwhile(&mut host, |host| {
            host.submit("steer", steer("spell", steering));
        });
        host.quiesce();
        let ended = host.finished.get(&id()).map(|it| it.state);
        assert_eq!((ended, shares(&host)), (Some(OperationState::Done), (2, None)), "{steering:?}");
    }
}

#[test]
fn one_that_has_failed_gets_nothing_also_while_the_disk_is_full() {
    let mut host = two_versions();
    host.vice("spell", 2, &[Vice::Errs]);
    begin(&mut host, canary("spell", 2, &[5, 50]));
    let rules = |host: &Host| {
        let routes = &host.processes[&host.worker("site")].routes;
        routes.iter().find(|it| it.service == service("spell")).map(|it| it.rules.len())
    };
    assert_eq!(rules(&host), Some(1));
    host.store_fails = 5;
    look(&mut host);
    assert_eq!((rules(&host), shares(&host)), (Some(0), (1, Some(5))), "nothing is sent there, and it stands ready");
    host.quiesce();
    assert_eq!((host.finished[&id()].state, shares(&host)), (OperationState::Failed, (1, None)));
}

#[test]
fn what_cannot_be_is_refused_and_says_what_can() {
    let mut host = two_versions();
    for steps in [&[][..], &[0], &[5, 5], &[50, 5], &[101]] {
        let refused = host.ask(canary("spell", 2, steps)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid, "{steps:?}");
    }
    host.done(beside("spell", 2));
    let refused = host.ask(canary("spell", 2, &[5])).unwrap_err();
    assert!(refused.remedy.unwrap().contains("mortise discard spell"));
    host.install(module("base", 2).base().calling("spell").package());
    assert_eq!(host.ask(canary("base", 2, &[5])).unwrap_err().code, ErrorCode::Invalid);
}

#[test]
fn the_supervisors_death_at_any_moment_goes_on_where_it_was() {
    for (errs, steering) in [(false, None), (true, None), (false, Some(Steering::Abort))] {
        let mut moment = 0;
        loop {
            let (mut host, request) = by_two_steps(errs);
            host.submit(&id().0, request);
            let mut events = 0;
            let mut aborted = false;
            while events < moment {
                events += 1;
                if steering.is_some() && events == 26 {
                    let ticket = host.submit("abort", steer("spell", Steering::Abort));
                    aborted |= host.answers.get(&ticket).is_some_and(Result::is_ok);
                }
                if !host.deliver() && !host.tick() {
                    break;
                }
            }
            let shared = host.disk.modules.iter().find(|it| it.key == key("spell")).unwrap().beside.clone();
            aborted |= host.on_disk(&OperationId("abort".to_owned())).is_some();
            let before = host.on_disk(&id()).cloned();
            host.restart_supervisor();
            host.quiesce();
            let ended = host.on_disk(&id()).cloned();
            let Some(ended) = ended else {
                assert_eq!(before, None);
                moment += 1;
                continue;
            };
            assert_eq!(shares(&host).1, None, "after {moment} events");
            assert_eq!(host.ready("spell").len(), 1, "after {moment} events");
            let message = ended.error.clone().map(|it| it.message).unwrap_or_default();
            match ended.state {
                OperationState::Done => {
                    assert!(!errs && !aborted, "after {moment} events: {ended:#?}");
                    assert_eq!(shares(&host).0, 2);
                }
                OperationState::Failed => {
                    assert_eq!(shares(&host).0, 1);
                    let why = if aborted {
                        "aborted"
                    } else if errs {
                        "error_rate of 2.0.0"
                    } else {
                        "the supervisor was restarted"
                    };
                    // Before it had come beside, it is rolled back as any swap.
                    let early = shared.is_none() && message.starts_with("the supervisor was restarted");
                    assert!(message.starts_with(why) || early, "after {moment} events: {message}");
                }
                OperationState::Running => panic!("after {moment} events: {ended:#?}"),
            }
            if before.is_some_and(|it| it.state != OperationState::Running) {
                break;
            }
            moment += 1;
        }
        assert!(moment > 20, "{moment}");
    }
}
