//! A store that is damaged while the supervisor is away: nobody who calls notices, and the operator does.

use std::fs;

use mortise_tests::{World, as_root, eventually};
use serde_json::{Value, json};

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

#[test]
fn a_damaged_store_is_kept_and_made_anew_while_calls_go_on() {
    as_root!();
    let mut world = World::start();
    world.deploy("unruly");
    world.deploy("load");
    let workers: Vec<Value> = ["unruly", "load", "base"].map(|it| world.worker(it)["pid"].clone()).into();
    assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));
    let store = world.daemon.folder().join("state/mortise.redb");

    for (index, keep) in [(1, 0), (2, 5_000)] {
        let before = report(&world)["answered"].as_u64().expect("a number");
        world.daemon.kill().expect("the supervisor is killed");
        let bytes = fs::read(&store).expect("the store");
        fs::write(&store, &bytes[..keep]).expect("it is cut");
        world.daemon.succeed().expect("its successor starts");
        let after = report(&world);
        assert!(after["answered"].as_u64().expect("a number") > before, "{after}");
        assert_eq!(after["failed"], 0, "{after}");
        let now: Vec<Value> = ["unruly", "load", "base"].map(|it| world.worker(it)["pid"].clone()).into();
        assert_eq!(now, workers, "nothing was ended or started");

        let status = world.daemon.ask_json(["status"]).expect("mortise status");
        let told = status["host"]["degraded"].as_array().expect("a list").iter().filter_map(Value::as_str);
        assert_eq!(told.filter(|it| it.contains("mortise.redb.damaged-")).count(), index, "{status}");
        let doctor = world.daemon.mortise(["--json", "doctor"]).output().expect("mortise runs");
        assert!(String::from_utf8_lossy(&doctor.stdout).contains("mortise.redb.damaged-"), "{doctor:?}");
    }

    // It is a whole supervisor on a whole store.
    world.mortise(&["restart", "unruly"]);
    assert_eq!(report(&world)["failed"], 0);
    world.end();
}
