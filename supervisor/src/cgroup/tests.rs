//! Groups of a real kernel.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Controller, Group, Groups, Layout, Limits, Quota, RemoveError};

/// Groups that are removed with their processes, also when a test panics.
struct Scratch {
    groups: Groups,
    _state: tempfile::TempDir,
}

impl Scratch {
    fn open(layout: Layout) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root, to make cgroups");
            return None;
        }
        let state = tempfile::tempdir().unwrap();
        Some(Self { groups: Groups::open(layout, state.path()).unwrap(), _state: state })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let swept = self.groups.sweep(|_| false);
        let closed = self.groups.close();
        if !std::thread::panicking() {
            assert!(swept.left.is_empty(), "{swept:?}");
            closed.unwrap();
        }
    }
}

/// A shell that joins the group, says so, and then runs `script`.
fn shell_in(group: &Group, script: &str) -> Child {
    let v1 = group.v1_tasks().map(|it| format!("echo 0 > {}; ", it.display()));
    let v2 = group.v2_folder().map(|it| format!("echo 0 > {}/cgroup.procs; ", it.display()));
    let join: String = v1.chain(v2).collect();
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("{join} echo here; {script}")])
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "here\n");
    child
}

/// This host without its v2 tree, as far as Mortise looks.
fn v1_only() -> Layout {
    let mut layout = Layout::detect().unwrap();
    layout.v2 = None;
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if freezer.join("tasks").exists() && !layout.v1.iter().any(|it| it.has(Controller::Freezer)) {
        let (mount, own) = (freezer.to_owned(), freezer.to_owned());
        layout.v1.push(super::layout::Hierarchy { mount, own, controllers: [Controller::Freezer].into() });
    }
    layout
}

const WITHIN: Duration = Duration::from_secs(20);

#[test]
fn limits_are_what_the_kernel_was_told_and_change_both_ways() {
    let Some(it) = Scratch::open(Layout::detect().unwrap()) else { return };
    let limits = |memory_bytes| Limits {
        memory_bytes: Some(memory_bytes),
        memory_high_bytes: (memory_bytes > 32 << 20).then_some(memory_bytes / 2),
        swap_bytes: Some(0),
        cpu_cores: Some(0.5),
        cpu_weight: Some(50),
        pids: Some(7),
        io_weight: Some(200),
    };
    let group = it.groups.create("w-1.1", &limits(64 << 20)).unwrap();
    let high = |group: &Group| {
        let folder = group.folders_with(Controller::Memory).next().unwrap();
        std::fs::read_to_string(folder.join("memory.high")).map_or_else(|_| "v1".to_owned(), |it| it.trim().to_owned())
    };
    let memory = |group: &Group| {
        let folder = group.folders_with(Controller::Memory).next().unwrap();
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).map(|it| it.trim().to_owned());
        read("memory.limit_in_bytes").or_else(|_| read("memory.max")).unwrap()
    };
    assert_eq!(memory(&group), (64 << 20).to_string());
    assert!(["v1", &(32 << 20).to_string()].contains(&&*high(&group)), "{}", high(&group));
    group.set_limits(&limits(128 << 20)).unwrap();
    assert_eq!(memory(&group), (128 << 20).to_string());
    group.set_limits(&limits(32 << 20)).unwrap();
    assert_eq!(memory(&group), (32 << 20).to_string());
    assert!(["v1", "max"].contains(&&*high(&group)), "what is not said any more is lifted: {}", high(&group));
    let cpu = group.folders_with(Controller::Cpu).next().unwrap();
    let weight = |file: &str| std::fs::read_to_string(cpu.join(file));
    assert_eq!(
        weight("cpu.weight").or_else(|_| weight("cpu.shares")).unwrap().trim(),
        if cpu.join("cpu.weight").exists() { "50" } else { "512" }
    );
    let pids = group.folders_with(Controller::Pids).next().unwrap().join("pids.max");
    assert_eq!(std::fs::read_to_string(pids).unwrap(), "7\n");
}

#[test]
fn a_busy_group_is_not_removed_and_an_empty_one_is() {
    let Some(it) = Scratch::open(Layout::detect().unwrap()) else { return };
    let group = it.groups.create("w-1.1", &Limits::default()).unwrap();
    let mut child = shell_in(&group, "read line");
    assert!(group.contains(child.id()) && !group.contains(std::process::id()));
    assert!(matches!(group.remove(Duration::ZERO), Err(RemoveError::Busy { processes: 1 })));
    assert!(it.groups.close().is_err());
    let foreign: Vec<_> = group.folders().map(|it| it.path.join("foreign")).collect();
    foreign.iter().for_each(|it| std::fs::create_dir(it).unwrap());
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    let error = group.remove(Duration::ZERO).unwrap_err();
    assert!(matches!(&error, RemoveError::Below { names, .. } if names == "foreign"), "{error}");
    foreign.iter().for_each(|it| std::fs::remove_dir(it).unwrap());
    assert!(group.remove(WITHIN).unwrap() > 0);
    assert!(it.groups.find("w-1.1").is_none());
}

#[test]
fn without_cgroup_kill_nothing_escapes_either() {
    let Some(it) = Scratch::open(v1_only()) else { return };
    if it.groups.is_empty() {
        println!("skipped: no v1 hierarchy here");
        return;
    }
    let group = it.groups.create("w-1.1", &Limits { pids: Some(60), ..Limits::default() }).unwrap();
    let mut child = shell_in(&group, "bomb() { bomb | bomb & }; while true; do bomb; done 2>/dev/null");
    group.freeze().unwrap();
    group.kill().unwrap();
    group.remove(WITHIN).unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_sweep_keeps_what_is_wanted_and_a_name_is_one_folder() {
    let Some(it) = Scratch::open(Layout::detect().unwrap()) else { return };
    for name in ["w-1.1", "w-2.1", "r-words"] {
        it.groups.create(name, &Limits::default()).unwrap();
    }
    for name in ["", "..", "a/b", "A", "-x", "1"] {
        assert!(it.groups.create(name, &Limits::default()).is_err(), "{name:?}");
    }
    let swept = it.groups.sweep(|name| name != "w-2.1");
    assert_eq!((swept.removed, swept.left), (1, vec![]));
    assert_eq!(it.groups.names().into_iter().collect::<Vec<_>>(), ["r-words", "w-1.1"]);
}

fn tenants_folders(group: &Group) -> Vec<std::path::PathBuf> {
    group.folders().map(|it| it.path.parent().unwrap().to_owned()).collect()
}

fn a_quota_is_the_tenants_and_goes_with_its_last_leaf(layout: Layout) {
    let Some(it) = Scratch::open(layout) else { return };
    it.groups.set_quota("acme", Quota { pids: Some(9), memory_bytes: Some(64 << 20), cpu_milli: Some(500) });
    let first = it.groups.create_for("acme", "w-1.1", &Limits::default()).unwrap();
    let second = it.groups.create_for("acme", "w-2.1", &Limits::default()).unwrap();
    let folders = tenants_folders(&first);
    let read = |file: &str| {
        let found = folders.iter().map(|it| it.join(file)).find(|it| it.exists());
        found.map(|it| std::fs::read_to_string(it).unwrap().trim().to_owned())
    };
    let memory = |read: &dyn Fn(&str) -> Option<String>| read("memory.max").or_else(|| read("memory.limit_in_bytes"));
    assert_eq!((read("pids.max").as_deref(), memory(&read).as_deref()), (Some("9"), Some("67108864")));
    // Both are in it: what the one uses is the other's too.
    let mut child = shell_in(&first, "read go; for i in 1 2 3 4 5 6; do sleep 60 & done; echo full; read x");
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(first.contains(child.id()) && !second.contains(child.id()));
    let refused = Command::new("/bin/sh")
        .args(["-c", &{
            let v1 = second.v1_tasks().map(|it| format!("echo 0 > {}; ", it.display()));
            let v2 = second.v2_folder().map(|it| format!("echo 0 > {}/cgroup.procs; ", it.display()));
            v1.chain(v2).collect::<String>() + "for i in 1 2 3; do sleep 60 >/dev/null 2>&1 & done"
        }])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("fork"), "nine are all there may be: {said}");
    it.groups.set_quota("acme", Quota::default());
    it.groups.enforce_quota("acme").unwrap();
    assert_eq!(read("pids.max").as_deref(), Some("max"));
    for group in [first, second] {
        group.kill().unwrap();
        assert!(folders.iter().all(|it| it.is_dir()));
        group.remove(WITHIN).unwrap();
    }
    child.wait().unwrap();
    assert!(folders.iter().all(|it| !it.exists()), "{folders:?}");
    it.groups.enforce_quota("acme").unwrap();
}

#[test]
fn a_quota_is_the_tenants_and_goes_with_its_last_leaf_here() {
    a_quota_is_the_tenants_and_goes_with_its_last_leaf(Layout::detect().unwrap());
}

#[test]
fn a_quota_is_the_tenants_and_goes_with_its_last_leaf_on_v1_alone() {
    a_quota_is_the_tenants_and_goes_with_its_last_leaf(v1_only());
}

/// Version 1 refuses a limit below what is used and cannot be taken back; version 2 takes it, and ends somebody.
#[test]
fn memory_that_cannot_be_brought_under_a_quota_keeps_no_other_limit_from_holding() {
    let Some(it) = Scratch::open(v1_only()) else { return };
    it.groups.set_quota("acme", Quota { memory_bytes: Some(64 << 20), ..Quota::default() });
    let group = it.groups.create_for("acme", "w-1.1", &Limits::default()).unwrap();
    let folders = tenants_folders(&group);
    let read = |file: &str| {
        let found = folders.iter().map(|it| it.join(file)).find(|it| it.exists());
        found.map(|it| std::fs::read_to_string(it).unwrap().trim().to_owned())
    };
    if read("memory.limit_in_bytes").is_none() || read("pids.max").is_none() {
        println!("skipped: no v1 hierarchies for memory and processes here");
        return;
    }
    let limits = || (read("memory.limit_in_bytes"), read("memory.memsw.limit_in_bytes"));
    let before = limits();
    let mut child = shell_in(&group, "x=$(head -c 16000000 /dev/zero | tr '\\0' x); echo full; read line");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    it.groups.set_quota("acme", Quota { pids: Some(9), memory_bytes: Some(1 << 20), cpu_milli: Some(500) });
    // Without swap, what a process has written cannot be taken back.
    let refused = it.groups.enforce_quota("acme");
    assert!(refused.as_ref().is_err_and(|it| it.to_string().contains("memory")), "{refused:?}");
    assert_eq!((read("pids.max").as_deref(), read("cpu.cfs_quota_us").as_deref()), (Some("9"), Some("50000")));
    assert_eq!(limits(), before, "what cannot be made less stays, swap among it");
    group.kill().unwrap();
    child.wait().unwrap();
    it.groups.enforce_quota("acme").unwrap();
    assert_eq!(read("memory.limit_in_bytes").as_deref(), Some("1048576"));
    group.remove(WITHIN).unwrap();
}

#[test]
fn leaves_of_tenants_are_found_named_and_swept_like_others() {
    let Some(it) = Scratch::open(Layout::detect().unwrap()) else { return };
    it.groups.create("w-1.1", &Limits::default()).unwrap();
    let group = it.groups.create_for("acme", "w-2.1", &Limits::default()).unwrap();
    it.groups.create_for("acme-b", "r-words", &Limits::default()).unwrap();
    assert_eq!(it.groups.names().into_iter().collect::<Vec<_>>(), ["r-words", "w-1.1", "w-2.1"]);
    assert_eq!(tenants_folders(&it.groups.find("w-2.1").unwrap()), tenants_folders(&group));
    assert!(it.groups.create_for("../acme", "w-3.1", &Limits::default()).is_err());
    let swept = it.groups.sweep(|name| name == "w-1.1");
    assert_eq!(swept.removed, 2, "{swept:?}");
    assert!(tenants_folders(&group).iter().all(|it| !it.exists()));
}
