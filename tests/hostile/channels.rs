//! The memory between two workers, when one of them does not keep to what it is for.

use mortise_tests::{as_root, eventually};

use crate::scene::{Attack, Scene};

/// It calls `unruly`, as `load` does.
const CALLER: &str = "[requires]\nservices = [\"unruly\"]";

#[test]
fn a_sealed_segment_stays_what_it_is_whatever_either_end_tries() {
    as_root!();
    let scene = Scene::set();
    scene.attack(&Attack { more: CALLER, ..Attack::new("opens-segments-again") });
    let log = scene.log_with("found everything: tried");
    for whose in ["its own", "the peer's"] {
        for what in ["shrinking", "growing", "writing to", "a hole in", "more seals on", "a second writable mapping of"]
        {
            let found = Scene::found(&log, &format!("{what} {whose}"));
            assert!(["EPERM", "EACCES", "EBADF"].contains(&found.as_str()), "{what} {whose}: {found}");
        }
    }
    scene.end();
}

/// The attacker is named and killed, each time that it is tried again.
fn guilty(attack: &str, why: &str) {
    let scene = Scene::set();
    scene.try_attack(&Attack { more: CALLER, ..Attack::new(attack) });
    let failed = eventually(|| scene.world.worker("attacker")["state"] == "failed");
    assert!(failed, "{}\n{}", scene.world.status("attacker"), scene.world.mortise(&["events"]));
    let worker = scene.world.worker("attacker");
    let reason = worker["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(why), "{reason}");
    scene.end();
}

#[test]
fn who_shrinks_its_segment_before_the_seal_is_killed() {
    as_root!();
    guilty("shrinks-its-segment", "segment");
}

#[test]
fn who_grows_its_segment_before_the_seal_is_killed() {
    as_root!();
    guilty("grows-its-segment", "segment");
}

#[test]
fn who_seals_its_segment_against_the_seal_is_killed() {
    as_root!();
    guilty("seals-its-segment", "segment");
}

#[test]
fn who_never_maps_its_segment_keeps_nobody_else_waiting() {
    as_root!();
    let scene = Scene::set();
    scene.try_attack(&Attack { more: CALLER, ..Attack::new("never-maps") });
    scene.victims_go_on();
    scene.end();
}

#[test]
fn a_caller_that_scribbles_over_its_segment_is_killed_and_its_callee_serves_on() {
    as_root!();
    guilty("scribbles", "broke the protocol of its channel");
}

#[test]
fn a_callee_that_scribbles_over_its_segment_is_killed_and_its_caller_goes_on() {
    as_root!();
    let scene = Scene::alone();
    let callee = "[configuration]\nserves = \"unruly\"\n[[provides]]\nservice = \"unruly\"";
    scene.try_attack(&Attack { more: callee, ..Attack::new("scribbles") });
    let _ = scene.world.daemon.mortise(["publish", "attacker"]).output().expect("mortise runs");
    scene.world.deploy("load");
    scene.events_with("broke the protocol of its channel");
    let caller = scene.world.worker("load");
    assert_eq!((&caller["restarts"], &caller["state"]), (&0.into(), &"published".into()), "{caller}");
    scene.world.call("load.report", &serde_json::json!({})).expect("the caller serves others");
    for words in [["stop", "load"], ["uninstall", "load"]] {
        scene.world.mortise(&words);
    }
    scene.end_without_victims();
}
