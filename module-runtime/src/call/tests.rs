//! What becomes of a call whose callee ends with it in its hands.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

use mortise_control::{ChannelId, Encoding, Offer, ServiceName, ToSupervisor};
use shm_rpc::{Call, End, Geometry, OwnSegment, PeerSegment, Server, segment};

use super::{CallError, Failure};
use crate::testing::{Harness, Running, boot_record};
use crate::worker::channels::Channel;
use crate::worker::{Report, Shared};

#[module_runtime::service(name = "counter", error = String)]
pub trait Counter {
    fn add(&self, more: u64) -> Result<u64, String>;
    #[idempotent]
    fn get(&self) -> Result<u64, String>;
}

struct Well;

impl Counter for Well {
    fn add(&self, more: u64) -> Result<u64, String> {
        Ok(more)
    }
    fn get(&self) -> Result<u64, String> {
        Ok(7)
    }
}

const DOOMED: ChannelId = ChannelId(1_000);

/// A callee that takes calls and answers none.
fn doomed(harness: &Running) -> mpsc::Receiver<Call<'static>> {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let (sender, taken) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = Server::new(callee).serve(|call| drop(sender.send(call.detach())));
    });
    harness.call_through(caller, DOOMED, ServiceName::new("counter").unwrap(), Encoding::Positional);
    taken
}

/// The supervisor's word, or the wake socket's, that the callee's process has ended.
fn end(harness: &Running) {
    match harness.worker().shared().state().channels.get(&DOOMED) {
        Some(Channel::Caller(outgoing, _)) => outgoing.client.peer_gone(),
        other => panic!("{other:?}"),
    }
}

async fn taken(calls: mpsc::Receiver<Call<'static>>) -> (Call<'static>, mpsc::Receiver<Call<'static>>) {
    tokio::task::spawn_blocking(move || (calls.recv_timeout(Duration::from_secs(10)).unwrap(), calls)).await.unwrap()
}

#[tokio::test]
async fn a_call_that_may_have_run_is_repeated_only_if_it_is_idempotent() {
    let harness = Harness::new("counter").start().unwrap();
    let calls = doomed(&harness);
    let counter: CounterClient = harness.worker().client();
    let (add, get) = (counter.clone(), counter.clone());
    let add = tokio::spawn(async move { add.add(1).await });
    let (first, calls) = taken(calls).await;
    let get = tokio::spawn(async move { get.get().await });
    let (second, _calls) = taken(calls).await;
    harness.serve(CounterServer::new(Well)).unwrap();
    end(&harness);
    assert_eq!(add.await.unwrap(), Err(CallError::Failed(Failure::MaybeExecuted)));
    assert_eq!(get.await.unwrap(), Ok(7));
    drop((first, second));
    // The dead target is still in the routes; calls that never started go elsewhere.
    for _ in 0..50 {
        assert_eq!(counter.add(3).await, Ok(3));
    }
}

#[tokio::test]
async fn of_two_targets_the_less_busy_one_is_called() {
    let harness = Harness::new("counter").start().unwrap();
    let calls = doomed(&harness);
    let counter: CounterClient = harness.worker().client();
    let stuck = tokio::spawn({
        let counter = counter.clone();
        async move { counter.add(1).await }
    });
    let (held, calls) = taken(calls).await;
    harness.serve(CounterServer::new(Well)).unwrap();
    for more in 0..200 {
        assert_eq!(counter.add(more).await, Ok(more), "the other one has a call in its hands");
    }
    assert!(calls.try_recv().is_err());
    end(&harness);
    assert_eq!(stuck.await.unwrap(), Err(CallError::Failed(Failure::MaybeExecuted)));
    drop(held);
}

#[tokio::test]
async fn an_idempotent_call_without_another_target_says_at_its_deadline_that_it_may_have_run() {
    let harness = Harness::new("counter").start().unwrap();
    let calls = doomed(&harness);
    let counter: CounterClient = harness.worker().client();
    let counter = counter.with_timeout(Duration::from_millis(200));
    let get = tokio::spawn(async move { counter.get().await });
    let (_call, _calls) = taken(calls).await;
    end(&harness);
    assert_eq!(get.await.unwrap(), Err(CallError::Failed(Failure::Deadline { started: true })));
}

#[tokio::test]
async fn who_has_no_right_to_a_service_is_told_so_at_once_and_so_is_who_waits_for_it() {
    let harness = Harness::new("caller").start().unwrap();
    let counter: CounterClient = harness.worker().client();
    harness.publish("counter").unwrap();
    let waiting = tokio::spawn({
        let counter = counter.clone();
        async move { counter.get().await }
    });
    harness.deny("counter").unwrap();
    assert_eq!(waiting.await.unwrap(), Err(CallError::Failed(Failure::Denied)));
    assert_eq!(counter.get().await, Err(CallError::Failed(Failure::Denied)));
    harness.unpublish("counter").unwrap();
    assert_eq!(counter.get().await, Err(CallError::Failed(Failure::NoService)));
}

#[tokio::test]
async fn a_worker_answers_itself_what_its_own_module_has_published() {
    let harness = Harness::new("counter").base().start().unwrap();
    let worker = harness.worker();
    let counter: CounterClient = worker.client();
    let serving = tokio::spawn(worker.serve(CounterServer::new(Well)).run());
    let early = tokio::spawn({
        let counter = counter.clone();
        async move { counter.add(5).await }
    });
    harness.offer("counter", Offer::Own).unwrap();
    assert_eq!(early.await.unwrap(), Ok(5));
    let by_name = worker.generic_client(&ServiceName::new("counter").unwrap());
    assert_eq!(by_name.call("get", &serde_json::json!({})).await, Ok(serde_json::json!(7)));
    assert!(worker.shared().hello().channels.is_empty(), "the supervisor has not made it");
    for _ in 0..3 {
        harness.unpublish("counter").unwrap();
        assert_eq!(counter.get().await, Err(CallError::Failed(Failure::NoService)));
        harness.offer("counter", Offer::Own).unwrap();
        assert_eq!(counter.get().await, Ok(7));
    }
    worker.shared().terminate.send_replace(true);
    serving.await.unwrap().unwrap();
    assert_eq!(worker.shared().served.load(std::sync::atomic::Ordering::Relaxed), 5);
}

/// The calling end of a channel whose callee has written nonsense into its ring.
fn lied_to() -> End {
    let size = Geometry::DEFAULT;
    let (own, peer) = (segment::create(size).unwrap(), segment::create(size).unwrap());
    let ours = OwnSegment::map(&own, size).unwrap();
    drop(OwnSegment::map(&peer, size).unwrap());
    let peer = std::fs::File::from(peer);
    let ring = size.bytes() - size.arena() as usize - 4096;
    peer.write_all_at(&vec![0xee; ring], 4096).unwrap();
    segment::seal(&own).unwrap();
    segment::seal(&peer).unwrap();
    let (wake, theirs) = segment::wake_pair().unwrap();
    std::mem::forget(theirs);
    End::new(ours, PeerSegment::map(&peer, size).unwrap(), wake)
}

#[tokio::test]
async fn a_lie_of_the_callees_is_told_to_the_supervisor_once() {
    let (shared, mut reports) = Shared::new(boot_record("counter"), BTreeMap::new()).unwrap();
    let harness = Running::of(shared);
    harness.call_through(lied_to(), DOOMED, ServiceName::new("counter").unwrap(), Encoding::Positional);
    let counter: CounterClient = harness.worker().client();
    let counter = counter.with_timeout(Duration::from_millis(100));
    let first = counter.add(1).await;
    assert!(matches!(first, Err(CallError::Failed(Failure::ProtocolViolation(_)))), "{first:?}");
    counter.add(1).await.unwrap_err();
    harness.serve(CounterServer::new(Well)).unwrap();
    assert_eq!(counter.get().await, Ok(7));
    let told = std::iter::from_fn(|| reports.try_recv().ok());
    let violations = told.filter(|it| matches!(it, Report::Message(ToSupervisor::Violation { channel: DOOMED, .. })));
    assert_eq!(violations.count(), 1);
}
