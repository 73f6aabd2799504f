//! Ready, gone, another's name, an end that is refused.

use mortise_tests::eventually;

use crate::scene::{Attack, Scene};

pub fn ready_said_again_is_nothing_new() {
    let scene = Scene::set();
    scene.attack(&Attack::new("ready-twice"));
    let worker = scene.world.worker("attacker");
    scene.victims_go_on();
    assert_eq!(scene.world.worker("attacker")["worker"], worker["worker"]);
    let events = scene.events();
    let ready = events.lines().filter(|it| it.contains("attacker") && it.ends_with("ready")).count();
    assert!(ready <= 1, "{events}");
    scene.end();
}

pub fn a_grandchild_that_is_ready_ends_with_its_first_process() {
    let scene = Scene::set();
    scene.try_attack(&Attack::new("ready-from-a-grandchild"));
    // The first process ends as soon as it has heard that the grandchild is ready; three times, and it is a crash loop.
    let failed = eventually(|| scene.world.worker("attacker")["state"] == "failed");
    assert!(failed, "{}", scene.world.status("attacker"));
    scene.end();
}

pub fn who_ends_right_after_ready_was_ready_and_is_gone() {
    let scene = Scene::set();
    scene.try_attack(&Attack::new("exit-after-ready"));
    let failed = eventually(|| scene.world.worker("attacker")["state"] == "failed");
    assert!(failed, "{}", scene.world.status("attacker"));
    let events = scene.events();
    let ready = events.lines().filter(|it| it.contains("attacker") && it.ends_with("ready")).count();
    assert_eq!(ready, 3, "what it said before it ended counts, each time:\n{events}");
    scene.end();
}

pub fn nobody_is_heard_before_it_is_known() {
    let scene = Scene::set();
    let said = scene.try_attack(&Attack::new("speaks-before-it-is-known"));
    let failed = eventually(|| scene.world.worker("attacker")["state"] == "failed");
    assert!(failed, "{said}: {}", scene.world.status("attacker"));
    let events = scene.events();
    assert!(!events.lines().any(|it| it.contains("attacker") && it.ends_with("ready")), "{events}");
    scene.end();
}

pub fn a_hello_with_another_s_name_or_token_gets_no_answer() {
    let scene = Scene::set();
    scene.try_attack(&Attack::new("says-it-is-another"));
    scene.events_with("its first hello says that it is ready");
    let log = scene.log_with("answer to a lie");
    assert!(!log.contains("a welcome"), "{log}");
    scene.end();
}

pub fn who_ignores_drain_and_sigterm_is_killed() {
    let scene = Scene::set();
    scene.attack(&Attack::new("ignores-the-end"));
    scene.world.mortise(&["stop", "attacker"]);
    scene.events_with("it did not drain within 1s");
    scene.end();
}

pub fn who_stands_still_in_the_drain_is_killed() {
    let scene = Scene::set();
    scene.attack(&Attack::new("stands-still-in-the-drain"));
    scene.world.mortise(&["stop", "attacker"]);
    scene.log_with("standing still");
    scene.events_with("it did not drain within 1s");
    scene.end();
}

pub fn who_leaves_a_writer_behind_leaves_nothing_behind() {
    let scene = Scene::set();
    scene.attack(&Attack::new("leaves-a-writer"));
    scene.log_with("still here");
    scene.end();
}
