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
        log.contains("dropped") || log.contains("line 199999 of 100000")
    });
    assert!(last, "{}", &log[log.len().saturating_sub(2000)..]);
    assert!(log.len() < 2 << 20, "{} bytes are kept", log.len());
    assert!(world.call("unruly.echo", &json!({"text": "x"})).is_ok(), "a flood hurts nobody");
    world.end();
}

#[test]
fn a_tenant_has_one_log_to_fill_and_no_more() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.mortise(&["tenant", "set", "default", "log_bytes=2K"]);
    // Within what a worker may say by itself.
    world.call("unruly.chatter", &json!({"lines": 1_800})).expect("it talks");
    let mut log = String::new();
    let told = eventually(|| {
        log = world.mortise(&["logs", "unruly", "--tail", "10000"]);
        log.contains("dropped")
    });
    assert!(told, "{log}");
    let kept = log.lines().filter(|it| it.contains("of 1800")).count();
    assert!((100..1_200).contains(&kept), "{kept} lines are kept of 8 KiB at once and 2 KiB a second");
    let refused = world.mortise_fails(&["tenant", "set", "default", "log_bytes=1K"]);
    assert!(refused.contains("log_bytes = 1024"), "{refused}");
    world.mortise(&["tenant", "set", "default", "log_bytes=none"]);
    world.call("unruly.chatter", &json!({"lines": 1_000})).expect("it talks");
    let all = eventually(|| {
        let log = world.mortise(&["logs", "unruly", "--tail", "10000"]);
        log.lines().filter(|it| it.contains("of 1000")).count() == 1_000
    });
    assert!(all, "the limit is lifted");
    world.end();
}
