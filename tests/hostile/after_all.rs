//! What all attacks together have left behind: nothing.

use mortise_tests::{dying_groups, eventually};

use crate::scene::Scene;

pub fn the_machine_is_what_it_was() {
    let scene = Scene::set();
    let before = scene.dying;
    // The supervisor's own account has been compared after each attack. This compares processes, groups, mounts, sockets, memfds.
    scene.close();
    if before.is_none() {
        println!("the kernel does not tell here which groups are dying");
    }
    let mut after = None;
    let gone = eventually(|| {
        after = dying_groups();
        after <= before
    });
    assert!(gone, "removed groups that the kernel still keeps: {before:?} before, {after:?} after");
}
