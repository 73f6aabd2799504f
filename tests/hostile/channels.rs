//! The memory between two workers, when one of them does not keep to what it is for.

use mortise_tests::eventually;

use crate::scene::{Attack, Scene};

/// A tenant of the attacker's.
const PREY: &str = "prey";

fn in_prey<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["--tenant", PREY], words].concat()
}

/// It calls `unruly`, as `load` does.
const CALLER: &str = "[requires]\nservices = [\"unruly\"]";

pub fn a_sealed_segment_stays_what_it_is_whatever_either_end_tries() {
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
    assert!(failed, "{}\n{}", scene.world.status("attacker"), scene.events());
    let worker = scene.world.worker("attacker");
    let reason = worker["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(why), "{reason}");
    scene.end();
}

pub fn who_shrinks_its_segment_before_the_seal_is_killed() {
    guilty("shrinks-its-segment", "segment");
}

pub fn who_grows_its_segment_before_the_seal_is_killed() {
    guilty("grows-its-segment", "segment");
}

pub fn who_seals_its_segment_against_the_seal_is_killed() {
    guilty("seals-its-segment", "segment");
}

pub fn who_never_maps_its_segment_keeps_nobody_else_waiting() {
    let scene = Scene::set();
    scene.try_attack(&Attack { more: CALLER, ..Attack::new("never-maps") });
    scene.victims_go_on();
    scene.end();
}

pub fn a_caller_that_scribbles_over_its_segment_is_killed_and_its_callee_serves_on() {
    guilty("scribbles", "broke the protocol of its channel");
}

pub fn a_callee_that_scribbles_over_its_segment_is_killed_and_its_caller_goes_on() {
    let scene = Scene::set();
    // A caller in a tenant where the attacker is what it calls.
    scene.world.mortise(&["tenant", "add", PREY]);
    let callee = "[configuration]\nserves = \"unruly\"\n[[provides]]\nservice = \"unruly\"";
    scene.try_attack(&Attack { more: callee, tenant: PREY, ..Attack::new("scribbles") });
    let _ = scene.world.daemon.mortise(in_prey(&["publish", "attacker"])).output().expect("mortise runs");
    scene.world.mortise(&in_prey(&["install", &scene.world.package("load").display().to_string()]));
    scene.world.mortise(&in_prey(&["start", "load"]));
    scene.events_with("broke the protocol of its channel");
    let status = scene.world.daemon.ask_json(["--tenant", PREY, "status"]).expect("mortise status");
    let modules = status["modules"].as_array().expect("modules");
    let caller = &modules.iter().find(|it| it["module"] == "load" && it["tenant"] == PREY).expect("load")["workers"][0];
    assert_eq!((&caller["restarts"], &caller["state"]), (&0.into(), &"ready".into()), "{caller}");
    for words in [["stop", "load"], ["uninstall", "load"]] {
        scene.world.mortise(&in_prey(&words));
    }
    scene.end();
}
