//! A host that has no descriptors or processes left for the supervisor: it says so, calls and requests go on, and all that was to happen
//! meanwhile happens when there are some again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use mortise_tests::{World, as_root, eventually, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// More connections than there can be to the admin API.
const CONNECTIONS: usize = 400;

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

fn log(world: &World) -> String {
    fs::read_to_string(world.daemon.folder().join("mortised.log")).expect("its log")
}

/// The site, which calls other modules for each request; calls without a pause; and a module that is to end.
fn under_load() -> World {
    let world = World::start();
    world.deploy_site();
    for module in ["unruly", "load", "legacy"] {
        world.deploy(module);
    }
    assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));
    world
}

/// Requests that modules answer by calls.
fn requests_are_answered(world: &World) {
    let url = format!("http://{}/site/check", world.ingress);
    for _ in 0..20 {
        let mut answer = ureq::post(&url).send("Teh server").expect("an answer");
        assert_eq!(answer.body_mut().read_to_string().expect("a body"), "Teh: the, eth, tech, teth, tea\n");
    }
}

/// Ends the worker of `legacy` behind the supervisor's back.
fn end(worker: &Value) {
    let pid = i32::try_from(worker["pid"].as_i64().expect("its pid")).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the worker is killed");
}

/// Everything is as it should be, and the worker that had ended is there again.
fn all_is_well(world: &World, ended: &Value) {
    let back = || world.get("/guestbook").is_ok_and(|it| it.0 == 200) && world.worker("legacy")["pid"] != ended["pid"];
    assert!(eventually(back), "{}\n{}", world.status("legacy"), log(world));
    requests_are_answered(world);
    world.mortise(&["restart", "unruly"]);
    let after = report(world);
    assert_eq!(after["failed"], 0, "{after}");
}

/// Sets the soft limit of descriptors, which nobody but the test changes meanwhile.
fn limit(pid: u32, descriptors: u64) {
    let arguments = [format!("--pid={pid}"), format!("--nofile={descriptors}:")];
    assert!(Command::new("prlimit").args(arguments).status().expect("util-linux is there").success());
}

/// What it is.
fn limit_of(pid: u32) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let line = limits.lines().find(|it| it.starts_with("Max open files")).expect("one of descriptors");
    line.split_whitespace().nth(3).and_then(|it| it.parse().ok()).expect("a number")
}

/// The lowest number that no descriptor of it has.
fn lowest_free(pid: u32) -> u64 {
    let is_free = |number: &u64| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_err();
    (0..).find(is_free).expect("a number")
}

/// Holds connections to the admin API until one is refused: those, and what it was told.
fn until_refused(socket: &Path) -> (Vec<UnixStream>, String) {
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = UnixStream::connect(socket).expect("somebody listens");
        // One that is refused may be closed by now; what it was told is there to be read all the same.
        let _ = write!(stream, "GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut answer = vec![0; 512];
        let length = stream.read(&mut answer).expect("it answers");
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        if answer.starts_with("HTTP/1.1 503") {
            return (held, answer);
        }
        held.push(stream);
    }
    panic!("{CONNECTIONS} connections are open");
}

#[test]
fn without_descriptors_clients_are_told_and_calls_go_on() {
    as_root!();
    let world = under_load();
    let (pid, socket) = (world.daemon.pid(), world.daemon.socket());
    let before = report(&world)["answered"].as_u64().expect("a number");
    let ended = world.worker("legacy");
    let enough = limit_of(pid);
    limit(pid, lowest_free(pid));
    let (mut held, told) = until_refused(&socket);
    assert!(told.contains("no file descriptor left") && told.contains("LimitNOFILE"), "{told}");
    // Again and again: what is in reserve is there for the next one. A descriptor that something else has given back is held, too.
    for _ in 0..20 {
        let (more, told) = until_refused(&socket);
        held.extend(more);
        assert!(told.contains("no file descriptor left"), "{told}");
    }
    // What it had itself may be enough for its successor, so nobody can say when that one comes.
    end(&ended);
    requests_are_answered(&world);
    drop(held);
    limit(pid, enough);
    all_is_well(&world, &ended);
    assert!(report(&world)["answered"].as_u64() > Some(before), "{}", report(&world));
    world.end();
}

/// A limit of processes for the supervisor alone, where the host can have one. Taken back when it is dropped.
struct NoProcesses {
    group: PathBuf,
    /// Where the supervisor was before.
    before: PathBuf,
    pid: u32,
}

impl NoProcesses {
    fn begin(pid: u32) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
        let path = |is: &dyn Fn(&str) -> bool| {
            groups.lines().find_map(|it| {
                let mut parts = it.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                is(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        // Version 1: workers are charged to the group of whoever forks them, until they have joined their own. On version 2 they begin
        // in a group beside the supervisor's, and a limit above both would be one for the modules and for this test, too.
        let before = Path::new("/sys/fs/cgroup/pids").join(path(&|it| it == "pids")?);
        let group = before.join(format!("mortise-test-{pid}"));
        fs::create_dir(&group).ok()?;
        let limits = Self { group, before, pid };
        fs::write(limits.group.join("cgroup.procs"), pid.to_string()).expect("it joins");
        // Fewer than there are: the end of a worker makes no room for another.
        fs::write(limits.group.join("pids.max"), "1").ok()?;
        Some(limits)
    }
}

impl Drop for NoProcesses {
    fn drop(&mut self) {
        let _ = fs::write(self.group.join("pids.max"), "max");
        let back = fs::write(self.before.join("cgroup.procs"), self.pid.to_string());
        if let Err(error) = back.and_then(|()| fs::remove_dir(&self.group)) {
            eprintln!("{}: {error}", self.group.display());
        }
    }
}

#[test]
fn without_processes_nothing_is_given_up_and_calls_go_on() {
    as_root!();
    let world = under_load();
    let before = report(&world)["answered"].as_u64().expect("a number");
    let Some(none_left) = NoProcesses::begin(world.daemon.pid()) else {
        world.end();
        return skip("shortages", "this host has no limit of processes for one process alone (pids on cgroup v1)");
    };
    let ended = world.worker("legacy");
    end(&ended);
    let is_tried = || log(&world).contains("it could not be started");
    assert!(eventually(is_tried), "{}", log(&world));
    requests_are_answered(&world);
    let now = report(&world);
    assert!(now["answered"].as_u64() > Some(before) && now["failed"] == 0, "{now}");
    drop(none_left);
    all_is_well(&world, &ended);
    world.end();
}
