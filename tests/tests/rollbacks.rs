//! A replaced version that is kept comes back in place, with what it had in memory, and nothing is lost on the way.

use std::fs;

use mortise_tests::{World, as_root, eventually};
use serde_json::{Value, json};

/// The worker of a version that has a process.
fn of_version(world: &World, version: &str) -> Value {
    let status = world.status("unruly");
    let workers = status["workers"].as_array().expect("workers");
    let found = workers.iter().find(|it| it["version"] == version && !it["pid"].is_null());
    found.unwrap_or_else(|| panic!("no worker of {version}: {status}")).clone()
}

/// What the kernel says a process does: D or S, R while it runs; and the ticks of CPU it has had.
fn ticks(worker: &Value) -> u64 {
    let pid = worker["pid"].as_u64().expect("a pid");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11..13].iter().map(|it| it.parse::<u64>().expect("a number")).sum()
}

fn version(world: &World) -> Value {
    world.call("unruly.echo", &json!({"text": "x"})).expect("it serves")["version"].clone()
}

#[test]
fn a_rollback_under_load_loses_nothing_and_starts_nobody() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.install_as("unruly", "2.0.0");
    world.deploy("load");
    let first = of_version(&world, "1.0.0");
    let swapped = world.mortise(&["swap", "unruly@2.0.0", "--keep", "10m"]);
    assert!(swapped.contains("workers frozen       1, holding"), "{swapped}");
    let kept = of_version(&world, "1.0.0");
    assert_eq!((&kept["state"], &kept["pid"]), (&json!("frozen"), &first["pid"]));
    assert!(kept["memory_bytes"].as_u64() > Some(0), "what it holds is still charged to it: {kept}");
    assert!(world.mortise(&["status", "unruly"]).contains("kept for a rollback for 9m"));
    assert_eq!(version(&world), "2.0.0");
    let second = of_version(&world, "2.0.0");
    for round in 0..10 {
        let (serving, resting) = if round % 2 == 0 { ("1.0.0", "2.0.0") } else { ("2.0.0", "1.0.0") };
        world.mortise(&["rollback", "unruly", "--keep", "10m"]);
        assert_eq!(version(&world), serving);
        assert_eq!(of_version(&world, resting)["state"], "frozen");
    }
    let pids = |it: &Value| it["pid"].clone();
    assert_eq!(pids(&of_version(&world, "1.0.0")), pids(&first));
    assert_eq!(pids(&of_version(&world, "2.0.0")), pids(&second));
    let report = world.call("load.report", &json!({})).expect("the load reports");
    assert_eq!(report["failed"], 0, "{report}");
    world.end();
}

#[test]
fn what_is_kept_stays_frozen_over_the_supervisors_death_and_comes_back_after_it() {
    as_root!();
    let mut world = World::start();
    world.deploy("unruly");
    world.install_as("unruly", "2.0.0");
    let first = of_version(&world, "1.0.0");
    world.mortise(&["swap", "unruly@2.0.0", "--keep", "10m"]);
    let before = ticks(&first);
    world.daemon.kill().expect("the supervisor is killed");
    world.daemon.succeed().expect("its successor starts");
    assert_eq!(of_version(&world, "1.0.0")["state"], "frozen");
    assert_eq!(ticks(&first), before, "a frozen process has no time");
    let refused = world.mortise_fails(&["uninstall", "unruly@1.0.0"]);
    assert!(refused.contains("mortise discard unruly"), "{refused}");
    world.mortise(&["rollback", "unruly"]);
    assert_eq!((version(&world), of_version(&world, "1.0.0")["pid"].clone()), (json!("1.0.0"), first["pid"].clone()));
    world.end();
}

#[test]
fn what_is_kept_ends_when_its_time_is_over_or_it_is_discarded_and_gives_everything_back() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.install_as("unruly", "2.0.0");
    world.mortise(&["swap", "unruly@2.0.0", "--keep", "10m"]);
    let receipt = world.mortise(&["discard", "unruly"]);
    assert!(receipt.contains("workers ended        1") && receipt.contains("processes left       0"), "{receipt}");
    world.mortise(&["swap", "unruly@1.0.0", "--keep", "100ms"]);
    let over = eventually(|| {
        let status = world.status("unruly");
        status["workers"]
            .as_array()
            .is_some_and(|all| all.iter().all(|it| it["version"] != "2.0.0" || it["state"] == "stopped"))
    });
    assert!(over, "{}", world.status("unruly"));
    let discarded = world.daemon.ask_json(["operation"]).expect("operations");
    let by_itself = |it: &Value| it["id"].as_str().is_some_and(|it| it.starts_with("keep-"));
    let operation = discarded.as_array().expect("a list").iter().find(|it| by_itself(it)).expect("it was an operation");
    assert!(eventually(|| {
        let id = operation["id"].as_str().expect("an id");
        world.daemon.ask_json(["operation", id]).is_ok_and(|it| it["receipt"]["workers"] == 1)
    }));
    let refused = world.mortise_fails(&["rollback", "unruly"]);
    assert!(refused.contains("nothing of default/unruly is kept frozen"), "{refused}");
    world.end();
}

#[test]
fn a_program_without_the_sdk_is_kept_with_its_memory() {
    as_root!();
    let world = World::start();
    world.deploy("legacy");
    world.install_as("legacy", "2.0.0");
    world.post("/guestbook", "name=Ada&text=hello").expect("it answers");
    let entries = |world: &World| world.get("/guestbook").expect("it answers").1.matches("<li>").count();
    assert_eq!(entries(&world), 1);
    world.mortise(&["swap", "legacy@2.0.0", "--keep", "10m"]);
    assert_eq!(entries(&world), 0, "another process");
    world.mortise(&["rollback", "legacy"]);
    assert_eq!(entries(&world), 1, "the same process");
    world.end();
}
