//! The supervisor becomes another program in place: same process, same sockets, and nobody who calls notices.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use mortise_tests::{World, artifacts, as_root, eventually, request_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use xtask::daemon::in_a_group;

/// So many upgrades, unless `MORTISE_UPGRADES` says how many.
const UPGRADES: usize = 4;

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

fn host(world: &World) -> Value {
    world.daemon.ask_json(["status"]).expect("mortise status")["host"].clone()
}

/// The programs of the supervisor in a folder of their own, as another version would be.
fn installed(world: &World, at: &Path) -> PathBuf {
    fs::create_dir(at).expect("a folder");
    let running = fs::read_link(format!("/proc/{}/exe", world.daemon.pid())).expect("the running program");
    for name in ["mortised", "mortise-init"] {
        fs::copy(running.with_file_name(name), at.join(name)).expect("a copy");
    }
    at.join("mortised")
}

/// What it has open for long: listening sockets, files and folders. Connections come and go, log files are opened by their first line.
fn descriptors(pid: u32) -> Vec<String> {
    let listening = fs::read_to_string(format!("/proc/{pid}/net/unix")).expect("sockets");
    let tcp = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("sockets");
    // `Flags` of a Unix socket that listens are 10000, `st` of a TCP socket that does is 0A.
    let listens = |inode: &str| {
        let unix = listening.lines().any(|it| it.split_whitespace().nth(6) == Some(inode) && it.contains(" 00010000 "));
        unix || tcp.lines().any(|it| it.split_whitespace().nth(9) == Some(inode) && it.contains(" 0A "))
    };
    let links = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
    let names = links.filter_map(|it| Some(fs::read_link(it.path()).ok()?.to_string_lossy().into_owned()));
    let lasting = |it: String| match it.strip_prefix("socket:[") {
        Some(inode) => listens(inode.trim_end_matches(']')).then(|| "a listening socket".to_owned()),
        None => (it.starts_with('/') && !it.starts_with("/memfd:") && !it.contains("/logs/")).then_some(it),
    };
    let mut lasting: Vec<_> = names.filter_map(lasting).collect();
    lasting.sort();
    lasting
}

/// Its children that have ended and that it has not collected.
fn uncollected(pid: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let stats = processes.filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
    let is_one = |it: &String| it.rsplit_once(") ").is_some_and(|(_, after)| after.starts_with(&format!("Z {pid} ")));
    stats.filter(is_one).collect()
}

#[test]
fn upgrades_in_place_fail_no_call_and_no_request() {
    as_root!();
    let upgrades = std::env::var("MORTISE_UPGRADES").ok().map_or(UPGRADES, |it| it.parse().expect("a number"));
    let world = World::start();
    for module in ["unruly", "load", "legacy"] {
        world.deploy(module);
    }
    let pid = world.daemon.pid();
    let others = ["a", "b"].map(|it| installed(&world, &world.daemon.folder().join(it)));
    let workers: Vec<Value> = ["unruly", "load", "legacy", "base"].map(|it| world.worker(it)["pid"].clone()).into();
    assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));
    let (stop, mut open) = (AtomicBool::new(false), None);
    let url = format!("http://{}/guestbook", world.ingress);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| request_until(&stop, &url));
        for upgrade in 0..upgrades {
            let binary = &others[upgrade % 2];
            world.mortise(&["upgrade", &binary.display().to_string()]);
            let runs = fs::read_link(format!("/proc/{pid}/exe")).expect("the same process");
            assert_eq!(runs, *binary);
            let now = report(&world);
            assert_eq!(now["failed"], 0, "upgrade {upgrade}: {now}");
            open.get_or_insert_with(|| descriptors(pid));
        }
        stop.store(true, Ordering::Relaxed);
        asking.join().expect("no request failed")
    });
    println!("upgrades={upgrades} requests={asked} calls={}", report(&world)["answered"]);
    assert_eq!(host(&world)["pid"], pid);
    let now: Vec<Value> = ["unruly", "load", "legacy", "base"].map(|it| world.worker(it)["pid"].clone()).into();
    assert_eq!(now, workers, "nothing was ended or started");
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).expect("its name").trim(), "mortised");
    let as_before = || Some(descriptors(pid)) == open;
    assert!(eventually(as_before), "carried from one program to the next: {:#?}\nnot {open:#?}", descriptors(pid));
    assert_eq!(uncollected(pid), Vec::<String>::new());
    let snapshots = fs::read_dir(world.daemon.folder().join("state")).expect("the state folder").flatten();
    assert_eq!(snapshots.filter(|it| it.file_name().to_string_lossy().starts_with("snapshot-")).count(), 0);

    // It is a whole supervisor: it swaps, and it collects its children of an earlier life.
    world.mortise(&["restart", "unruly"]);
    assert_eq!(report(&world)["failed"], 0);
    world.end();
}

#[test]
fn a_program_that_fails_its_self_check_leaves_the_old_one_running() {
    as_root!();
    let world = World::start();
    let before = host(&world);
    let folder = world.daemon.folder().to_owned();
    let broken = folder.join("broken");
    let write = |text: &str, mode: u32| {
        fs::write(&broken, text).expect("a program");
        fs::set_permissions(&broken, fs::Permissions::from_mode(mode)).expect("its mode");
        world.mortise_fails(&["upgrade", &broken.display().to_string()])
    };
    let said = write("#!/bin/sh\necho the store is too old for me >&2\nexit 1\n", 0o755);
    assert!(said.contains("the store is too old for me"), "{said}");
    let said = write("no program", 0o755);
    assert!(said.contains("self-check"), "{said}");
    let said = write("#!/bin/sh\nexit 0\n", 0o755);
    assert!(said.contains("does not answer as a mortised does"), "{said}");
    let said = write("#!/bin/sh\ntouch \"$(dirname \"$3\")/../../broken\"; echo '{\"mortised\":\"9.9.9\"}'\n", 0o755);
    assert!(said.contains("was changed while it was checked"), "{said}");
    let said = write("#!/bin/sh\nyes\n", 0o755);
    assert!(said.contains("did not end within"), "{said}");
    let said = write("#!/bin/sh\nexit 0\n", 0o777);
    assert!(said.contains("chmod"), "{said}");
    let said = world.mortise_fails(&["upgrade", &folder.join("nowhere").display().to_string()]);
    assert!(said.contains("No such file"), "{said}");
    let shared = folder.join("shared");
    fs::create_dir(&shared).expect("a folder");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("its mode");
    fs::copy("/bin/true", shared.join("true")).expect("a copy");
    let said = world.mortise_fails(&["upgrade", &shared.join("true").display().to_string()]);
    assert!(said.contains("chmod"), "{said}");
    // A mortised without its mortise-init would end the supervisor.
    let alone = folder.join("alone");
    fs::copy(fs::read_link(format!("/proc/{}/exe", world.daemon.pid())).expect("the program"), &alone).expect("a copy");
    let said = world.mortise_fails(&["upgrade", &alone.display().to_string()]);
    assert!(said.contains("mortise-init"), "{said}");
    assert_eq!(host(&world), before, "the old one runs on");
    world.end();
}

#[test]
fn a_hangup_after_the_program_was_replaced_makes_the_supervisor_the_new_one() {
    as_root!();
    let world = World::start();
    let pid = world.daemon.pid();
    let folder = world.daemon.folder().join("installed");
    let original = fs::read_link(format!("/proc/{pid}/exe")).expect("the running program");
    let program = installed(&world, &folder);
    world.mortise(&["upgrade", &program.display().to_string()]);
    let before = host(&world);
    // As dpkg does it: the new file takes the name of the old one.
    let replace = |with: &Path| {
        let new = folder.join("new");
        fs::copy(with, &new).expect("a copy");
        fs::rename(&new, &program).expect("it takes the place");
    };
    let hang_up = || kill(Pid::from_raw(pid.cast_signed()), Signal::SIGHUP).expect("a SIGHUP");
    replace(Path::new("/bin/true"));
    hang_up();
    let log = || fs::read_to_string(world.daemon.folder().join("mortised.log")).expect("its log");
    assert!(eventually(|| log().contains("the mortised that was installed is refused")), "{}", log());
    assert_eq!(host(&world), before, "the old one runs on");
    replace(&original);
    hang_up();
    let is_new = || world.daemon.ask_json(["status"]).is_ok_and(|it| it["host"]["started"] != before["started"]);
    assert!(eventually(is_new), "{}", log());
    assert_eq!(host(&world)["pid"], pid);
    assert_eq!(fs::read_link(format!("/proc/{pid}/exe")).expect("its program"), program);
    world.end();
}

#[test]
fn sockets_of_the_service_manager_are_still_its_own_after_an_upgrade() {
    as_root!();
    let folder = tempfile::Builder::new().prefix("mortise-test-").tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let programs = &artifacts().programs;
    let (ingress, admin) = (TcpListener::bind("127.0.0.1:0"), UnixListener::bind(path("held.sock")));
    let ingress = ingress.expect("a socket");
    let address = ingress.local_addr().expect("its address");
    // As systemd does it: from 3 on, for the process that the variable names.
    let script =
        r#"exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=ingress:admin exec "$@""#;
    let mut shell = in_a_group("sh".into(), folder.path());
    shell.args(["-c", script, "sh"]).arg(programs.join("mortised")).args(["--config", "/dev/null", "--state"]);
    shell.arg(path("state")).arg("--run").arg(path("run")).arg("--admin").arg(path("held.sock"));
    let log = File::create(path("log")).expect("a log");
    let sockets = (OwnedFd::from(ingress), OwnedFd::from(admin.expect("a socket")));
    let mut daemon = shell.stdin(sockets.0).stdout(sockets.1).stderr(log).spawn().expect("mortised starts");
    let mortise = |words: &[&str]| {
        let mut mortise = Command::new(programs.join("mortise"));
        mortise.arg("--socket").arg(path("held.sock")).arg("--json").args(words).output().expect("mortise runs")
    };
    let host = || {
        let output = mortise(&["status"]);
        let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        status.map_or(Value::Null, |it| it["host"].clone())
    };
    // Its own program again: that its file is the same one makes no difference.
    let upgraded = mortise(&["upgrade", &programs.join("mortised").display().to_string()]);
    let said = || fs::read_to_string(path("log")).unwrap_or_default();
    assert!(upgraded.status.success(), "{}\n{}", String::from_utf8_lossy(&upgraded.stderr), said());
    assert_eq!(host()["ingress"], json!([format!("http://{address}")]), "{}", said());
    std::net::TcpStream::connect(address).expect("somebody listens");
    kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM).expect("a SIGTERM");
    assert!(daemon.wait().expect("it ends").success(), "{}", said());
    assert!(path("held.sock").exists(), "it is the service manager's");
    if let Some(groups) = std::env::var_os("MORTISE_CGROUP") {
        let name = folder.path().file_name().expect("its name");
        fs::remove_dir(Path::new(&groups).join(name)).expect("nobody is left in its group");
    }
}
