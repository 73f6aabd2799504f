//! An axum application on a real socket, spoken to as the base does it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::serve;
use crate::testing::{Harness, Running};
use crate::{Context, Error};

#[derive(Clone, Default)]
struct Gate {
    entered: Arc<Notify>,
    leave: Arc<Notify>,
}

fn application(gate: Gate) -> Router {
    Router::new()
        .route("/plain", get(|| async { "plain" }))
        .route("/panic", get(|| async { panic!("as asked") as &'static str }))
        .route(
            "/context",
            get(|| async {
                let context = Context::current().expect("in a request");
                let trace = context.trace().map(|it| crate::log::hex(&it.trace_id));
                format!("{:?} {:?} {:?}", context.request_id(), trace, context.deadline().map(|it| it.as_nanos()))
            }),
        )
        .route(
            "/wait",
            get(|State(gate): State<Gate>| async move {
                gate.entered.notify_one();
                gate.leave.notified().await;
                "waited"
            }),
        )
        .with_state(gate)
}

struct Site {
    folder: tempfile::TempDir,
    harness: Running,
    gate: Gate,
    serving: tokio::task::JoinHandle<Result<(), Error>>,
}

fn start() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(folder.path().join("http.sock")).unwrap();
    let harness = Harness::new("site").inherit("http", listener).start().unwrap();
    let gate = Gate::default();
    let serving = tokio::spawn(serve(harness.worker(), application(gate.clone())));
    Site { folder, harness, gate, serving }
}

impl Site {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("http.sock")).await.unwrap()
    }
}

async fn send(stream: &mut UnixStream, path: &str, headers: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
}

/// Head and body of the next answer.
async fn answer(stream: &mut UnixStream) -> String {
    let mut text = Vec::new();
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")).map(|it| it.parse().unwrap());
            if length.is_none_or(|length: usize| body.len() >= length) {
                return whole;
            }
        }
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "ended after {whole:?}");
    }
}

#[tokio::test]
async fn an_application_answers_in_the_requests_context() {
    let site = start();
    let mut stream = site.connect().await;
    send(&mut stream, "/plain", "").await;
    let plain = answer(&mut stream).await;
    assert!(plain.starts_with("HTTP/1.1 200 OK") && plain.ends_with("plain"), "{plain}");
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    send(&mut stream, "/context", &format!("x-request-id: r-7\r\nmortise-deadline: 99\r\n{trace}")).await;
    let context = answer(&mut stream).await;
    assert!(context.ends_with(r#"Some("r-7") Some("0af7651916cd43dd8448eb211c80319c") Some(99)"#), "{context}");
    send(&mut stream, "/panic", "").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 500"));
    send(&mut stream, "/plain", "").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 OK"), "one panic fails one request");
}

#[tokio::test]
async fn a_drain_finishes_requests_ends_idle_connections_and_accepts_none() {
    let site = start();
    let mut idle = site.connect().await;
    send(&mut idle, "/plain", "").await;
    answer(&mut idle).await;
    let mut busy = site.connect().await;
    send(&mut busy, "/wait", "").await;
    site.gate.entered.notified().await;
    let drained = site.harness.drain();
    let mut drained = std::pin::pin!(drained);
    tokio::select! {
        biased;
        () = &mut drained => panic!("drained with a request in flight"),
        ended = idle.read_u8() => assert!(ended.is_err(), "an idle connection is closed"),
    }
    site.gate.leave.notify_one();
    let last = answer(&mut busy).await;
    assert!(last.ends_with("waited") && last.contains("connection: close"), "{last}");
    assert!(busy.read_u8().await.is_err());
    drained.await;
    let mut late = site.connect().await;
    send(&mut late, "/plain", "").await;
    site.harness.worker().shared().terminate.send_replace(true);
    site.serving.await.unwrap().unwrap();
    let mut nothing = Vec::new();
    // Not accepted: the listener went away with the worker.
    assert!(matches!(late.read_to_end(&mut nothing).await, Err(_) | Ok(0)), "{nothing:?}");
}

#[tokio::test]
async fn a_module_without_an_http_service_is_told_what_is_missing() {
    let harness = Harness::new("site").start().unwrap();
    let error = serve(harness.worker(), application(Gate::default())).await.unwrap_err();
    assert!(error.to_string().contains("[[provides]]"), "{error}");
}
