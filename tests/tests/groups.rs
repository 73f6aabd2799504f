//! The versions of several modules change together or not at all, and nobody who calls them notices.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mortise_tests::{World, artifacts, as_root, eventually, request_until};
use serde_json::{Value, json};

/// A file for `mortise group apply`: the group `shop` of these modules.
fn file(folder: &tempfile::TempDir, modules: &[(&str, &str)]) -> String {
    let lines: String = modules.iter().map(|(module, version)| format!("{module} = \"{version}\"\n")).collect();
    let path: PathBuf = folder.path().join("group.toml");
    fs::write(&path, format!("group = \"shop\"\n[modules]\n{lines}")).expect("a file");
    path.display().to_string()
}

/// Two modules that call nobody, one called by a module under load, the other over HTTP; each in two versions.
fn world() -> World {
    let world = World::start();
    for module in ["unruly", "legacy", "load"] {
        world.deploy(module);
    }
    for module in ["unruly", "legacy"] {
        world.install_as(module, "2.0.0");
    }
    assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));
    world
}

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

/// What runs of both.
fn versions(world: &World) -> [String; 2] {
    ["unruly", "legacy"].map(|it| world.status(it)["version"].as_str().expect("a version").to_owned())
}

/// While HTTP requests and calls go on, all of which must succeed.
fn under_load(world: &mut World, change: impl FnOnce(&mut World)) {
    let stop = AtomicBool::new(false);
    let url = format!("http://{}/guestbook", world.ingress);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| request_until(&stop, &url));
        change(world);
        stop.store(true, Ordering::Relaxed);
        assert!(asking.join().expect("no request failed") > 10);
    });
    let report = report(world);
    assert_eq!(report["failed"], 0, "{report}");
}

#[test]
fn a_group_changes_and_goes_back_under_load_and_nothing_is_lost() {
    as_root!();
    let (mut world, folder) = (world(), tempfile::tempdir().expect("a folder"));
    under_load(&mut world, |world| {
        let second = file(&folder, &[("unruly", "2.0.0"), ("legacy", "2.0.0")]);
        let said = world.mortise(&["group", "apply", &second, "--keep", "10m"]);
        assert!(said.contains("the group shop runs legacy 2.0.0, unruly 2.0.0"), "{said}");
        for round in 0..6 {
            assert_eq!(versions(world), [if round % 2 == 0 { "2.0.0" } else { "1.0.0" }; 2]);
            world.mortise(&["group", "rollback", "shop", "--keep", "10m"]);
        }
        world.mortise(&["discard", "unruly"]);
        // One of them is thawed, the other is started anew.
        world.mortise(&["group", "rollback", "shop", "--keep", "0s"]);
        assert_eq!(versions(world), ["1.0.0"; 2]);
    });
    assert_eq!(report(&world)["versions"], json!(["1.0.0", "2.0.0"]), "{}", report(&world));
    let shown = world.mortise(&["group", "show", "shop"]);
    let rows: Vec<Vec<&str>> = shown.lines().skip(1).map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(
        rows,
        [["legacy", "1.0.0", "1.0.0", "2.0.0", "-"], ["unruly", "1.0.0", "1.0.0", "2.0.0", "-"]],
        "{shown}"
    );
    assert!(world.mortise(&["group", "ls"]).contains("as declared"));
    world.mortise(&["group", "rm", "shop"]);
    assert!(world.mortise_fails(&["group", "rollback", "shop"]).contains("has no group shop"));
    world.end();
}

#[test]
fn a_group_with_one_that_is_never_ready_changes_none_of_them() {
    as_root!();
    let (mut world, folder) = (world(), tempfile::tempdir().expect("a folder"));
    let package = tempfile::tempdir().expect("a folder");
    artifacts().lay_out_as("unruly", "3.0.0", package.path()).expect("another version");
    let manifest = package.path().join("module.toml");
    let text = fs::read_to_string(&manifest).expect("module.toml");
    fs::write(&manifest, text + "\n[configuration]\nnever-ready = true\n").expect("module.toml");
    world.mortise(&["install", &package.path().display().to_string()]);
    let before = ["unruly", "legacy"].map(|it| world.worker(it)["pid"].clone());
    under_load(&mut world, |world| {
        let third = file(&folder, &[("unruly", "3.0.0"), ("legacy", "2.0.0")]);
        let error = world.mortise_fails(&["group", "apply", &third]);
        assert!(error.contains("default/unruly") && error.contains("it was told never to be ready"), "{error}");
        assert_eq!(versions(world), ["1.0.0"; 2]);
    });
    let of_first = |it: &str| {
        let status = world.status(it);
        let workers = status["workers"].as_array().expect("workers").clone();
        workers.into_iter().find(|it| it["version"] == "1.0.0" && !it["pid"].is_null()).expect("it runs")["pid"].clone()
    };
    assert_eq!(["unruly", "legacy"].map(of_first), before, "the same processes");
    assert_eq!(world.mortise(&["group", "ls"]).lines().count(), 1, "what came to nothing declares nothing");
    world.end();
}

#[test]
fn a_call_within_a_group_stays_in_one_generation() {
    as_root!();
    let (world, folder) = (World::start(), tempfile::tempdir().expect("a folder"));
    for module in ["unruly", "load"] {
        world.deploy(module);
        world.install_as(module, "2.0.0");
    }
    // Calls from its own worker go on all the time, from the moment when that is ready until it drains.
    let only = |version: &str| {
        assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));
        let report = report(&world);
        assert_eq!((&report["failed"], &report["versions"]), (&json!(0), &json!([version])), "{report}");
    };
    only("1.0.0");
    world.mortise(&["group", "apply", &file(&folder, &[("unruly", "2.0.0"), ("load", "2.0.0")])]);
    for round in 0..6 {
        only(if round % 2 == 0 { "2.0.0" } else { "1.0.0" });
        // Nothing is kept: what is frozen in the middle of its own calls would find them too late.
        world.mortise(&["group", "rollback", "shop", "--keep", "0s"]);
    }
    world.end();
}

/// How often the supervisor is killed in the middle of a change.
const KILLS: u64 = 6;

/// The moments of the kills lie within this time of the acceptance, evenly.
const WITHIN_MS: u64 = 600;

#[test]
fn a_supervisor_killed_while_a_group_changes_leaves_all_old_or_all_new() {
    as_root!();
    let (mut world, folder) = (world(), tempfile::tempdir().expect("a folder"));
    under_load(&mut world, |world| {
        for kill in 0..KILLS {
            let before = versions(world);
            let next = if before[0] == "1.0.0" { "2.0.0" } else { "1.0.0" };
            let asked = file(&folder, &[("unruly", next), ("legacy", next)]);
            let accepted = world.daemon.ask_json(["--no-wait", "group", "apply", &asked]).expect("it is accepted");
            let id = accepted["id"].as_str().expect("an id").to_owned();
            // Not for synchronisation: each kill is to hit another step.
            std::thread::sleep(Duration::from_millis(kill * WITHIN_MS / KILLS));
            world.daemon.kill().expect("the supervisor is killed");
            world.daemon.succeed().expect("its successor starts");
            let output = world.daemon.mortise(["--json", "operation", &id]).output().expect("mortise runs");
            let ended: Value = serde_json::from_slice(&output.stdout).expect("an operation");
            let after = versions(world);
            match ended["state"].as_str() {
                Some("done") => assert_eq!(after, [next; 2], "{ended}"),
                Some("failed") => assert_eq!(after, before, "{ended}"),
                _ => panic!("{ended}"),
            }
            assert_eq!(report(world)["failed"], 0, "kill {kill}");
        }
    });
    world.end();
}
