//! More calls, bells, lines, packets, connections and descriptors than anybody needs, and lies about channels.
//!
//! The attacker is of a tenant of its own. While it goes on, the victims' calls are answered within their deadlines and the supervisor
//! does what its operator asks for.

use mortise_tests::eventually;
use serde_json::Value;

use crate::scene::{Attack, Scene};

const FOE: &str = "foe";

/// It may call `unruly`, which the victim `load` calls.
const CALLER: &str = "[requires]\nservices = [\"unruly\"]";

fn beside(attack: &str) -> Scene {
    let scene = Scene::set();
    scene.allow(FOE);
    scene.attack(&Attack { more: CALLER, tenant: FOE, ..Attack::new(attack) });
    scene.log_with("found a channel: open");
    for _ in 0..3 {
        scene.victims_go_on();
    }
    scene
}

/// The same where the attacker may never be ready: it is tried once.
fn beside_start(attack: &str) -> Scene {
    let scene = Scene::set();
    scene.allow(FOE);
    scene.install(&Attack { tenant: FOE, crashes: 1, ..Attack::new(attack) });
    scene.world.mortise(&["--tenant", FOE, "--no-wait", "start", "attacker"]);
    for _ in 0..3 {
        scene.victims_go_on();
    }
    scene
}

fn is_never_ready(attack: &str) {
    let scene = beside_start(attack);
    scene.events_with("it was not ready within 5s");
    let failed = eventually(|| scene.world.worker("attacker")["state"] == "failed");
    assert!(failed, "{}", scene.world.status("attacker"));
    scene.end();
}

fn keeps_to_the_rules(scene: &Scene) {
    assert_eq!(scene.world.worker("attacker")["restarts"], 0, "it does nothing that is forbidden");
}

/// What is more than its share is refused, without waiting.
fn refused(attack: &str) {
    let scene = beside(attack);
    scene.log_with("found refused at once");
    scene.victims_go_on();
    keeps_to_the_rules(&scene);
    scene.end();
}

pub fn calls_without_end_are_refused_beyond_their_share() {
    refused("calls");
}

pub fn who_takes_no_answers_has_no_further_calls() {
    refused("keeps-its-answers");
}

pub fn calls_that_are_cancelled_at_once_keep_nobody_else_waiting() {
    let scene = beside("cancels");
    keeps_to_the_rules(&scene);
    scene.end();
}

pub fn a_bell_that_never_stops_keeps_nobody_else_waiting() {
    let scene = beside("rings");
    scene.log_with("found the bell");
    scene.victims_go_on();
    keeps_to_the_rules(&scene);
    scene.end();
}

pub fn lines_without_end_are_dropped_and_counted() {
    let scene = Scene::set();
    scene.allow(FOE);
    scene.attack(&Attack { tenant: FOE, ..Attack::new("endless-lines") });
    for _ in 0..3 {
        scene.victims_go_on();
    }
    let dropped = || {
        let lines = scene.world.mortise(&["--tenant", FOE, "--json", "logs", "attacker"]);
        let counts = lines.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
        counts.filter_map(|it| it["dropped_before"].as_u64()).sum::<u64>()
    };
    assert!(eventually(|| dropped() > 0), "what is not kept is counted");
    keeps_to_the_rules(&scene);
    scene.end();
}

pub fn packets_that_are_no_messages_cost_nobody_but_their_sender() {
    is_never_ready("noise");
}

pub fn packets_that_are_too_large_are_not_read() {
    is_never_ready("huge-packets");
}

pub fn a_message_in_parts_without_end_is_not_collected() {
    let scene = beside_start("endless-parts");
    scene.end();
}

pub fn messages_without_end_are_read_at_the_supervisor_s_pace() {
    let scene = beside_start("endless-pongs");
    keeps_to_the_rules(&scene);
    scene.end();
}

pub fn descriptors_that_a_worker_sends_are_kept_by_nobody() {
    let scene = beside_start("descriptors");
    scene.end();
}

pub fn connections_without_end_are_taken_at_the_supervisor_s_pace() {
    is_never_ready("connections");
}

pub fn lies_about_channels_and_workers_change_nothing() {
    let scene = beside_start("lies");
    let events = scene.events();
    assert!(!events.contains('\u{1b}') && !events.contains("broke the protocol"), "{events}");
    scene.end();
}
