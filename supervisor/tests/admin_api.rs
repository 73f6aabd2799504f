//! The admin API over its socket: what it answers, and what a hostile client can do to it.

mod fake;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fake::Fake;
use mortise_supervisor::admin;
use mortise_supervisor::api::{ApiError, ErrorCode, Operation, OperationId, OperationState};
use serde_json::{Value, json};

/// Longer than anything here takes; a test that passes does not wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    fn error(&self) -> ApiError {
        let error: ApiError = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body));
        assert_eq!(self.status, error.code.http_status(), "{error:?}");
        error
    }
}

fn connect(fake: &Fake) -> UnixStream {
    let stream = UnixStream::connect(&fake.socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What comes until the server closes. A server that did not want to read all of a request resets after its answer.
fn all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    bytes
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body =
        if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Answer { status, head: head.to_lowercase(), body }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body += &after[..length];
        rest = after[length..].trim_start_matches("\r\n");
    }
    body
}

fn raw(fake: &Fake, request: &str) -> Answer {
    let mut stream = connect(fake);
    stream.write_all(request.as_bytes()).unwrap();
    parse(&all(&mut stream))
}

fn get(fake: &Fake, path: &str) -> Answer {
    raw(fake, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn post(fake: &Fake, path: &str, body: &str) -> Answer {
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n");
    raw(fake, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn operation(answer: &Answer) -> Operation {
    serde_json::from_value(answer.json()).unwrap()
}

#[test]
fn modules_are_listed_and_found() {
    let fake = Fake::start();
    let names = |path| {
        let list = get(&fake, path).json();
        list.as_array().unwrap().iter().map(|it| it["module"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("/v1/modules"), ["broken", "spell", "stuck"]);
    assert_eq!(names("/v1/modules?tenant=default"), ["broken", "spell", "stuck"]);
    assert!(names("/v1/modules?tenant=other").is_empty());
    let spell = get(&fake, "/v1/modules/default/spell").json();
    assert_eq!((&spell["desired"], &spell["workers"][0]["state"]), (&json!("running"), &json!("published")));
    let missing = get(&fake, "/v1/modules/default/nothing").error();
    assert_eq!(missing.code, ErrorCode::NotFound);
    assert!(missing.message.contains("nothing") && missing.remedy.is_some(), "{missing:?}");
}

#[test]
fn a_change_is_an_operation_that_can_be_asked_for() {
    let fake = Fake::start();
    let start = json!({"id": "mine", "kind": "start", "tenant": "default", "module": "spell", "version": null});
    let accepted = post(&fake, "/v1/operations", &start.to_string());
    assert_eq!(accepted.status, 202);
    assert_eq!(operation(&accepted).id, OperationId("mine".into()));
    let ended = operation(&get(&fake, "/v1/operations/mine?wait=20"));
    assert_eq!(ended.state, OperationState::Done);
    let again = operation(&post(&fake, "/v1/operations", &start.to_string()));
    assert_eq!((again.id, again.state), (ended.id, OperationState::Done), "the same id is the same operation");
    let listed = get(&fake, "/v1/operations").json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(get(&fake, "/v1/operations/other").error().code, ErrorCode::NotFound);
}

#[test]
fn waiting_ends_with_the_operation_and_not_before() {
    let fake = Fake::start();
    let start = r#"{"id": "slow", "kind": "start", "tenant": "default", "module": "stuck"}"#;
    assert_eq!(post(&fake, "/v1/operations", start).status, 202);
    let soon = operation(&get(&fake, "/v1/operations/slow?wait=0.05"));
    assert_eq!(soon.state, OperationState::Running);
    let mut waiting = connect(&fake);
    waiting.write_all(b"GET /v1/operations/slow?wait=60 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    fake.release(&OperationId("slow".into()));
    assert_eq!(operation(&parse(&all(&mut waiting))).state, OperationState::Done);
}

#[test]
fn a_shutdown_is_answered_when_it_has_been_carried_out() {
    let fake = Fake::start();
    let mut asking = connect(&fake);
    asking.write_all(b"POST /v1/shutdown HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    fake.shut_down(|| {
        asking.set_nonblocking(true).unwrap();
        let early = asking.read(&mut [0; 1]).map_err(|it| it.kind());
        assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "it answers before anything has ended");
        asking.set_nonblocking(false).unwrap();
    });
    let answer = parse(&all(&mut asking));
    assert_eq!((answer.status, answer.json()["workers"].as_u64()), (200, Some(2)));
}

#[test]
fn what_the_engine_refuses_is_passed_on_as_it_is() {
    let fake = Fake::start();
    let swap = r#"{"kind": "swap", "tenant": "default", "module": "spell", "version": "1.0.0"}"#;
    let scale = r#"{"kind": "scale", "tenant": "default", "module": "spell", "instances": 3}"#;
    assert_eq!(post(&fake, "/v1/operations", scale).json()["request"]["instances"], 3);
    let kept = r#"{"kind": "rollback", "tenant": "default", "module": "spell", "keep_ms": 5}"#;
    assert_eq!(post(&fake, "/v1/operations", kept).json()["request"]["keep_ms"], 5);
    let refused = post(&fake, "/v1/operations", swap).error();
    assert_eq!((refused.code, refused.message.as_str()), (ErrorCode::Conflict, "spell runs 1.0.0 already"));
}

#[test]
fn events_are_streamed_from_where_the_reader_was() {
    let fake = Fake::start();
    let seqs = |answer: &Answer| {
        let lines = answer.body.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
        lines.map(|it| it["seq"].as_u64()).collect::<Vec<_>>()
    };
    let all = get(&fake, "/v1/events");
    assert!(all.head.contains("content-type: application/x-ndjson"), "{}", all.head);
    assert_eq!(seqs(&all), [Some(10), Some(11)]);
    assert_eq!(seqs(&get(&fake, "/v1/events?since=11")), [Some(11)]);
    assert_eq!(seqs(&get(&fake, "/v1/events?tenant=default")), [Some(11)]);
    let early = get(&fake, "/v1/events?since=3");
    assert_eq!(
        early.body.lines().next(),
        Some(r#"{"missed":7}"#),
        "events that are no longer kept are not passed over in silence"
    );
}

/// Reads one line of a chunked stream that goes on.
fn read_until(stream: &mut UnixStream, wanted: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(wanted) {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the stream ended without {wanted:?}: {text}");
        text += &String::from_utf8_lossy(&buffer[..read]);
    }
    text
}

#[test]
fn a_follower_gets_what_comes_and_ends_with_the_server() {
    let mut fake = Fake::start();
    let mut events = connect(&fake);
    events.write_all(b"GET /v1/events?follow=true&since=11 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_until(&mut events, "spell is ready");
    fake.event("spell was swapped", Some("spell"));
    read_until(&mut events, "spell was swapped");
    let mut logs = connect(&fake);
    logs.write_all(b"GET /v1/logs/default/spell?follow=true HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_until(&mut logs, "200 OK");
    fake.log("stuck", "not for this reader");
    fake.log("spell", "for this reader");
    let seen = read_until(&mut logs, "for this reader");
    assert!(!seen.contains("not for"), "{seen}");
    fake.stop();
    assert!(String::from_utf8_lossy(&all(&mut events)).ends_with("0\r\n\r\n"), "the stream ends in order");
    assert!(String::from_utf8_lossy(&all(&mut logs)).ends_with("0\r\n\r\n"));
}

#[test]
fn a_follower_that_goes_is_forgotten() {
    let fake = Fake::start();
    for _ in 0..600 {
        // More than there are places: each is given back.
        let mut events = connect(&fake);
        events.write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        read_until(&mut events, "HTTP/1.1");
        drop(events);
    }
    // The last ones may still be on their way out.
    let deadline = std::time::Instant::now() + PATIENCE;
    while get(&fake, "/v1/modules").status != 200 {
        assert!(std::time::Instant::now() < deadline, "no place is given back");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_house_says_so_and_recovers() {
    let fake = Fake::start();
    let mut held = Vec::new();
    let refused = loop {
        let mut stream = connect(&fake);
        // Ask, so that a connection that was taken is known to be.
        let asked = stream.write_all(b"GET /v1/schema/module.toml HTTP/1.1\r\nHost: x\r\n\r\n");
        let text = read_until(&mut stream, "HTTP/1.1 ");
        if asked.is_err() || text.contains("503") {
            break text;
        }
        held.push(stream);
        assert!(held.len() < 2000, "there is no limit");
    };
    assert!(refused.contains("too many connections"), "{refused}");
    drop(held);
    let deadline = std::time::Instant::now() + PATIENCE;
    while get(&fake, "/v1/modules").status != 200 {
        assert!(std::time::Instant::now() < deadline, "no place is given back");
        std::thread::yield_now();
    }
}

#[test]
fn logs_of_nobody_are_an_error_and_of_a_quiet_module_are_none() {
    let fake = Fake::start();
    assert_eq!(get(&fake, "/v1/logs/default/nothing").error().code, ErrorCode::NotFound);
    let quiet = get(&fake, "/v1/logs/default/stuck");
    assert_eq!((quiet.status, quiet.body.as_str()), (200, ""));
    for n in 0..5 {
        fake.log("spell", &format!("line {n}"));
    }
    let tail = get(&fake, "/v1/logs/default/spell?tail=2");
    assert_eq!(tail.body.lines().count(), 2);
    assert!(tail.body.contains("line 3") && tail.body.contains("line 4"), "{}", tail.body);
}

#[test]
fn hostile_requests_get_an_error_of_the_api_and_nothing_else() {
    let fake = Fake::start();
    let long = "x".repeat(300);
    for (path, code) in [
        ("/v1/nothing", ErrorCode::NotFound),
        ("/", ErrorCode::NotFound),
        ("/v1/modules/default/..%2f..%2fetc", ErrorCode::Invalid),
        ("/v1/modules/Default/spell", ErrorCode::Invalid),
        ("/v1/modules/default/%ff", ErrorCode::Invalid),
        ("/v1/modules?tenant=..", ErrorCode::Invalid),
        ("/v1/modules?tennant=default", ErrorCode::Invalid),
        ("/v1/events?since=-1", ErrorCode::Invalid),
        ("/v1/events?since=99999999999999999999999", ErrorCode::Invalid),
        ("/v1/events?follow=perhaps", ErrorCode::Invalid),
        ("/v1/logs/default/spell?tail=-5", ErrorCode::Invalid),
        (&format!("/v1/operations/{long}"), ErrorCode::NotFound),
        ("/v1/operations/x%0d%0aInjected:%20yes", ErrorCode::NotFound),
    ] {
        let answer = get(&fake, path);
        assert_eq!(answer.error().code, code, "{path}: {}", answer.body);
        assert!(!answer.head.contains("injected"), "{}", answer.head);
    }
    for body in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"kind": "explode", "tenant": "default"}"#,
        r#"{"kind": "stop", "tenant": "default", "module": "../spell"}"#,
        r#"{"kind": "swap", "tenant": "default", "module": "spell", "version": "new"}"#,
        r#"{"id": "a/b", "kind": "stop", "tenant": "default", "module": "spell"}"#,
        &"[".repeat(5000),
    ] {
        assert_eq!(post(&fake, "/v1/operations", body).error().code, ErrorCode::Invalid, "{body:.80}");
    }
    let not_json =
        raw(&fake, "POST /v1/operations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(not_json.error().code, ErrorCode::Invalid, "a body without its content type");
    let wrong_method = raw(&fake, "DELETE /v1/modules HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(wrong_method.status, 405);
    assert_eq!(wrong_method.json()["code"], "invalid");
    assert_eq!(get(&fake, "/v1/modules").status, 200, "it still answers");
}

#[test]
fn bodies_and_headers_are_bounded() {
    let fake = Fake::start();
    let large = format!(r#"{{"kind": "stop", "tenant": "default", "module": "{}"}}"#, "x".repeat(100_000));
    assert_eq!(post(&fake, "/v1/operations", &large).error().code, ErrorCode::TooLarge);
    let headers = format!("GET /v1/modules HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let mut stream = connect(&fake);
    // The server may close while it is written to.
    let _ = stream.write_all(headers.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let mut many = "GET /v1/modules HTTP/1.1\r\nHost: x\r\n".to_owned();
    for n in 0..500 {
        many += &format!("X-{n}: y\r\n");
    }
    assert_eq!(raw(&fake, &(many + "\r\n")).status, 431);
    assert_eq!(get(&fake, "/v1/modules").status, 200, "it still answers");
}

#[test]
fn garbage_is_no_request() {
    let fake = Fake::start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = connect(&fake);
        stream.write_all(garbage).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 505"), "{text}");
    }
    assert_eq!(get(&fake, "/v1/modules").status, 200, "it still answers");
}

/// A package file with `padding` bytes that do not compress.
fn package(padding: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let toml = "name = \"clock\"\nversion = \"1.0.0\"\nruntime = \"http\"\nexec = \"/usr/bin/python3\"\nprovides = [{ service = \"clock\", http = {} }]\n";
    std::fs::write(folder.path().join("module.toml"), toml).unwrap();
    let mut noise = vec![0; padding];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    std::fs::write(folder.path().join("noise"), noise).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    mortise_supervisor::package::pack(folder.path(), file.path()).unwrap();
    std::fs::read(file.path()).unwrap()
}

fn upload_head(tenant: &str, length: usize) -> String {
    format!(
        "POST /v1/packages?tenant={tenant} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn upload(fake: &Fake, tenant: &str, package: &[u8]) -> Answer {
    let mut stream = connect(fake);
    stream.write_all(upload_head(tenant, package.len()).as_bytes()).unwrap();
    stream.write_all(package).unwrap();
    parse(&all(&mut stream))
}

#[test]
fn a_package_is_registered_once_however_often_it_is_sent() {
    let fake = Fake::start();
    let package = package(100_000);
    let first = upload(&fake, "default", &package);
    assert_eq!(first.status, 202, "{}", first.body);
    let id = operation(&first).id;
    assert_eq!(operation(&get(&fake, &format!("/v1/operations/{id}?wait=20"))).state, OperationState::Done);
    assert_eq!(upload(&fake, "default", &package).status, 202);
    assert_eq!(fake.packages.list().unwrap().len(), 1);
}

#[test]
fn a_refused_package_leaves_nothing_and_its_sender_hears_why() {
    let fake = Fake::start();
    let good = package(3 << 20);
    let mut altered = good.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    let torn = &good[..good.len() - 10];
    for bad in [&altered[..], torn, &vec![7; 5 << 20], b""] {
        assert_eq!(upload(&fake, "default", bad).error().code, ErrorCode::PackageRefused);
        assert!(fake.packages.list().unwrap().is_empty());
    }
    // What the engine refuses is removed again, and what is registered already stays.
    assert_eq!(upload(&fake, "full", &good).error().code, ErrorCode::Quota);
    assert!(fake.packages.list().unwrap().is_empty());
    let id = operation(&upload(&fake, "default", &good)).id;
    assert_eq!(operation(&get(&fake, &format!("/v1/operations/{id}?wait=20"))).state, OperationState::Done);
    assert_eq!(upload(&fake, "full", &good).error().code, ErrorCode::Quota);
    assert_eq!(fake.packages.list().unwrap().len(), 1);
}

#[test]
fn senders_that_stop_in_the_middle_hold_no_place() {
    let fake = Fake::start();
    let package = package(1 << 20);
    let start = || {
        let mut stream = connect(&fake);
        stream.write_all(upload_head("default", package.len()).as_bytes()).unwrap();
        stream.write_all(&package[..package.len() / 2]).unwrap();
        stream
    };
    // More than there are places: those that get none are told at once, the others wait for the rest of their package.
    let stuck: Vec<UnixStream> = (0..6).map(|_| start()).collect();
    let refused = loop {
        let answer = upload(&fake, "default", &package);
        if answer.status != 202 {
            break answer;
        }
    };
    assert_eq!(refused.error().code, ErrorCode::Unavailable);
    drop(stuck);
    let deadline = std::time::Instant::now() + PATIENCE;
    while upload(&fake, "default", &package).status != 202 {
        assert!(std::time::Instant::now() < deadline, "no place is given back");
    }
    assert_eq!(fake.packages.list().unwrap().len(), 1);
}

#[test]
fn calls_need_a_base() {
    let fake = Fake::start();
    for wrong in ["lane", "Lane%3Da", "lane%3Da%20b", "a%3D1%3Ba%3D2"] {
        let refused = post(&fake, &format!("/v1/call/spell/suggest?tags={wrong}"), "{}").error();
        assert_eq!(refused.code, ErrorCode::Invalid, "{wrong}");
        assert!(refused.message.starts_with("tags: "), "{refused:?}");
    }
    let refused = post(&fake, "/v1/call/spell/suggest?tags=lane%3Dcanary%3Buser%3D17", "{}").error();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    let refused = post(&fake, "/v1/call/spell/suggest", "{}").error();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.remedy.unwrap().contains("--base"));
}

#[test]
fn the_document_lists_every_route() {
    let document = serde_json::to_value(admin::openapi()).unwrap();
    let mut routes: Vec<String> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            routes.push(format!("{} {path}", method.to_uppercase()));
            assert!(described["summary"].is_string(), "{method} {path} says nothing");
            let error = &described["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(error, "#/components/schemas/ApiError", "{method} {path}");
        }
    }
    routes.sort();
    assert_eq!(
        routes,
        [
            "GET /metrics",
            "GET /v1/doctor",
            "GET /v1/events",
            "GET /v1/groups",
            "GET /v1/logs/{tenant}/{module}",
            "GET /v1/modules",
            "GET /v1/modules/{tenant}/{module}",
            "GET /v1/modules/{tenant}/{module}/shadow",
            "GET /v1/operations",
            "GET /v1/operations/{id}",
            "GET /v1/routes",
            "GET /v1/schema/module.toml",
            "GET /v1/snapshot",
            "GET /v1/tenants",
            "POST /v1/call/{service}/{method}",
            "POST /v1/operations",
            "POST /v1/packages",
            "POST /v1/shutdown",
            "POST /v1/upgrade",
        ]
    );
    assert_references(&document, &document);
}

/// Every `$ref` leads somewhere.
fn assert_references(document: &Value, part: &Value) {
    match part {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            object.values().for_each(|it| assert_references(document, it));
        }
        Value::Array(all) => all.iter().for_each(|it| assert_references(document, it)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn what_describes_the_api_is_served() {
    let fake = Fake::start();
    assert_eq!(get(&fake, "/openapi.json").json()["info"]["title"], "Mortise admin API");
    assert_eq!(get(&fake, "/v1/schema/module.toml").json()["title"], "module.toml");
    let metrics = get(&fake, "/metrics");
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("mortise_calls_total{"), "{}", metrics.body);
    let doctor = get(&fake, "/v1/doctor").json();
    assert!(doctor["checks"].as_array().unwrap().iter().any(|it| it["name"] == "kernel"), "{doctor}");
    let snapshot = get(&fake, "/v1/snapshot").json();
    assert!(snapshot["measured"].is_string() && snapshot["host"]["pid"] == 1, "{snapshot}");
}
