//! A module is held to its limits alone; its siblings do not notice.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mortise_tests::{World, as_root, eventually};
use serde_json::{Value, json};

#[test]
fn a_module_over_its_memory_is_killed_alone_and_says_why() {
    as_root!();
    let world = World::start();
    for module in ["dictionary", "spell"] {
        world.install(module);
        world.mortise(&["start", module]);
    }
    world.mortise(&["publish", "spell"]);
    world.deploy("unruly");
    let first = world.worker("unruly")["worker"].clone();
    let siblings = std::thread::scope(|scope| {
        let sibling = scope.spawn(|| {
            let asked = (0..40).map(|_| world.call("spell.suggest", &json!({"word": "wroker", "most": 1})));
            asked.collect::<Vec<_>>()
        });
        let over = world.call("unruly.allocate", &json!({"bytes": 200 << 20}));
        let error = over.expect_err("200 MiB fit into 48 MiB");
        assert!(error.contains("may have been executed") || error.contains("maybe-executed"), "{error}");
        sibling.join().expect("the sibling's caller")
    });
    for answer in siblings {
        assert_eq!(answer, Ok(json!(["worker"])));
    }
    // It is tried again, and what happened to the one before shows.
    let mut shown = String::new();
    let told = eventually(|| {
        shown = world.mortise(&["status", "unruly"]) + &world.mortise(&["events"]);
        shown.contains("OOM") || shown.contains("out of memory")
    });
    assert!(told, "the reason shows nowhere: {shown}");
    let back = eventually(|| world.call("unruly.echo", &json!({"text": "back"})).is_ok());
    assert!(back, "unruly did not come back: {}", world.status("unruly"));
    assert_ne!(world.worker("unruly")["worker"], first);
    world.end();
}

#[test]
fn limits_change_while_a_module_works_and_go_below_its_use_only_with_consent() {
    as_root!();
    let mut world = World::start();
    world.deploy("unruly");
    let first = world.worker("unruly")["worker"].clone();
    world.mortise(&["limits", "unruly", "memory=200M", "cpu=0.5"]);
    // More than its module.toml lets it have.
    assert_eq!(world.call("unruly.allocate", &json!({"bytes": 100 << 20})), Ok(json!(100)));
    let shown = world.mortise(&["limits", "unruly"]);
    assert!(shown.contains("memory=200M cpu=0.5") && shown.contains("0.5 cores"), "{shown}");

    let refused = world.mortise_fails(&["limits", "unruly", "memory=64M"]);
    assert!(refused.contains(first.as_str().expect("an id")) && refused.contains("--force"), "{refused}");
    assert_eq!(world.worker("unruly")["worker"], first);
    assert_eq!(world.worker("unruly")["limits"]["memory_bytes"], 200 << 20);
    assert_eq!(world.call("unruly.allocate", &json!({"bytes": 1 << 20})), Ok(json!(101)), "it has what it had");

    world.mortise(&["limits", "unruly", "memory=64M", "--force"]);
    let back = || world.worker("unruly")["worker"] != first && world.call("unruly.echo", &json!({"text": "x"})).is_ok();
    assert!(eventually(back), "{}", world.status("unruly"));
    assert_eq!(world.worker("unruly")["limits"]["memory_bytes"], 64 << 20);

    // What was said outlives the supervisor, and the kernel keeps it.
    world.daemon.kill().expect("the supervisor is killed");
    world.daemon.succeed().expect("its successor starts");
    let second = world.worker("unruly")["worker"].clone();
    world.call("unruly.allocate", &json!({"bytes": 100 << 20})).expect_err("100 MiB fit into 64 MiB");
    assert!(eventually(|| world.worker("unruly")["worker"] != second), "{}", world.status("unruly"));
    world.mortise(&["limits", "unruly", "memory=default", "cpu=default"]);
    let shown = world.mortise(&["limits", "unruly"]);
    assert!(shown.contains("as module.toml says"), "{shown}");
    assert_eq!(world.worker("unruly")["limits"]["memory_bytes"], 48 << 20);
    let refused = world.mortise_fails(&["limits", "unruly", "memory=1K"]);
    assert!(refused.contains("memory_bytes = 1024"), "{refused}");
    world.end();
}

#[test]
fn a_module_above_its_mark_is_slowed_down_and_not_killed() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    let pid = world.worker("unruly")["pid"].as_u64().expect("its pid");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the worker's groups");
    let v2 = groups.lines().find_map(|it| it.strip_prefix("0::/")).unwrap_or_default();
    let mark = || fs::read_to_string(PathBuf::from("/sys/fs/cgroup").join(v2).join("memory.high"));
    if mark().is_err() {
        mortise_tests::skip("a_module_above_its_mark_is_slowed_down_and_not_killed", "memory.high is of cgroup v2");
        return world.end();
    }
    let first = world.worker("unruly")["worker"].clone();
    let waited = || world.worker("unruly")["pressure"]["memory_usec"].as_u64();
    world.mortise(&["limits", "unruly", "memory=200M", "memory_high=29M"]);
    let before = waited().expect("this host measures it");
    world.call("unruly.allocate", &json!({"bytes": 30 << 20})).expect("30 MiB fit into 200 MiB");
    assert!(eventually(|| waited() > Some(before)), "it was not slowed down: {}", world.worker("unruly"));
    assert_eq!(world.worker("unruly")["worker"], first);
    assert_eq!(mark().expect("the mark"), format!("{}\n", 29 << 20));
    world.mortise(&["limits", "unruly", "memory_high=default"]);
    assert_eq!(mark().expect("the mark"), "max\n");
    world.end();
}

/// CPU time of the group that a process is in, in nanoseconds.
fn cpu_time(pid: u64) -> u64 {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the worker's groups");
    let group = |controller: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|it| it == controller).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    if let Some(path) = group("cpuacct") {
        let file = PathBuf::from("/sys/fs/cgroup/cpuacct").join(path).join("cpuacct.usage");
        return fs::read_to_string(&file).expect("cpuacct.usage").trim().parse().expect("a number");
    }
    let file = PathBuf::from("/sys/fs/cgroup").join(group("").expect("a v2 group")).join("cpu.stat");
    let text = fs::read_to_string(&file).expect("cpu.stat");
    let usec: u64 =
        text.lines().find_map(|it| it.strip_prefix("usage_usec ")).and_then(|it| it.parse().ok()).expect("usage");
    usec * 1000
}

#[test]
fn a_spinning_module_gets_its_share_of_the_cpu_and_no_more() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    world.call("unruly.spin", &json!({"millis": 8000})).expect("spins");
    world.call("unruly.spin", &json!({"millis": 8000})).expect("spins");
    let pid = world.worker("unruly")["pid"].as_u64().expect("its pid");
    let share = (0..3)
        .map(|_| {
            let (cpu, began) = (cpu_time(pid), Instant::now());
            std::thread::sleep(Duration::from_secs(2));
            let used = Duration::from_nanos(cpu_time(pid) - cpu);
            used.as_secs_f64() / began.elapsed().as_secs_f64()
        })
        .fold(Vec::new(), |mut all, share| {
            all.push(share);
            all.sort_by(f64::total_cmp);
            all
        })[1];
    assert!((0.34..=0.46).contains(&share), "0.4 of a core was allowed, {share:.3} was used");
    world.end();
}

#[test]
fn a_fork_bomb_stops_at_its_pids_limit() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    let made = world.call("unruly.fork_bomb", &Value::Object(serde_json::Map::new())).expect("it comes to an end");
    let made = made.as_u64().expect("a number");
    assert!((1..24).contains(&made), "{made} processes were made where 24 are allowed in all");
    assert_eq!(world.call("unruly.echo", &json!({"text": "x"})).expect("it lives")["text"], "x");
    world.end();
}
