//! Two versions of three modules beside each other, one calling the next: a lane stays a lane all the way down, shares are kept, and
//! routes are put in force and taken back under load without a failed call.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use mortise_tests::{World, as_root, eventually};
use serde_json::json;

const FIRST: &str = "1.0.0 1.0.0 1.0.0";
const SECOND: &str = "2.0.0 2.0.0 2.0.0";

/// A lane through all three; beside it, a tenth of what `front` and `relay` call goes to the second version.
const ROUTES: &str = r#"
[[tag]]
name = "lane"
header = "x-lane"

[[tag]]
name = "lane"
cookie = "lane"

[[tag]]
name = "user"
header = "x-user"

[[route]]
service = "front"
[[route.rule]]
match = { tag = { lane = "canary" } }
to = [{ version = "2.0.0" }]

[[route]]
service = "relay"
[[route.rule]]
match = { tag = { lane = "canary" } }
to = [{ version = "2.0.0" }]
[[route.rule]]
match = { module = "front" }
to = [{ version = "1.0.0", weight = 90 }, { version = "2.0.0", weight = 10 }]
sticky = { by = "tag:user" }

[[route]]
service = "unruly"
[[route.rule]]
match = { tag = { lane = "canary" } }
to = [{ version = "2.0.0" }]
[[route.rule]]
match = { module = "relay" }
to = [{ version = "1.0.0", weight = 90 }, { version = "2.0.0", weight = 10 }]
"#;

/// The three modules, each in two versions, the second beside the first.
fn two_of_each() -> World {
    let world = World::start();
    for module in ["unruly", "relay", "front"] {
        world.deploy(module);
        world.install_as(module, "2.0.0");
        world.mortise(&["start", &format!("{module}@2.0.0"), "--beside"]);
    }
    world
}

fn apply(world: &World, text: &str) -> String {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("it can be written");
    world.mortise(&["route", "apply", &file.path().display().to_string()])
}

/// The versions that a request went through: of front, relay and unruly.
fn ask(world: &World, headers: &[(&str, &str)]) -> String {
    let (status, body) = world.get_with("/front", headers).expect("an answer");
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn a_lane_stays_a_lane_all_the_way_down_and_shares_are_kept() {
    as_root!();
    let world = two_of_each();
    for headers in [&[][..], &[("x-lane", "canary")]] {
        assert_eq!(ask(&world, headers), FIRST, "nothing goes to a version beside by itself");
    }
    // Without any route, by share alone.
    world.mortise(&["share", "relay", "100%"]);
    world.mortise(&["share", "front", "100"]);
    assert_eq!(ask(&world, &[]), "2.0.0 2.0.0 1.0.0");
    world.mortise(&["share", "front", "0"]);
    assert_eq!(ask(&world, &[]), "1.0.0 2.0.0 1.0.0");
    world.mortise(&["share", "relay", "0"]);
    assert_eq!(ask(&world, &[]), FIRST);
    let said = apply(&world, ROUTES);
    assert!(said.contains("applied the routes of default") && !said.contains("no worker"), "{said}");
    for headers in [&[("x-lane", "canary")], &[("cookie", "a=b; lane=canary")]] {
        for _ in 0..50 {
            assert_eq!(ask(&world, headers), SECOND);
        }
    }
    // So do calls by name.
    for _ in 0..20 {
        let passed = world.mortise(&["--json", "call", "relay.pass", "--tag", "lane=canary"]);
        let passed: serde_json::Value = serde_json::from_str(&passed).expect("JSON");
        assert_eq!(passed, json!({"relay": "2.0.0", "unruly": "2.0.0"}));
    }
    // What a client says for itself is no tag.
    let forged = (0..50).map(|_| ask(&world, &[("mortise-tags", "lane=canary")]));
    assert!(forged.into_iter().all(|it| it.starts_with("1.0.0 ")));

    // 1000 calls with a share of a tenth: 100 are expected, with a deviation of 9.5. Beyond 6.5 of those it is no chance.
    let mut counts = BTreeMap::<&str, u32>::new();
    for _ in 0..1000 {
        let answer = ask(&world, &[]);
        let versions: Vec<&str> = answer.split(' ').collect();
        assert_eq!(versions[0], "1.0.0");
        *counts.entry("relay").or_default() += u32::from(versions[1] == "2.0.0");
        *counts.entry("unruly").or_default() += u32::from(versions[2] == "2.0.0");
    }
    assert!(counts.values().all(|it| (38..=162).contains(it)), "{counts:?}");

    // A user stays where he is, and not all are in the same place.
    let mut places = BTreeMap::<String, u32>::new();
    for user in 0..200 {
        let user = user.to_string();
        let relay = |_| ask(&world, &[("x-user", &user)]).split(' ').nth(1).map(str::to_owned);
        let found: Vec<_> = (0..3).filter_map(relay).collect();
        assert!(found.iter().all(|it| *it == found[0]), "user {user}: {found:?}");
        *places.entry(found[0].clone()).or_default() += 1;
    }
    assert!(places.len() == 2 && places["1.0.0"] > places["2.0.0"], "{places:?}");

    // A lane that has no version of its own in the middle goes through the common one there, and is the lane again behind it.
    world.mortise(&["discard", "relay"]);
    assert_eq!(ask(&world, &[("x-lane", "canary")]), "2.0.0 1.0.0 2.0.0");
    let shown = world.mortise(&["route", "show", "relay"]);
    assert!(shown.contains("no worker answers relay in version 2.0.0"), "{shown}");
    world.end();
}

#[test]
fn routes_are_applied_and_taken_back_under_load_and_over_the_supervisors_death() {
    as_root!();
    let mut world = World::start();
    world.deploy("unruly");
    world.install_as("unruly", "2.0.0");
    world.mortise(&["start", "unruly@2.0.0", "--beside"]);
    for module in ["load", "relay", "front"] {
        world.deploy(module);
    }
    let all_to = |version: &str| {
        format!("[[route]]\nservice = \"unruly\"\n[[route.rule]]\nto = [{{ version = \"{version}\" }}]\n")
    };
    let unruly = |world: &World| ask(world, &[]).split(' ').nth(2).map(str::to_owned);
    let stop = AtomicBool::new(false);
    let url = format!("http://{}/front", world.ingress);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| mortise_tests::request_until(&stop, &url));
        for _ in 0..10 {
            apply(&world, &all_to("2.0.0"));
            // Whoever asks after the answer is answered by it.
            assert_eq!(unruly(&world).as_deref(), Some("2.0.0"));
            apply(&world, &all_to("1.0.0"));
            assert_eq!(unruly(&world).as_deref(), Some("1.0.0"));
            world.mortise(&["route", "rollback"]);
            assert_eq!(unruly(&world).as_deref(), Some("2.0.0"));
        }
        stop.store(true, Ordering::Relaxed);
        asking.join().expect("every request is answered")
    });
    assert!(asked > 0);
    world.daemon.kill().expect("the supervisor is killed");
    assert_eq!(unruly(&world).as_deref(), Some("2.0.0"), "routes are the callers'");
    world.daemon.succeed().expect("its successor starts");
    assert_eq!(unruly(&world).as_deref(), Some("2.0.0"));
    let report = world.call("load.report", &json!({})).expect("the load reports");
    assert_eq!((report["failed"].clone(), &report["versions"]), (json!(0), &json!(["1.0.0", "2.0.0"])), "{report}");
    // Its successor has to hear the workers before it knows that they are ready.
    let ready = || {
        let status = world.status("unruly");
        let workers = status["workers"].as_array().expect("workers");
        workers.iter().filter(|it| it["state"] == "published").count() == 2
    };
    assert!(eventually(ready), "{}", world.status("unruly"));
    world.mortise(&["swap", "unruly@2.0.0"]);
    assert_eq!(unruly(&world).as_deref(), Some("2.0.0"));
    world.end();
}

#[test]
fn what_is_wrong_with_a_file_is_said_before_anything_is_changed() {
    as_root!();
    let world = World::start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display().to_string();
    let write = |text: &str| fs::write(file.path(), text).expect("it can be written");
    write("[[route]]\nservice = \"a\"\n[[route.rule]]\nto = [{ version = \"two\", weight = 3000000 }]\n");
    let said = world.mortise_fails(&["route", "apply", &path]);
    assert!(said.contains("route[0].rule[0].to[0].weight = \"3000000\": 0 to 1000000"), "{said}");
    assert!(said.contains("route[0].rule[0].to[0].version = \"two\": a version in full"), "{said}");
    write("[[routes]]\n");
    assert!(world.mortise_fails(&["route", "apply", &path]).contains("unknown field `routes`"));
    assert!(world.mortise_fails(&["route", "rollback"]).contains("has no routes"));
    write(ROUTES);
    let said = world.mortise(&["route", "apply", &path]);
    assert!(said.contains("no worker answers front in version 2.0.0"), "{said}");
    assert_eq!(world.mortise(&["route", "diff", &path]).trim(), "no difference");
    write(&ROUTES.replace("weight = 90", "weight = 80"));
    let diff = world.mortise(&["route", "diff", &path]);
    assert_eq!(diff.lines().filter(|it| it.starts_with("- weight = 90") || it.starts_with("+ weight = 80")).count(), 4);
    world.end();
}
