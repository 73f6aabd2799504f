//! Groups of a real kernel.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Controller, Group, Groups, Layout, Limits, RemoveError};

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
        swap_bytes: Some(0),
        cpu_cores: Some(0.5),
        pids: Some(7),
        io_weight: Some(200),
    };
    let group = it.groups.create("w-1.1", &limits(64 << 20)).unwrap();
    let memory = |group: &Group| {
        let folder = group.folders_with(Controller::Memory).next().unwrap();
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).map(|it| it.trim().to_owned());
        read("memory.limit_in_bytes").or_else(|_| read("memory.max")).unwrap()
    };
    assert_eq!(memory(&group), (64 << 20).to_string());
    group.set_limits(&limits(128 << 20)).unwrap();
    assert_eq!(memory(&group), (128 << 20).to_string());
    group.set_limits(&limits(32 << 20)).unwrap();
    assert_eq!(memory(&group), (32 << 20).to_string());
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
