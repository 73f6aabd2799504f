//! What is stopped is gone: processes, cgroups, mounts, sockets, descriptors.

use std::fs;

use mortise_tests::{World, as_root, eventually};
use nix::sys::signal::SigSet;
use serde_json::json;

fn descriptors(pid: u32) -> Vec<String> {
    let folder = format!("/proc/{pid}/fd");
    let mut all: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| fs::read_link(it.path()).ok())
        .map(|it| it.display().to_string())
        // Numbers of sockets and pipes differ from time to time; how many there are of each kind does not.
        .map(|it| it.split(['[', ':']).next().unwrap_or_default().to_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn a_stopped_and_uninstalled_module_leaves_nothing_in_the_supervisor_and_on_the_host() {
    as_root!();
    let world = World::start();
    // The first round may fill caches; from then on nothing grows.
    let mut baseline = None;
    for _ in 0..4 {
        for module in ["unruly", "load", "legacy", "dictionary"] {
            world.install(module);
            world.mortise(&["start", module]);
        }
        for module in ["unruly", "load", "legacy"] {
            world.mortise(&["publish", module]);
        }
        assert!(world.call("unruly.echo", &json!({"text": "x"})).is_ok());
        for module in ["load", "unruly", "legacy", "dictionary"] {
            world.mortise(&["stop", module]);
            let receipt = world.daemon.ask_json(["uninstall", module]).expect("a receipt");
            let left = &receipt["receipt"]["processes_left"];
            assert_eq!(left, &json!(0), "{receipt}");
        }
        let pid = world.daemon.pid();
        match &baseline {
            None => baseline = Some(descriptors(pid)),
            Some(expected) => {
                let mut found = Vec::new();
                let same = eventually(|| {
                    found = descriptors(pid);
                    found.len() <= expected.len()
                });
                assert!(same, "descriptors grew from {expected:?} to {found:?}");
            }
        }
    }
    world.end();
}

#[test]
fn a_supervisor_that_is_told_to_stop_stops_everything() {
    as_root!();
    let world = World::start();
    for module in ["unruly", "load", "legacy"] {
        world.deploy(module);
    }
    world.end();
}

#[test]
fn a_supervisor_whose_parent_has_blocked_the_signals_still_hears_that_it_is_to_stop() {
    as_root!();
    // A mask is inherited by what is started; this thread's own is put back afterwards.
    let before = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).expect("signals are blocked");
    let world = World::start();
    before.thread_set_mask().expect("the mask is put back");
    world.end();
}
