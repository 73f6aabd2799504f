//! The admin API on its socket: any request gets one answer; what is refused is an error that says who can mend it, what reaches the
//! engine has a sound name, and nothing is the API's own fault.
//!
//! The first line of an input is the method and the path with its query, the rest is the body.
#![no_main]

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use mortise_supervisor::admin::{self, AdminApi, Shutdown};
use mortise_supervisor::api::{ApiError, Operation, OperationId, OperationState};
use mortise_supervisor::doctor::Places;
use mortise_supervisor::engine::{EngineHandle, EventLog, Published, Submission};
use mortise_supervisor::host;
use mortise_supervisor::logs::LogStore;
use mortise_supervisor::package::PackageStore;
use tokio::sync::{mpsc, watch};

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|it| *it == b'\n').unwrap_or(bytes.len());
    let (line, body) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    if endless(line) {
        return;
    }
    let mut request = line.to_vec();
    request.extend(
        b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ",
    );
    request.extend(format!("{}\r\n\r\n", body.len()).bytes());
    request.extend(body);
    let Some((status, body)) = ask(&request) else { return };
    match status {
        200..300 => {}
        // hyper's own, for what is no HTTP: it has no body.
        400..500 if body.is_empty() => {}
        // There is no base here that a call could reach.
        400..500 | 503 => {
            let error: ApiError = serde_json::from_slice(&body)
                .unwrap_or_else(|why| panic!("{status}: {why}: {}", String::from_utf8_lossy(&body)));
            assert!(!error.message.is_empty() && error.message.len() < 64 << 10, "{error:?}");
        }
        _ => panic!("{status}: {}", String::from_utf8_lossy(&body)),
    }
});

/// What is answered for as long as the client stays, or what asks the host itself.
fn endless(line: &[u8]) -> bool {
    let has = |word: &[u8]| line.windows(word.len()).any(|it| it.eq_ignore_ascii_case(word));
    has(b"follow") || has(b"%") || has(b"wait") || has(b"doctor") || has(b"\r")
}

/// Status and body. None: the connection was closed without a word, which only bytes that are no HTTP may cause.
fn ask(request: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(server()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a deadline");
    match stream.write_all(request) {
        Ok(()) => {}
        // It answers before it has read all, and closes.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
        Err(error) => panic!("{error}"),
    }
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "no answer: {error}");
    }
    let head = answer.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    Some((status, answer.split_off(head)))
}

/// The socket of the one API of this process.
fn server() -> &'static PathBuf {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("admin.sock");
        let (listening, is_listening) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::UnixListener::bind(folder.path().join("admin.sock")).expect("a socket");
                let published = Arc::new(published());
                let (submissions, received) = mpsc::channel(16);
                let handle = EngineHandle::new(submissions, Arc::clone(&published));
                tokio::spawn(engine(received, published));
                let packages = PackageStore::open(&folder.path().join("packages")).expect("a store");
                let shutdown = Shutdown::default();
                // As if nothing ran: who asks for the end is answered, and the API goes on.
                shutdown.end();
                let api = AdminApi {
                    handle,
                    packages: Arc::new(packages),
                    doctor: Places::default(),
                    promises: Arc::new(host::Report { findings: vec![] }),
                    shutdown,
                    roles: Arc::default(),
                };
                listening.send(()).expect("somebody waits");
                admin::serve(listener, api, std::future::pending()).await;
            });
        });
        is_listening.recv().expect("it listens");
        socket
    })
}

fn published() -> Published {
    Published {
        state: ArcSwap::default(),
        operations: ArcSwap::default(),
        changed: watch::channel(0).0,
        events: Arc::new(EventLog::starting_at(1)),
        logs: Arc::new(LogStore::default()),
        invoke_socket: None,
        figures: Box::new(|_| {}),
    }
}

/// Accepts everything, and checks what no request may get past the API.
async fn engine(mut received: mpsc::Receiver<Submission>, published: Arc<Published>) {
    while let Some(Submission { id, request, answer }) = received.recv().await {
        let id = id.unwrap_or_else(|| OperationId("own".into()));
        let sound = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
        if !(1..=64).contains(&id.0.len()) || !id.0.bytes().all(sound) {
            eprintln!("the operation id {id} reached the engine");
            std::process::abort();
        }
        let operation = Operation {
            id: id.clone(),
            request,
            state: OperationState::Done,
            steps: vec![],
            error: None,
            receipt: None,
            started: Timestamp::UNIX_EPOCH,
            ended: None,
        };
        published.operations.store(Arc::new(HashMap::from([(id, operation.clone())])));
        let _ = answer.send(Ok(operation));
    }
}
