//! A version beside is tried on real calls: callers get the answers of the version in charge whatever the other does, only calls of
//! idempotent methods go to both, and the report says where the answers differ.

use std::fs;

use mortise_tests::{World, artifacts, as_root, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// `trial` 1.0.0 in charge, called by `asker`; 2.0.0, which does that, beside it.
fn on_trial(does: &str) -> World {
    let world = World::start();
    world.deploy("trial");
    world.deploy("asker");
    let folder = tempfile::tempdir().expect("a folder");
    artifacts().lay_out_as("trial", "2.0.0", folder.path()).expect("another version");
    let manifest = folder.path().join("module.toml");
    let text = fs::read_to_string(&manifest).expect("module.toml");
    fs::write(&manifest, format!("{text}\n[configuration]\ndoes = {does:?}\n")).expect("module.toml");
    world.mortise(&["install", &folder.path().display().to_string()]);
    world.mortise(&["start", "trial@2.0.0", "--beside"]);
    world
}

/// Has texts checked and stored; each must be answered as by version 1.0.0. `stored` is how many were stored before.
fn ask(world: &World, stored: u64, times: u64) {
    for number in stored + 1..=stored + times {
        let answer = world.get("/asker").expect("an answer");
        assert_eq!(answer, (200, format!("3 words, 0 suggestions, {number} stored")));
    }
}

fn report(world: &World) -> Value {
    serde_json::from_str(&world.mortise(&["--json", "shadow", "report", "trial"])).expect("JSON")
}

/// The figures of `check`, when at least so many copies have come to something.
fn figures(world: &World, copies: u64) -> Value {
    let method = || report(world)["methods"][0].clone();
    let sum = |it: &Value| -> u64 {
        let all = ["equal", "different", "failed", "skipped"];
        all.iter().map(|name| it[name].as_u64().unwrap_or(0)).sum()
    };
    assert!(eventually(|| sum(&method()) >= copies), "{}", report(world));
    let found = method();
    assert_eq!((&found["service"], &found["method"]), (&json!("trial"), &json!("check")));
    found
}

/// Puts 2.0.0 in charge, and asks it what it has been asked.
fn asked(world: &World) -> Value {
    world.mortise(&["swap", "trial@2.0.0"]);
    world.call("trial.asked", &json!({})).expect("it says what it was asked")
}

/// The pid of the worker of 2.0.0.
fn pid_beside(world: &World) -> Option<i32> {
    let status = world.status("trial");
    let worker =
        status["workers"].as_array()?.iter().find(|it| it["version"] == "2.0.0" && it["state"] == "published")?;
    i32::try_from(worker["pid"].as_i64()?).ok()
}

#[test]
fn the_report_names_the_first_field_that_differs_and_nothing_but_idempotent_calls_go_to_both() {
    as_root!();
    let world = on_trial("suggests");
    assert!(world.mortise_fails(&["shadow", "report", "trial"]).contains("mortise shadow start"));
    ask(&world, 0, 5);
    let said = world.mortise(&["shadow", "start", "trial", "100%"]);
    assert!(said.contains("100 % of the calls of idempotent methods of trial"), "{said}");
    ask(&world, 5, 30);
    let found = figures(&world, 30);
    assert_eq!((&found["different"], &found["equal"], &found["failed"]), (&json!(30), &json!(0), &json!(0)), "{found}");
    let example = &found["examples"][0];
    assert_eq!(example["path"], "[2].suggestion");
    assert_eq!((&example["charge"], &example["beside"]), (&json!("none"), &json!("text of 5 bytes")));
    assert!(found["charge"]["p99_ns"].as_u64() > Some(0) && found["beside"]["p50_ns"].as_u64() > Some(0), "{found}");
    let shown = world.mortise(&["shadow", "report", "trial"]);
    assert!(shown.contains("[2].suggestion: none → text of 5 bytes") && !shown.contains("wale"), "{shown}");
    assert!(
        world.mortise(&["status", "trial"]).contains("100 % of the calls of idempotent methods go to 2.0.0 as well")
    );

    world.mortise(&["shadow", "stop", "trial"]);
    ask(&world, 35, 5);
    assert_eq!(report(&world)["percent"], 0);
    figures(&world, 30);
    let asked = asked(&world);
    assert_eq!(asked, json!({"version": "2.0.0", "copies": 30, "checks": 0, "stores": 0}));
    assert!(world.mortise_fails(&["shadow", "report", "trial"]).contains("no calls of"));
    world.end();
}

#[test]
fn a_version_beside_that_panics_hangs_or_is_killed_is_nobody_elses_trouble() {
    as_root!();
    let world = on_trial("panics");
    world.mortise(&["shadow", "start", "trial", "100"]);
    ask(&world, 0, 20);
    let found = figures(&world, 20);
    assert_eq!((&found["failed"], &found["examples"][0]["path"]), (&json!(20), &json!("")), "{found}");
    world.end();

    let world = on_trial("hangs");
    world.mortise(&["shadow", "start", "trial", "100"]);
    ask(&world, 0, 100);
    // It has 32 of them in its hands, and others are not begun. Those are given up after ten seconds, which may be over by now.
    let found = figures(&world, 68);
    assert!(found["skipped"].as_u64() >= Some(68), "{found}");
    assert_eq!((&found["equal"], &found["different"]), (&json!(0), &json!(0)), "{found}");
    let pid = pid_beside(&world).expect("it runs");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is killed");
    let found = figures(&world, 100);
    // Those in its hands have failed, unless the caller heard first that it is to call it no more.
    assert_eq!((&found["equal"], &found["different"]), (&json!(0), &json!(0)), "{found}");
    ask(&world, 100, 20);
    assert!(eventually(|| pid_beside(&world).is_some_and(|it| it != pid)), "{}", world.status("trial"));
    ask(&world, 120, 20);
    // It ends while it holds calls: the discard takes no longer for that than the time that it has to drain.
    world.mortise(&["discard", "trial"]);
    ask(&world, 140, 20);
    world.end();
}

#[test]
fn it_goes_on_when_the_supervisor_is_killed() {
    as_root!();
    let mut world = on_trial("suggests");
    world.mortise(&["shadow", "start", "trial", "100"]);
    ask(&world, 0, 10);
    figures(&world, 10);
    world.daemon.kill().expect("the supervisor is killed");
    ask(&world, 10, 10);
    world.daemon.succeed().expect("its successor starts");
    assert_eq!(report(&world)["percent"], 100);
    // What was compared while there was none is told, and what was compared before.
    let found = figures(&world, 20);
    assert_eq!(found["different"], 20, "{found}");
    ask(&world, 20, 10);
    figures(&world, 30);
    world.end();
}
