//! What a module prints is found again, by line and by module.

use mortise_tests::{World, as_root, eventually};
use serde_json::json;

#[test]
fn lines_are_kept_by_module_and_a_flood_is_bounded_and_counted() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.call("unruly.chatter", &json!({"lines": 3})).expect("it talks");
    let mut log = String::new();
    let there = eventually(|| {
        log = world.mortise(&["logs", "unruly"]);
        log.contains("line 2 of 3")
    });
    assert!(there, "{log}");
    world.call("unruly.chatter", &json!({"lines": 200_000})).expect("it floods");
    let last = eventually(|| {
        log = world.mortise(&["logs", "unruly"]);
        log.contains("dropped") || log.contains("line 199999 of 200000")
    });
    assert!(last, "{}", &log[log.len().saturating_sub(2000)..]);
    assert!(log.len() < 2 << 20, "{} bytes are kept", log.len());
    assert!(world.call("unruly.echo", &json!({"text": "x"})).is_ok(), "a flood hurts nobody");
    world.end();
}
