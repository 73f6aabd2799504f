//! A module that crashes is tried again, more and more slowly, and in the end given up with its reason kept.

use mortise_tests::{World, as_root, eventually};
use serde_json::json;

#[test]
fn a_crash_is_followed_by_a_new_worker() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    let before = world.worker("unruly");
    let error = world.call("unruly.crash", &json!({"status": 3})).expect_err("a crashed worker answers nothing");
    assert!(error.contains("may have been executed") || error.contains("maybe-executed"), "{error}");
    let back = eventually(|| world.call("unruly.echo", &json!({"text": "back"})).is_ok());
    assert!(back, "{}", world.status("unruly"));
    let after = world.worker("unruly");
    assert_ne!(after["worker"], before["worker"]);
    assert_eq!(after["restarts"], 1);
    let events = world.mortise(&["events"]);
    assert!(events.contains("status 3") || events.contains("code 3"), "the exit status shows in the events: {events}");
    world.end();
}

#[test]
fn a_crash_loop_ends_as_failed_with_its_reason_and_a_restart_begins_anew() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    let failed = eventually(|| {
        // Each call is answered by one worker at most; while there is none the call waits or is refused, and that is fine.
        let _ = world.call("unruly.crash", &json!({"status": 7}));
        world.worker("unruly")["state"] == "failed"
    });
    assert!(failed, "{}", world.status("unruly"));
    let worker = world.worker("unruly");
    let reason = worker["reason"].as_str().unwrap_or_default();
    assert!(reason.contains('7'), "the last exit status is in the reason: {reason}");
    assert!(reason.contains("crashing with status 7, as asked"), "its last words are in the reason: {reason}");
    world.mortise(&["restart", "unruly"]);
    assert!(world.call("unruly.echo", &json!({"text": "anew"})).is_ok());
    world.end();
}
