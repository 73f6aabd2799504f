//! Processes, threads, memory, files without end: each ends at the attacker's own limit.

use crate::scene::{Attack, Scene};

/// As in `Attack::module_toml`.
const MEMORY: u64 = 32 << 20;
const PIDS: u64 = 16;

fn number(log: &str, what: &str) -> u64 {
    let found = Scene::found(log, what);
    found.parse().unwrap_or_else(|error| panic!("{what}: {error}: {found}"))
}

pub fn a_fork_bomb_ends_with_the_module() {
    let scene = Scene::set();
    scene.attack(&Attack::new("forks"));
    for _ in 0..3 {
        scene.victims_go_on();
    }
    let pids = scene.world.worker("attacker")["pids"].as_u64();
    assert!(pids.is_some_and(|it| it <= PIDS), "{}", scene.world.worker("attacker"));
    scene.end();
}

pub fn a_thread_bomb_ends_at_the_pids_limit() {
    let scene = Scene::set();
    scene.attack(&Attack::new("threads"));
    let log = scene.log_with("found threads");
    assert!((1..PIDS).contains(&number(&log, "threads")), "{log}");
    scene.end();
}

pub fn memory_without_end_is_taken_from_nobody_else() {
    let scene = Scene::set();
    scene.attack(&Attack::new("memory"));
    for _ in 0..3 {
        scene.victims_go_on();
    }
    scene.end();
}

pub fn a_full_tmp_is_full_for_nobody_else() {
    let scene = Scene::set();
    scene.attack(&Attack::new("fills-its-tmp"));
    let log = scene.log_with("found names");
    assert!((1..=MEMORY / 2).contains(&number(&log, "bytes")), "{log}");
    assert!((1..=16_384).contains(&number(&log, "names")), "{log}");
    assert_eq!(scene.world.worker("attacker")["restarts"], 0, "a full /tmp is an error that it gets, not its end");
    scene.end();
}

pub fn folders_without_end_are_removed_with_the_worker() {
    let scene = Scene::set();
    scene.attack(&Attack::new("digs-folders"));
    let log = scene.log_with("found depth");
    assert!((1_000..=16_384).contains(&number(&log, "depth")), "{log}");
    scene.end();
}
