//! A module is replaced under load and nothing is lost.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use mortise_tests::{World, artifacts, as_root, eventually};
use serde_json::json;

#[test]
fn fifty_swaps_under_load_lose_neither_a_call_nor_a_request() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.deploy("load");
    world.install_as("unruly", "2.0.0");
    world.deploy_site();
    world.install("markdown-2");
    let stop = AtomicBool::new(false);
    let url = format!("http://{}/site/render", world.ingress);
    let document = "# Title\n\n| a | b |\n|---|---|\n| teh | x |\n";
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let agent = ureq::Agent::new_with_defaults();
                    let (mut first, mut second) = (0_u32, 0_u32);
                    while !stop.load(Ordering::Relaxed) {
                        let mut answer = agent.post(&url).send(document).expect("an answer with a good status");
                        let body = answer.body_mut().read_to_string().expect("a whole body");
                        // Each answer is one version's and not a mixture.
                        match (body.contains("rendered by markdown 1.0"), body.contains("<table>")) {
                            (true, false) => first += 1,
                            (false, true) => second += 1,
                            _ => panic!("{body}"),
                        }
                    }
                    (first, second)
                })
            })
            .collect();
        for round in 0..25 {
            let version = if round % 2 == 0 { "2.0.0" } else { "1.0.0" };
            world.mortise(&["swap", &format!("markdown@{version}")]);
            world.mortise(&["swap", &format!("unruly@{version}")]);
            assert_eq!(world.worker("markdown")["version"], version);
        }
        stop.store(true, Ordering::Relaxed);
        for asker in askers {
            let (first, second) = asker.join().expect("no request failed");
            assert!(first > 0 && second > 0, "both versions answered: {first}, {second}");
        }
    });
    let report = world.call("load.report", &json!({})).expect("the load reports");
    assert_eq!(report["failed"], 0, "{report}");
    assert_eq!(report["versions"], json!(["1.0.0", "2.0.0"]), "{report}");
    world.end();
}

#[test]
fn a_version_that_never_becomes_ready_leaves_the_old_one_serving_and_says_why() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    let before = world.worker("unruly");
    let folder = tempfile::tempdir().expect("a folder");
    artifacts().lay_out_as("unruly", "2.0.0", folder.path()).expect("another version");
    let manifest = folder.path().join("module.toml");
    let text = fs::read_to_string(&manifest).expect("module.toml");
    fs::write(&manifest, text + "\n[configuration]\nnever-ready = true\n").expect("module.toml");
    world.mortise(&["install", &folder.path().display().to_string()]);
    let error = world.mortise_fails(&["swap", "unruly@2.0.0"]);
    assert!(error.contains("it was told never to be ready"), "{error}");
    let after = world.worker("unruly");
    assert_eq!((&after["worker"], &after["version"]), (&before["worker"], &before["version"]));
    assert_eq!(world.call("unruly.echo", &json!({"text": "x"})).expect("it serves")["version"], "1.0.0");
    assert!(eventually(|| world.status("unruly")["workers"].as_array().is_some_and(|it| it
        .iter()
        .all(|worker| worker["version"] == "1.0.0" || worker["state"] == "stopped" || worker["state"] == "failed"))));
    world.end();
}

#[test]
fn a_call_under_way_is_finished_by_the_worker_that_began_it() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    std::thread::scope(|scope| {
        let resting = scope.spawn(|| world.call("unruly.rest", &json!({"millis": 1500})));
        world.mortise(&["restart", "unruly"]);
        assert_eq!(resting.join().expect("the caller"), Ok(json!(1500)));
    });
    world.end();
}
