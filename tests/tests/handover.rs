//! A module's state goes from version to version: each call is counted once, whatever happens in between.

use std::fmt::Write as _;
use std::fs;

use mortise_tests::{World, artifacts, as_root, eventually};
use serde_json::{Value, json};

const SWAPS: u64 = 20;

/// The forms that a version's state may have.
const TEXT: &str = "1";
const BYTES: &str = "2";

/// Installs a version of `counter` with state of this form, and the vice if it has one.
fn install(world: &World, version: &str, state: &str, vice: &str, timeout: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    artifacts().lay_out_as("counter", version, folder.path()).expect("a version");
    let manifest = folder.path().join("module.toml");
    let mut text = fs::read_to_string(&manifest).expect("module.toml");
    assert!(text.contains("\nversion = 1\n"), "{text}");
    text = text.replace("\nversion = 1\n", &format!("\nversion = {state}\ntimeout = \"{timeout}\"\n"));
    write!(text, "\n[configuration]\nstate = {state}\nvice = \"{vice}\"\n").expect("a text");
    fs::write(manifest, text).expect("module.toml");
    world.mortise(&["install", &folder.path().display().to_string()]);
}

/// `counter` 1.0.0, with that vice, counts what `tally` calls; 2.0.0 is there, with that one.
fn counting(vices: [&str; 2], timeout: &str) -> World {
    let world = World::start();
    install(&world, "1.0.0", TEXT, vices[0], timeout);
    install(&world, "2.0.0", BYTES, vices[1], timeout);
    world.mortise(&["start", "counter@1.0.0"]);
    world.mortise(&["publish", "counter"]);
    world.deploy("tally");
    more_is_counted(&world);
    world
}

fn answered(world: &World) -> u64 {
    world.call("tally.answered", &json!({})).expect("the tally answers").as_u64().expect("a number")
}

/// So many calls more are answered.
fn more_is_counted(world: &World) {
    let enough = answered(world) + 20;
    assert!(eventually(|| answered(world) >= enough), "nothing is counted: {}", world.status("counter"));
}

/// The worker of `counter` that is called.
fn pid(world: &World) -> Value {
    world.worker("counter")["pid"].clone()
}

/// No call failed, none was counted twice, and none was forgotten.
fn audit(world: &World) -> Value {
    let report = world.call("tally.end", &json!({})).expect("the tally reports");
    assert_eq!((&report["failed"], &report["twice"]), (&json!(0), &json!(0)), "{report}");
    assert_eq!(report["most"], report["answered"], "as many were counted as were answered: {report}");
    assert_eq!(world.call("counter.peek", &json!({})).expect("it counts"), report["answered"]);
    report
}

/// Begins a swap and returns the operation's id.
fn begin_swap(world: &World) -> String {
    let words = ["--json", "--no-wait", "swap", "counter@2.0.0"];
    let operation: Value = serde_json::from_str(&world.mortise(&words)).expect("JSON");
    operation["id"].as_str().expect("an id").to_owned()
}

fn operation(world: &World, id: &str) -> Value {
    let output = world.daemon.mortise(["--json", "--no-wait", "operation", id]).output().expect("mortise runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn has_come_to(world: &World, id: &str, step: &str) -> bool {
    operation(world, id)["steps"].as_array().is_some_and(|it| it.iter().any(|it| it["step"] == step))
}

#[test]
fn a_count_goes_through_swaps_under_load_and_each_call_is_counted_once() {
    as_root!();
    let world = counting(["", ""], "30s");
    let mut said = Vec::new();
    for round in 0..SWAPS {
        let version = if round % 2 == 0 { "2.0.0" } else { "1.0.0" };
        let swap = world.daemon.ask_json(["swap", &format!("counter@{version}")]).expect("a swap");
        let steps = swap["steps"].as_array().cloned().unwrap_or_default();
        let import = steps.iter().find(|it| it["step"] == "import").unwrap_or_else(|| panic!("no state: {swap}"));
        said.push(import["said"].as_str().expect("what was handed over").to_owned());
        more_is_counted(&world);
    }
    let report = audit(&world);
    println!("{report}\n{}", said.join("\n"));
    assert!(said[0].contains(" of version 1; ") && said[1].starts_with("8 bytes of version 2; "), "{said:?}");
    world.end();
}

#[test]
fn whatever_goes_wrong_the_old_worker_goes_on_counting_where_it_was() {
    as_root!();
    let cases = [
        (["exports-nothing", ""], "did not export its state within handover.timeout = 5s"),
        (["exports-without-end", ""], "the state has more than handover.max_bytes = 1048576 bytes"),
        (["panics-at-export", ""], "export_state panicked"),
        (["maps-its-memory", ""], "the worker still has its memory mapped to write to it"),
        (["", "imports-nothing"], "did not import the state within handover.timeout = 5s"),
        (["", "refuses-state"], "is no number that it likes"),
        (["", "panics-at-import"], "import_state panicked"),
        (["", "dies-at-import"], "exit status 7"),
    ];
    for (vices, why) in cases {
        let world = counting(vices, "5s");
        let before = pid(&world);
        let refused = world.mortise_fails(&["swap", "counter@2.0.0"]);
        assert!(refused.contains(why) && refused.contains("rolled back"), "{vices:?}: {refused}");
        assert_eq!(pid(&world), before, "{vices:?}: it is the same worker");
        more_is_counted(&world);
        audit(&world);
        world.end();
    }
}

#[test]
fn a_call_that_takes_longer_than_calls_may_wait_keeps_the_old_worker_and_is_counted() {
    as_root!();
    let world = counting(["", ""], "200ms");
    let before = pid(&world);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| world.call("counter.count_when_released", &json!({})));
        let waits = || world.call("counter.waiting", &json!({})) == Ok(json!(1));
        assert!(eventually(waits), "{}", world.status("counter"));
        let refused = world.mortise_fails(&["swap", "counter@2.0.0"]);
        assert!(refused.contains("had begun did not end within handover.timeout = 200ms"), "{refused}");
        more_is_counted(&world);
        world.call("counter.release", &json!({})).expect("it lets go");
        slow.join().expect("it returns").expect("it is answered");
    });
    assert_eq!(pid(&world), before);
    let report = world.call("tally.end", &json!({})).expect("the tally reports");
    assert_eq!((&report["failed"], &report["twice"]), (&json!(0), &json!(0)), "{report}");
    let counted = world.call("counter.peek", &json!({})).expect("it counts");
    assert_eq!(counted.as_u64(), report["answered"].as_u64().map(|it| it + 1), "and the slow one: {report}");
    world.end();
}

#[test]
fn a_supervisor_that_dies_in_between_leaves_the_old_worker_counting_and_says_so() {
    as_root!();
    for (vices, step) in [(["exports-nothing", ""], "export"), (["", "imports-nothing"], "import")] {
        let mut world = counting(vices, "60s");
        let before = pid(&world);
        let id = begin_swap(&world);
        assert!(eventually(|| has_come_to(&world, &id, step)), "{}", operation(&world, &id));
        world.daemon.kill().expect("the supervisor is killed");
        world.daemon.succeed().expect("its successor starts");
        assert!(eventually(|| operation(&world, &id)["state"] == "failed"), "{}", operation(&world, &id));
        let ended = operation(&world, &id);
        assert!(
            ended["error"]["message"].as_str().is_some_and(|it| it.contains("restarted before the commit")),
            "{ended}"
        );
        assert_eq!(pid(&world), before);
        more_is_counted(&world);
        audit(&world);
        world.end();
    }
}

#[test]
fn a_worker_without_state_takes_over_only_when_that_is_said_and_a_rollback_has_the_state_that_was_kept() {
    as_root!();
    let world = counting(["", "refuses-state"], "5s");
    world.mortise(&["stop", "tally"]);
    let counted = world.call("counter.peek", &json!({})).expect("it counts");
    world.mortise(&["swap", "counter@2.0.0", "--without-state", "--keep", "10m"]);
    assert_eq!(world.call("counter.peek", &json!({})), Ok(json!(0)));
    assert_eq!(world.call("counter.count", &json!({})), Ok(json!(1)));
    world.mortise(&["rollback", "counter"]);
    assert_eq!(world.call("counter.peek", &json!({})), Ok(counted));
    world.end();
}
