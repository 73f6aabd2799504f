//! A store that fails.

use super::platform::{platform, running_platform};
use super::world::*;
use crate::api::{ErrorCode, OperationId, OperationState};
use crate::lifecycle::{CommitId, Config, Event, ExitStatus, Timer};

#[test]
fn what_cannot_be_put_on_disk_is_refused_and_nothing_is_done() {
    let mut host = platform();
    host.store_fails = 1;
    let refused = host.ask(start("site")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Storage);
    assert!(host.processes.is_empty() && host.disk.operations.iter().all(|it| it.operation.request != start("site")));
    host.done(start("site"));
}

#[test]
fn a_worker_is_not_started_before_its_record_is_on_disk() {
    let mut host = platform();
    host.submit("start", start("site"));
    host.store_fails = 2;
    host.deliver_all();
    assert!(host.on_disk(&OperationId("start".to_owned())).is_some(), "accepted");
    assert!(!host.log.iter().any(|it| it.contains("Spawn")));
    host.quiesce();
    assert_eq!(host.ready("site").len(), 1);
    assert_eq!(host.finished[&OperationId("start".to_owned())].state, OperationState::Done);
}

#[test]
fn records_are_written_again_until_they_are_on_disk() {
    let mut host = running_platform();
    host.store_fails = 4;
    host.exit(host.worker("spell"), ExitStatus::Code(1));
    host.quiesce();
    assert_eq!(host.store_fails, 0);
    let worker = host.worker("spell");
    let record = host.disk.workers.iter().find(|it| it.worker == worker).unwrap();
    assert_eq!(record.occupant.as_ref().unwrap().process.unwrap().0, host.processes[&worker].pid);
}

#[test]
fn an_answer_of_the_store_that_was_never_asked_for_changes_nothing() {
    let mut host = platform();
    host.submit("start", start("site"));
    host.event(Event::Persisted { commit: CommitId(u64::MAX), result: Ok(()) });
    assert!(host.processes.is_empty() && host.answers.is_empty());
    host.event(Event::Timer(Timer::Persist));
    host.deliver_all();
    assert_eq!(host.ready("site").len(), 1);
}

#[test]
fn the_oldest_operations_are_forgotten() {
    let mut host = platform();
    let most = Config::default().remembered_operations;
    for _ in 0..most {
        host.done(stop("site"));
    }
    assert_eq!(host.disk.operations.len(), most);
    assert_eq!(host.state.snapshot().operations.len(), most);
    let newest = &host.state.snapshot().operations[0];
    assert_eq!(newest.request, stop("site"));
}
