//! What the host lacks for longer than one try: nobody who calls notices, nothing is given up, and all is well when it is there again.

use mortise_tests::{as_root, eventually};

use crate::operations::{MORE, Operation};
use crate::scene::Scene;
use crate::table::{After, Answer};

/// A point that fails again and again, and with what.
const LASTING: &[(&str, i32)] =
    &[("memfd", 12), ("clone", 11), ("group", 12), ("folder", 28), ("control", 24), ("watch", 24)];

/// More tries than the crash limit of `unruly` allows.
const TRIES: usize = 7;

#[test]
fn what_the_host_lacks_for_long_is_waited_for_while_calls_go_on() {
    as_root!();
    let mut scene = Scene::set();
    let operation: &Operation = &MORE;
    let states = scene.without_faults(operation);
    let mut wrong = Vec::new();
    for (point, errno) in LASTING {
        scene.prepare(operation);
        let (pids, before) = (scene.pids(), scene.report());
        scene.hold(point, *errno);
        let answer = scene.ask_for(operation, &format!("lasting-{point}"));
        let tried = eventually(|| scene.faults_since() >= TRIES);
        let meanwhile = scene.report();
        scene.clear();
        let found = (answer, scene.settles(operation, &states, &pids));
        if !tried || found != (Answer::Failed, Ok(After::New)) {
            wrong.push(format!("{point}: tried {TRIES} times: {tried}, {found:?}"));
        }
        let after = scene.report();
        if meanwhile["answered"].as_u64() <= before["answered"].as_u64() || after["failed"] != before["failed"] {
            wrong.push(format!("{point}: calls did not go on: {before} {meanwhile} {after}"));
        }
    }
    scene.end();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
