//! A new version gets the calls by steps: a good one all of them, one that errs none for long, and nobody's call fails by a step.

use std::fs;

use mortise_tests::{World, artifacts, as_root, eventually};
use serde_json::{Value, json};

/// `unruly` 1.0.0 that nobody calls, and 2.0.0 of it installed.
fn idle() -> World {
    let world = World::start();
    world.deploy("unruly");
    world.install_as("unruly", "2.0.0");
    world
}

/// The same under a load of calls.
fn under_load() -> World {
    let world = idle();
    world.deploy("load");
    world
}

/// Installs a version of `unruly` of which every fifth echo fails.
fn install_bad(world: &World, version: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    artifacts().lay_out_as("unruly", version, folder.path()).expect("another version");
    let manifest = folder.path().join("module.toml");
    let text = fs::read_to_string(&manifest).expect("module.toml");
    fs::write(&manifest, text + "\n[configuration]\nfails-every = 5\n").expect("module.toml");
    world.mortise(&["install", &folder.path().display().to_string()]);
}

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

/// Begins a swap and returns the operation's id.
fn begin(world: &World, words: &[&str]) -> String {
    let words = [&["--json", "--no-wait", "swap"], words].concat();
    let operation: Value = serde_json::from_str(&world.mortise(&words)).expect("JSON");
    operation["id"].as_str().expect("an id").to_owned()
}

/// The operation as it is now.
fn operation(world: &World, id: &str) -> Value {
    let output = world.daemon.mortise(["--json", "--no-wait", "operation", id]).output().expect("mortise runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The operation when it has ended.
fn ended(world: &World, id: &str) -> Value {
    assert!(eventually(|| operation(world, id)["state"] != "running"), "{}", operation(world, id));
    operation(world, id)
}

fn steps(operation: &Value) -> Vec<&str> {
    let steps = operation["steps"].as_array().expect("steps");
    steps.iter().filter_map(|it| it["step"].as_str()).collect()
}

/// What is said of a step; empty: nothing yet.
fn said<'a>(operation: &'a Value, step: &str) -> &'a str {
    let steps = operation["steps"].as_array().expect("steps");
    steps.iter().find(|it| it["step"] == step).and_then(|it| it["said"].as_str()).unwrap_or_default()
}

fn has_share(world: &World, percent: u64) -> bool {
    world.status("unruly")["beside_share"] == percent
}

#[test]
fn a_good_version_gets_everything_by_steps_and_no_call_fails() {
    as_root!();
    let world = under_load();
    // Gates that a machine which builds meanwhile does not fail: they are measured, and that is what counts here.
    let gates = ["--gate", "p99=1000x", "--gate", "cpu=1000x", "--gate", "memory=1000x"];
    let id = begin(&world, &[&["unruly@2.0.0", "--canary", "10,50", "--pause", "1s"], &gates[..]].concat());
    let done = ended(&world, &id);
    assert_eq!(done["state"], "done", "{done}");
    let first = ["accept", "start", "ready", "beside", "share 10%", "share 50%", "commit", "flip"];
    assert_eq!(steps(&done)[..first.len()], first, "{done}");
    for step in ["share 10%", "share 50%"] {
        for figure in ["error_rate 0.00 % against 0.00 %", "p99 ", "cpu ", "memory ", "restarts 0 against 0"] {
            assert!(said(&done, step).contains(figure), "{figure} in {done}");
        }
    }
    assert_eq!(world.worker("unruly")["version"], "2.0.0");
    // Back again, all at once.
    let id = begin(&world, &["unruly@1.0.0", "--blue-green", "--pause", "1s"]);
    let done = ended(&world, &id);
    assert_eq!((&done["state"], steps(&done)[4]), (&json!("done"), "share 100%"), "{done}");
    let report = report(&world);
    assert_eq!((&report["failed"], &report["versions"]), (&json!(0), &json!(["1.0.0", "2.0.0"])), "{report}");
    world.end();
}

#[test]
fn a_version_that_errs_is_taken_back_and_the_answer_says_which_figure() {
    as_root!();
    let world = under_load();
    install_bad(&world, "3.0.0");
    // It does not wait for the end of so long a step.
    let told = world.mortise_fails(&["swap", "unruly@3.0.0", "--canary", "20,50", "--pause", "1h"]);
    assert!(told.contains("error_rate of 3.0.0 ") && told.contains(" % against 0.00 % of 1.0.0"), "{told}");
    assert!(told.contains("at most +1% allowed, at step 20 %; rolled back"), "{told}");
    assert!(world.status("unruly")["beside"].is_null());
    assert_eq!(world.worker("unruly")["version"], "1.0.0");
    let failed = report(&world)["failed"].as_u64();
    assert!(failed > Some(0), "it has answered, and erred");
    for _ in 0..20 {
        assert_eq!(world.call("unruly.echo", &json!({"text": "x"})).expect("an answer")["version"], "1.0.0");
    }
    let later = report(&world);
    assert!(eventually(|| report(&world)["answered"].as_u64() > later["answered"].as_u64().map(|it| it + 100)));
    assert_eq!(report(&world)["failed"].as_u64(), failed, "nobody is sent there any more");
    // A gate of its successor's operator that it passes.
    world.mortise(&["swap", "unruly@3.0.0", "--canary", "50", "--pause", "1s", "--gate", "error_rate=90%"]);
    world.end();
}

#[test]
fn it_is_paused_resumed_and_aborted_and_no_call_fails() {
    as_root!();
    let world = idle();
    let swap = ["unruly@2.0.0", "--canary", "5", "--pause", "1s"];
    // Nobody calls: the step lasts until somebody does.
    let id = begin(&world, &swap);
    assert!(eventually(|| said(&operation(&world, &id), "share 5%") == "waits for calls: 0 of 100"));
    let refused = world.mortise_fails(&["stop", "unruly"]);
    assert!(refused.contains("mortise swap abort unruly"), "{refused}");
    world.mortise(&["swap", "abort", "unruly"]);
    let aborted = ended(&world, &id);
    assert!(aborted["error"]["message"].as_str().is_some_and(|it| it.starts_with("aborted at step 5 %")), "{aborted}");
    assert_eq!(world.worker("unruly")["version"], "1.0.0");
    assert!(world.mortise_fails(&["swap", "abort", "unruly"]).contains("no operation is under way"));

    let id = begin(&world, &swap);
    assert!(eventually(|| has_share(&world, 5)), "{}", operation(&world, &id));
    world.mortise(&["swap", "pause", "unruly"]);
    world.deploy("load");
    assert!(eventually(|| said(&operation(&world, &id), "share 5%").contains("error_rate")));
    assert!(has_share(&world, 5), "its time is over, its gates are passed, and it stays: {}", operation(&world, &id));
    world.mortise(&["swap", "resume", "unruly"]);
    let done = ended(&world, &id);
    assert_eq!((&done["state"], &world.worker("unruly")["version"]), (&json!("done"), &json!("2.0.0")), "{done}");
    assert_eq!(report(&world)["failed"], 0);
    world.end();
}

#[test]
fn it_goes_on_where_it_was_when_the_supervisor_is_killed_in_a_step() {
    as_root!();
    let mut world = idle();
    install_bad(&world, "3.0.0");
    let die = |world: &mut World| {
        world.daemon.kill().expect("the supervisor is killed");
        world.daemon.succeed().expect("its successor starts");
    };
    let id = begin(&world, &["unruly@2.0.0", "--canary", "5,50", "--pause", "1s"]);
    assert!(eventually(|| has_share(&world, 5)), "{}", operation(&world, &id));
    die(&mut world);
    assert!(has_share(&world, 5), "{}", operation(&world, &id));
    world.mortise(&["swap", "pause", "unruly"]);
    world.deploy("load");
    assert!(eventually(|| said(&operation(&world, &id), "share 5%").contains("error_rate")));
    die(&mut world);
    assert!(has_share(&world, 5), "it is paused still: {}", operation(&world, &id));
    world.mortise(&["swap", "resume", "unruly"]);
    die(&mut world);
    let done = ended(&world, &id);
    assert_eq!((&done["state"], steps(&done)[5]), (&json!("done"), "share 50%"), "{done}");
    assert_eq!(report(&world)["failed"], 0);
    assert_eq!(world.worker("unruly")["version"], "2.0.0");

    // One that errs is judged by the successor.
    world.mortise(&["stop", "load"]);
    let id = begin(&world, &["unruly@3.0.0", "--canary", "20", "--pause", "1h"]);
    assert!(eventually(|| has_share(&world, 20)), "{}", operation(&world, &id));
    die(&mut world);
    world.mortise(&["start", "load"]);
    let failed = ended(&world, &id);
    assert!(failed["error"]["message"].as_str().is_some_and(|it| it.starts_with("error_rate of 3.0.0")), "{failed}");
    assert_eq!(world.worker("unruly")["version"], "2.0.0");
    world.end();
}
