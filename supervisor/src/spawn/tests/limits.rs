//! Limits that hold, and groups that end.

use std::fs;

use super::house::{House, read_until};
use crate::lifecycle::ExitStatus;

#[test]
fn a_worker_beyond_its_memory_is_killed_alone() {
    let Some(house) = House::build() else { return };
    let sibling = house.spawn(house.shell("exec sleep 1000"));
    let mut spec =
        house.spec("/usr/bin/python3", &["-c", "print('here', flush=True); b = bytearray(256 << 20); print('lived')"]);
    spec.limits.memory = 48 << 20;
    let running = house.spawn(spec);
    assert_eq!(house.exit(&running), ExitStatus::Signal(9));
    assert_eq!(read_until(&running.stdout, "here"), "here\n");
    let figures = running.group.figures();
    assert!(figures.oom_kills.unwrap() >= 1, "{figures:?}");
    assert_eq!(sibling.group.figures().oom_kills, Some(0));
    assert!(sibling.group.contains(sibling.pid));
}

#[test]
fn a_worker_within_its_memory_lives() {
    let Some(house) = House::build() else { return };
    let mut spec = house.spec("/usr/bin/python3", &["-c", "b = bytearray(16 << 20); print('lived')"]);
    spec.limits.memory = 48 << 20;
    assert_eq!(house.run(spec), ("lived\n".into(), ExitStatus::Code(0)));
}

#[test]
fn forks_stop_at_the_limit() {
    let Some(house) = House::build() else { return };
    let script = "\
import os, signal
n = 1
try:
    while n < 100:
        if os.fork() == 0:
            signal.pause()
        n += 1
except BlockingIOError:
    print(n, flush=True)
";
    let mut spec = house.spec("/usr/bin/python3", &["-c", script]);
    spec.limits.pids = 20;
    assert_eq!(house.run(spec).0, "20\n");
}

#[test]
fn nothing_escapes_from_a_fork_bomb_that_is_killed() {
    let Some(house) = House::build() else { return };
    let script = "\
import os
print('here', flush=True)
while True:
    try:
        os.fork()
    except BlockingIOError:
        pass
";
    let mut spec = house.spec("/usr/bin/python3", &["-c", script]);
    spec.limits.pids = 60;
    let running = house.spawn(spec);
    read_until(&running.stdout, "here");
    house.runtime.block_on(house.spawner.kill(running.worker)).unwrap();
    assert_eq!(house.exit(&running), ExitStatus::Signal(9));
    house.remove(&running);
    assert_eq!(house.groups.names().len(), 0);
}

#[test]
fn a_spinning_worker_is_throttled() {
    let Some(house) = House::build() else { return };
    let spin = "import time\nwhile time.process_time() < 0.2: pass";
    let throttled = |cpu: f64| {
        let mut spec = house.spec("/usr/bin/python3", &["-c", spin]);
        spec.limits.cpu = cpu;
        let running = house.spawn(spec);
        assert_eq!(house.exit(&running), ExitStatus::Code(0));
        let folders = running.group.v1_tasks().map(|it| it.with_file_name("cpu.stat"));
        let files: Vec<_> = folders.chain(running.group.v2_folder().map(|it| it.join("cpu.stat"))).collect();
        let text: String = files.iter().filter_map(|it| fs::read_to_string(it).ok()).collect();
        let count = text.lines().find_map(|it| it.strip_prefix("nr_throttled ")).unwrap().parse::<u64>().unwrap();
        house.remove(&running);
        count
    };
    // A twentieth of a core for 0.2 s of CPU time are forty periods. A busy machine may give it less than that in some.
    assert!(throttled(0.05) >= 5);
    assert_eq!(throttled(4.0), 0);
}

#[test]
fn a_frozen_worker_stands_still_and_can_be_killed() {
    let Some(house) = House::build() else { return };
    let running = house.spawn(house.shell("trap 'echo term' TERM; while true; do echo tick; sleep 0.001; done"));
    read_until(&running.stdout, "tick");
    running.group.freeze().unwrap();
    running.process.terminate().unwrap();
    running.group.thaw().unwrap();
    read_until(&running.stdout, "term");
    running.group.freeze().unwrap();
    running.group.kill().unwrap();
    assert_eq!(house.exit(&running), ExitStatus::Signal(9));
}

#[test]
fn a_tmp_is_full_when_it_is_full() {
    let Some(house) = House::build() else { return };
    let mut spec = house.shell("head -c 100000000 /dev/zero > /tmp/x; echo $(stat -c %s /tmp/x); for i in $(seq 20000); do true > /tmp/$i || break; done 2>/dev/null; ls /tmp | wc -l");
    spec.limits.memory = 64 << 20;
    let (out, status) = house.run(spec);
    assert_eq!(status, ExitStatus::Code(0), "{out}");
    let mut lines = out.lines().map(|it| it.parse::<u64>().unwrap());
    assert_eq!(lines.next(), Some(32 << 20));
    assert!(lines.next().unwrap() < 16_384);
}
