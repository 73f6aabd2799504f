//! What a worker sees and may do.

use mortise_tests::{World, as_root};
use serde_json::{Value, json};

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|it| it.as_str().expect("a text")).collect()
}

#[test]
fn a_worker_has_no_privilege_and_sees_nothing_of_its_neighbours() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.deploy("legacy");
    let view = world.call("unruly.view", &json!({})).expect("a view");
    assert_ne!(view["uid"], 0, "{view}");
    for line in strings(&view["status"]) {
        let (key, value) = line.split_once(':').expect("key and value");
        let expected = match key {
            "NoNewPrivs" => "1",
            "Seccomp" => "2",
            _ => "0000000000000000",
        };
        assert_eq!(value.trim(), expected, "{key}");
    }
    assert!(strings(&view["processes"]).len() <= 2, "it sees itself: {view}");
    assert_eq!(strings(&view["interfaces"]), ["lo"]);
    let root = strings(&view["root"]);
    for hidden in ["root", "home", "var", "sys", "boot", "srv", "work"] {
        assert!(!root.contains(&hidden), "{hidden} is visible: {root:?}");
    }
    let writable = strings(&view["writable"]);
    assert!(writable.iter().all(|it| *it == "/tmp"), "{writable:?}");
    let environment = strings(&view["environment"]);
    assert!(environment.len() <= 8, "a clean environment: {environment:?}");
    for descriptor in strings(&view["descriptors"]) {
        let (_, what) = descriptor.split_once(' ').expect("number and target");
        let known = ["/dev/null", "socket:", "anon_inode:", "/memfd:", "/proc/"];
        // The FIFOs are of its own run folder, of which it sees nothing but these names.
        let own_output = what.ends_with("/stdout") || what.ends_with("/stderr");
        let fine = own_output || what.is_empty() || known.iter().any(|it| what.starts_with(it));
        assert!(fine, "an unexpected descriptor: {descriptor}");
    }
    world.end();
}

#[test]
fn two_workers_do_not_share_a_uid() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.deploy("load");
    let uid = |module: &str| {
        let pid = world.worker(module)["pid"].clone();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        status.lines().find_map(|it| it.strip_prefix("Uid:")).expect("a uid").trim().to_owned()
    };
    assert_ne!(uid("unruly"), uid("load"));
    world.end();
}
