//! The base is replaced under load: no connection of a client is dropped, no request and no call is lost.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use mortise_tests::{World, artifacts, as_root, eventually, request_until};
use serde_json::{Value, json};

/// A client's connection to the ingress. Whatever happens to it that HTTP does not allow ends the test.
struct Connection {
    stream: BufReader<TcpStream>,
}

/// An answer, and whether it was said to be the last on its connection.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: String,
    last: bool,
}

impl Connection {
    fn open(ingress: SocketAddr) -> Self {
        let stream = TcpStream::connect(ingress).expect("the ingress accepts");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).expect("the connection takes a request");
    }

    fn answer(&mut self) -> Answer {
        let mut line = |it: &mut String| {
            it.clear();
            self.stream.read_line(it).expect("a line of the head");
            assert!(it.ends_with("\r\n"), "the connection ended within a head: {it:?}");
            it.truncate(it.len() - 2);
            it.make_ascii_lowercase();
        };
        let mut text = String::new();
        line(&mut text);
        let status = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        let (mut length, mut last) = (0, false);
        loop {
            line(&mut text);
            match text.split_once(": ") {
                Some(("content-length", it)) => length = it.parse().expect("a length"),
                Some(("connection", it)) => last = it == "close",
                Some(("transfer-encoding", _)) => panic!("an answer of these modules has a length"),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the body");
        Answer { status, body: String::from_utf8(body).expect("text"), last }
    }

    fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"));
        self.answer()
    }

    /// After the last answer: the end, and no byte before it.
    fn ends(mut self) {
        assert_eq!(self.stream.read(&mut [0]).expect("an end, and no reset"), 0);
    }
}

/// Requests on one connection for as long as it is kept, then on the next; how many, and how many connections were said to end.
fn ask_on_kept_connections(ingress: SocketAddr, stop: &AtomicBool) -> (u64, u64) {
    let (mut asked, mut ended) = (0, 0);
    let mut connection = Connection::open(ingress);
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.get("/guestbook");
        assert_eq!(answer.status, 200, "request {asked}: {answer:?}");
        asked += 1;
        if answer.last {
            connection.ends();
            ended += 1;
            connection = Connection::open(ingress);
        }
    }
    (asked, ended)
}

/// Calls by name, through the base, until told to stop; how many.
fn call_by_name(world: &World, stop: &AtomicBool) -> u64 {
    let mut called = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = world.call("unruly.echo", &json!({"text": "x"})).expect("a call by name");
        assert_eq!(answer["text"], "x", "{answer}");
        called += 1;
    }
    called
}

/// Clients of every kind.
struct Load<'scope> {
    kept: Vec<ScopedJoinHandle<'scope, (u64, u64)>>,
    others: Vec<ScopedJoinHandle<'scope, u64>>,
}

impl<'scope> Load<'scope> {
    fn begin<'a: 'scope>(scope: &'scope Scope<'scope, '_>, world: &'a World, stop: &'a AtomicBool) -> Self {
        let ingress = world.ingress;
        let url = format!("http://{ingress}/guestbook");
        Self {
            kept: (0..2).map(|_| scope.spawn(move || ask_on_kept_connections(ingress, stop))).collect(),
            others: vec![
                // Each request on a connection of its own.
                scope.spawn(move || {
                    let mut asked = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let mut connection = Connection::open(ingress);
                        connection.send("GET /guestbook HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
                        assert_eq!(connection.answer().status, 200, "request {asked}");
                        connection.ends();
                        asked += 1;
                    }
                    asked
                }),
                scope.spawn(move || request_until(stop, &url)),
                scope.spawn(move || call_by_name(world, stop)),
            ],
        }
    }

    /// After the end of all of them: how many connections were said to end by each of the clients that keep theirs.
    fn end(self) -> Vec<u64> {
        for other in self.others {
            assert!(other.join().expect("no request and no call failed") > 0);
        }
        let ended = self.kept.into_iter().map(|it| {
            let (asked, ended) = it.join().expect("no request failed");
            assert!(asked > 0);
            ended
        });
        ended.collect()
    }
}

fn deploy(world: &World) {
    for module in ["unruly", "load", "legacy"] {
        world.deploy(module);
    }
    assert!(eventually(|| report(world)["answered"].as_u64() > Some(100)), "{}", report(world));
}

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

/// Installs the stock base as another version with this configuration.
fn install_configured(world: &World, version: &str, line: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    artifacts().lay_out_as("base", version, folder.path()).expect("another version");
    let manifest = folder.path().join("module.toml");
    let text = fs::read_to_string(&manifest).expect("module.toml");
    fs::write(&manifest, format!("{text}\n[configuration]\n{line}\n")).expect("module.toml");
    world.mortise(&["install", &folder.path().display().to_string()]);
}

/// How many workers of the base are not over.
fn bases(world: &World) -> usize {
    let status = world.status("base");
    let workers = status["workers"].as_array().expect("workers");
    workers.iter().filter(|it| it["state"] != "stopped").count()
}

#[test]
fn swaps_of_the_base_drop_no_connection_and_lose_no_call() {
    as_root!();
    let world = World::start();
    deploy(&world);
    world.install_as("base", "2.0.0");
    let first = world.worker("base")["version"].as_str().expect("a version").to_owned();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = Load::begin(scope, &world, &stop);
        for round in 0..10 {
            let version = if round % 2 == 0 { "2.0.0" } else { &first };
            world.mortise(&["swap", &format!("base@{version}")]);
            assert_eq!(world.worker("base")["version"], version);
        }
        stop.store(true, Ordering::Relaxed);
        for ended in load.end() {
            assert!(ended >= 5, "a client that keeps its connection is told to come again: {ended}");
        }
    });
    assert!(eventually(|| bases(&world) == 1), "{}", world.status("base"));
    let report = report(&world);
    assert_eq!(report["failed"], 0, "{report}");
    world.end();
}

#[test]
fn what_clients_have_begun_is_finished_by_the_base_that_began_it() {
    as_root!();
    let world = World::start();
    world.deploy_site();
    world.deploy("legacy");
    // The one that is replaced waits for its clients for longer than a busy machine takes to see that it does.
    install_configured(&world, "2.0.0", "linger_time = \"60\"");
    world.mortise(&["swap", "base@2.0.0"]);
    assert!(eventually(|| bases(&world) == 1), "{}", world.status("base"));
    world.install_as("base", "3.0.0");
    let mut idle = Connection::open(world.ingress);
    let mut busy = Connection::open(world.ingress);
    assert_eq!(idle.get("/guestbook").status, 200);
    assert_eq!(busy.get("/guestbook").status, 200);
    let text = "Teh server";
    busy.send(&format!("POST /site/check HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n\r\nTeh", text.len()));
    std::thread::scope(|scope| {
        let swap = scope.spawn(|| world.mortise(&["swap", "base@3.0.0"]));
        let drains = || {
            let status = world.status("base");
            status["workers"].as_array().is_some_and(|it| it.iter().any(|it| it["state"] == "draining"))
        };
        assert!(eventually(drains), "{}", world.status("base"));
        // Whoever comes now comes to the second.
        let mut fresh = Connection::open(world.ingress);
        let answer = fresh.get("/guestbook");
        assert_eq!((answer.status, answer.last), (200, false), "{answer:?}");
        // The first one waits for what it has begun.
        let answer = idle.get("/guestbook");
        assert_eq!((answer.status, answer.last), (200, true), "{answer:?}");
        idle.ends();
        busy.send(&text[3..]);
        let answer = busy.answer();
        assert_eq!((answer.status, answer.last), (200, true), "{answer:?}");
        assert_eq!(answer.body, "Teh: the, eth, tech, teth, tea\n");
        busy.ends();
        swap.join().expect("the swap");
        let answer = fresh.get("/guestbook");
        assert_eq!((answer.status, answer.last), (200, false), "{answer:?}");
    });
    world.end();
}

#[test]
fn a_base_that_never_becomes_ready_leaves_the_old_one_serving() {
    as_root!();
    let world = World::start();
    world.deploy("legacy");
    let before = world.worker("base");
    install_configured(&world, "2.0.0", "linger_time = \"soon\"");
    let mut kept = Connection::open(world.ingress);
    assert_eq!(kept.get("/guestbook").status, 200);
    let error = world.mortise_fails(&["swap", "base@2.0.0"]);
    assert!(error.contains("linger_time"), "{error}");
    let answer = kept.get("/guestbook");
    assert_eq!((answer.status, answer.last), (200, false), "{answer:?}");
    let after = world.worker("base");
    assert_eq!((&after["worker"], &after["version"]), (&before["worker"], &before["version"]));
    world.end();
}

#[test]
fn a_swap_of_the_base_survives_the_supervisors_death() {
    as_root!();
    let mut world = World::start();
    deploy(&world);
    world.install_as("base", "2.0.0");
    let first = world.worker("base")["version"].as_str().expect("a version").to_owned();
    let stop = AtomicBool::new(false);
    let ingress = world.ingress;
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..2).map(|_| scope.spawn(|| ask_on_kept_connections(ingress, &stop))).collect();
        for round in 0_u64..6 {
            let version = if world.worker("base")["version"] == "2.0.0" { &first } else { "2.0.0" };
            let mut swap = world.daemon.mortise(["swap", &format!("base@{version}")]);
            let mut swap =
                swap.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mortise");
            // Not for synchronisation: every time in another step of it.
            std::thread::sleep(Duration::from_millis(40 * round));
            world.daemon.kill().expect("the supervisor is killed");
            world.daemon.succeed().expect("its successor starts");
            swap.wait().expect("mortise ends");
            assert!(eventually(|| bases(&world) == 1), "{}", world.status("base"));
        }
        stop.store(true, Ordering::Relaxed);
        for it in load {
            let (asked, _) = it.join().expect("no request failed");
            assert!(asked > 0);
        }
    });
    let report = report(&world);
    assert_eq!(report["failed"], 0, "{report}");
    world.end();
}
