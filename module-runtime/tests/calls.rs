//! Calls through real channels within one process: what a module's author can rely on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use module_runtime::testing::{Harness, Running};
use module_runtime::{CallError, Context, Deadline, Failure, ServiceName, Tags, Trace};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shm_rpc::Geometry;
use tokio::sync::{Notify, Semaphore};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    Because { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    deadline: Option<u64>,
    trace: Option<[u8; 16]>,
    tags: Vec<u8>,
    caller: String,
}

#[module_runtime::service(name = "probe", error = Refused)]
pub trait Probe {
    /// Says who answers.
    async fn greet(&self, name: String, times: u8) -> Result<String, Refused>;
    fn add(&self, a: u64, b: u64) -> Result<u64, Refused>;
    fn nothing(&self) -> Result<(), Refused>;
    fn refuse(&self, why: String) -> Result<(), Refused>;
    fn panic(&self) -> Result<(), Refused>;
    async fn panic_later(&self) -> Result<(), Refused>;
    async fn blob(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Refused>;
    /// Waits until the test lets it go.
    async fn wait(&self) -> Result<u32, Refused>;
    fn seen(&self) -> Result<Seen, Refused>;
    /// Calls `seen` of the same service with a long timeout of its own.
    async fn seen_by_nested(&self) -> Result<Seen, Refused>;
    fn r#loop(&self, r#type: String) -> Result<String, Refused>;
}

#[derive(Clone)]
struct Prober {
    name: &'static str,
    entered: Arc<Notify>,
    leave: Arc<Semaphore>,
    calls: Arc<AtomicU32>,
    nested: Option<ProbeClient>,
}

impl Prober {
    fn new(name: &'static str) -> Self {
        Self { name, entered: Arc::default(), leave: Arc::new(Semaphore::new(0)), calls: Arc::default(), nested: None }
    }
}

impl Probe for Prober {
    async fn greet(&self, name: String, times: u8) -> Result<String, Refused> {
        tokio::task::yield_now().await;
        Ok(format!("{}: {}", self.name, vec![name; times.into()].join(" ")))
    }
    fn add(&self, a: u64, b: u64) -> Result<u64, Refused> {
        self.calls.fetch_add(1, SeqCst);
        a.checked_add(b).ok_or_else(|| Refused::Because { why: "too much".into() })
    }
    fn nothing(&self) -> Result<(), Refused> {
        Ok(())
    }
    fn refuse(&self, why: String) -> Result<(), Refused> {
        Err(Refused::Because { why })
    }
    fn panic(&self) -> Result<(), Refused> {
        panic!("as asked")
    }
    async fn panic_later(&self) -> Result<(), Refused> {
        tokio::task::yield_now().await;
        panic!("as asked, later")
    }
    async fn blob(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, Refused> {
        bytes.reverse();
        Ok(bytes)
    }
    async fn wait(&self) -> Result<u32, Refused> {
        self.entered.notify_one();
        drop(self.leave.acquire().await);
        Ok(self.calls.fetch_add(1, SeqCst))
    }
    fn seen(&self) -> Result<Seen, Refused> {
        let context = Context::current().expect("in a call");
        Ok(Seen {
            deadline: context.deadline().map(Deadline::as_nanos),
            trace: context.trace().map(|it| it.trace_id),
            tags: context.tags().as_bytes().to_vec(),
            caller: context.caller().expect("in a call").module.to_string(),
        })
    }
    async fn seen_by_nested(&self) -> Result<Seen, Refused> {
        let nested = self.nested.as_ref().expect("a client").with_timeout(Duration::from_secs(3600));
        nested.seen().await.map_err(|e| Refused::Because { why: format!("{e:?}") })
    }
    fn r#loop(&self, r#type: String) -> Result<String, Refused> {
        Ok(r#type)
    }
}

fn start() -> Running {
    Harness::new("probe").start().unwrap()
}

fn failure<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, CallError<E>>) -> Failure {
    match result {
        Err(CallError::Failed(failure)) => failure,
        other => panic!("{other:?} is no failure"),
    }
}

#[tokio::test]
async fn async_and_plain_methods_answer_with_values_and_with_the_modules_own_error() {
    for by_name in [false, true] {
        let harness = start();
        let server = ProbeServer::new(Prober::new("a"));
        if by_name {
            harness.serve_by_name(server).unwrap()
        } else {
            harness.serve(server).unwrap()
        };
        let probe: ProbeClient = harness.worker().client();
        assert_eq!(probe.greet("you".into(), 2).await, Ok("a: you you".into()));
        assert_eq!(probe.add(1, 2).await, Ok(3));
        assert_eq!(probe.nothing().await, Ok(()));
        assert_eq!(probe.r#loop("x".into()).await, Ok("x".into()));
        let why = "a".repeat(300);
        let refused = Err(CallError::Module(Refused::Because { why: why.clone() }));
        assert_eq!(probe.refuse(why).await, refused);
        assert_eq!(probe.add(u64::MAX, 1).await, Err(CallError::Module(Refused::Because { why: "too much".into() })));
        let large: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
        let reversed: Vec<u8> = large.iter().rev().copied().collect();
        assert_eq!(probe.blob(large).await, Ok(reversed));
    }
}

#[tokio::test]
async fn a_panic_fails_one_call_and_nothing_else() {
    let harness = start();
    harness.serve(ProbeServer::new(Prober::new("a"))).unwrap();
    let probe: ProbeClient = harness.worker().client();
    assert_eq!(failure(probe.panic().await), Failure::Internal("probe.panic panicked".into()));
    assert_eq!(failure(probe.panic_later().await), Failure::Internal("probe.panic_later panicked".into()));
    assert_eq!(probe.add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn a_deadline_says_whether_the_call_had_started() {
    let harness = start();
    let prober = Prober::new("a");
    harness.serve(ProbeServer::new(prober.clone())).unwrap();
    let probe: ProbeClient = harness.worker().client();
    let hasty = probe.with_timeout(Duration::from_millis(30));
    assert_eq!(failure(hasty.wait().await), Failure::Deadline { started: true });
    let late = probe.with_deadline(Deadline::from_nanos(1));
    assert_eq!(failure(late.add(1, 2).await), Failure::Deadline { started: false });
    assert_eq!(prober.calls.load(SeqCst), 0);
    assert_eq!(probe.add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn nested_calls_inherit_deadline_trace_and_tags_and_never_have_more_time() {
    let harness = start();
    let mut prober = Prober::new("a");
    prober.nested = Some(harness.worker().client());
    harness.serve(ProbeServer::new(prober)).unwrap();
    let probe: ProbeClient = harness.worker().client();
    let deadline = Deadline::after(Duration::from_secs(60));
    let trace = Trace { trace_id: [3; 16], span_id: [4; 8], flags: 1 };
    let context = Context::new(Some(deadline), Some(trace), Tags::new(b"canary").unwrap());
    let nested = context.scope(probe.with_timeout(Duration::from_secs(3600)).seen_by_nested()).await.unwrap();
    let expected = Seen {
        deadline: Some(deadline.as_nanos()),
        trace: Some([3; 16]),
        tags: b"canary".to_vec(),
        caller: "probe".into(),
    };
    assert_eq!(nested, expected);
    let tagged = probe.with_tags(Tags::new(b"own").unwrap()).seen_by_nested().await.unwrap();
    assert_eq!(tagged.tags, b"own");
    assert_eq!(probe.without_deadline().seen().await.unwrap().deadline, None);
}

#[tokio::test]
async fn calls_wait_for_a_target_within_their_deadline() {
    let harness = start();
    let probe: ProbeClient = harness.worker().client();
    let hasty = probe.with_timeout(Duration::from_millis(20));
    assert_eq!(failure(hasty.add(1, 2).await), Failure::Deadline { started: false });
    let waiting = tokio::spawn(async move { probe.add(1, 2).await });
    tokio::task::yield_now().await;
    harness.serve(ProbeServer::new(Prober::new("a"))).unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(3));
}

#[tokio::test]
async fn calls_of_a_service_that_nobody_offers_end_when_that_is_known() {
    let harness = start();
    let probe: ProbeClient = harness.worker().client();
    let probe = probe.without_deadline();
    let waiting = tokio::spawn({
        let probe = probe.clone();
        async move { probe.add(1, 2).await }
    });
    tokio::task::yield_now().await;
    harness.unpublish("probe").unwrap();
    assert_eq!(failure(waiting.await.unwrap()), Failure::NoService);
    assert_eq!(failure(probe.add(1, 2).await), Failure::NoService);
    let by_name = harness.worker().generic_client(&ServiceName::new("probe").unwrap());
    assert!(!by_name.is_answered(Duration::from_secs(3600)).await);
    // Published, and without a worker now: there will be one.
    harness.publish("probe").unwrap();
    let hasty = probe.with_timeout(Duration::from_millis(20));
    assert_eq!(failure(hasty.add(1, 2).await), Failure::Deadline { started: false });
    harness.serve(ProbeServer::new(Prober::new("a"))).unwrap();
    assert_eq!(probe.add(1, 2).await, Ok(3));
}

#[tokio::test]
async fn a_callee_that_closes_loses_no_call_and_answers_what_it_had_taken() {
    let harness = start();
    let old = Prober::new("old");
    let channel = harness.serve(ProbeServer::new(old.clone())).unwrap();
    let probe: ProbeClient = harness.worker().client();
    let in_flight = tokio::spawn({
        let probe = probe.clone();
        async move { probe.wait().await }
    });
    old.entered.notified().await;
    harness.withdraw(channel);
    // Whether it is noticed before or after this call is sent: nothing is lost.
    let moved = tokio::spawn(async move { probe.greet("x".into(), 1).await });
    harness.serve(ProbeServer::new(Prober::new("new"))).unwrap();
    assert_eq!(moved.await.unwrap(), Ok("new: x".into()));
    old.leave.add_permits(1);
    assert_eq!(in_flight.await.unwrap(), Ok(0));
}

#[tokio::test]
async fn two_workers_share_the_calls() {
    let harness = start();
    harness.serve(ProbeServer::new(Prober::new("a"))).unwrap();
    harness.serve(ProbeServer::new(Prober::new("b"))).unwrap();
    let probe: ProbeClient = harness.worker().client();
    let mut counts = [0_u32; 2];
    for _ in 0..200 {
        counts[usize::from(probe.greet("x".into(), 1).await.unwrap().starts_with('b'))] += 1;
    }
    // A fair coin misses this range once in 10^20 runs.
    assert!(counts.iter().all(|it| *it > 30), "{counts:?}");
}

#[tokio::test]
async fn a_full_channel_answers_overloaded_at_once() {
    let harness = Harness::new("probe").geometry(Geometry::new(8, 0).unwrap()).start().unwrap();
    let prober = Prober::new("a");
    harness.serve(ProbeServer::new(prober.clone())).unwrap();
    let probe: ProbeClient = harness.worker().client();
    let calls: Vec<_> = (0..500)
        .map(|_| {
            let probe = probe.clone();
            tokio::spawn(async move { probe.wait().await })
        })
        .collect();
    prober.entered.notified().await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    prober.leave.add_permits(1000);
    let mut answered = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => answered += 1,
            Err(CallError::Failed(Failure::Overloaded { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((1..500).contains(&answered), "{answered}");
    assert!(matches!(failure(probe.blob(vec![0; 4096]).await), Failure::TooLarge { .. }));
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_takes_nothing_new() {
    let harness = start();
    let prober = Prober::new("a");
    harness.serve(ProbeServer::new(prober.clone())).unwrap();
    let probe: ProbeClient = harness.worker().client();
    let in_flight = tokio::spawn({
        let probe = probe.clone();
        async move { probe.wait().await }
    });
    prober.entered.notified().await;
    let hasty = probe.with_timeout(Duration::from_millis(50));
    let mut drained = std::pin::pin!(harness.drain());
    // What is sent before the callee has closed the ring is still served.
    let before_the_close = async {
        let mut answered = 0;
        loop {
            match hasty.add(1, 2).await {
                Ok(_) => answered += 1,
                late => return (answered, failure(late)),
            }
        }
    };
    let (answered, late) = tokio::select! {
        biased;
        () = &mut drained => panic!("drained with a call in flight"),
        it = before_the_close => it,
    };
    assert_eq!(late, Failure::Deadline { started: false });
    prober.leave.add_permits(1);
    drained.await;
    assert_eq!(in_flight.await.unwrap(), Ok(answered));
    assert_eq!(prober.calls.load(SeqCst), answered + 1, "the late call must not have run");
}

#[tokio::test]
async fn an_operator_calls_by_name_with_json() {
    let harness = start();
    harness.serve_by_name(ProbeServer::new(Prober::new("a"))).unwrap();
    let probe = harness.worker().generic_client(&ServiceName::new("probe").unwrap());
    assert_eq!(probe.call("add", &json!({"a": 1, "b": 2, "unknown": true})).await, Ok(json!(3)));
    assert_eq!(probe.call("nothing", &json!({})).await, Ok(json!(null)));
    let refused = probe.call("refuse", &json!({"why": "x"})).await;
    assert_eq!(refused, Err(CallError::Module(json!({"Because": {"why": "x"}}))));
    let Failure::Invalid(message) = failure(probe.call("add", &json!({"a": 1})).await) else { panic!() };
    assert!(message.contains("missing field `b`"), "{message}");
    let Failure::Invalid(message) = failure(probe.call("subtract", &json!({})).await) else { panic!() };
    assert_eq!(message, "the service probe has no method \"subtract\"");
    let Failure::Invalid(message) = failure(probe.call("add", &json!([1, 2])).await) else { panic!() };
    assert!(message.contains("an object"), "{message}");
    let body = rmp_serde::to_vec_named(&json!({"a": 40, "b": 2})).unwrap();
    let bytes = probe.call_msgpack("add", &body).await.unwrap();
    assert_eq!(rmp_serde::from_slice::<u64>(&bytes).unwrap(), 42);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_in_many_threads_get_their_own_answers() {
    let harness = start();
    harness.serve(ProbeServer::new(Prober::new("a"))).unwrap();
    let calls: Vec<_> = (0..16_u64)
        .map(|caller| {
            let probe: ProbeClient = harness.worker().client();
            tokio::spawn(async move {
                for i in 0..200 {
                    assert_eq!(probe.add(caller << 32, i).await, Ok((caller << 32) + i));
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}
