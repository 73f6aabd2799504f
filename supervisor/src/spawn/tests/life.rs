//! Starting, ending, finding again, and what is left: nothing.

use std::fs;
use std::os::fd::OwnedFd;

use mortise_control::plan::Step;
use mortise_control::{Role, WorkerId};
use nix::errno::Errno;

use super::house::{House, probe_all, read_until};
use crate::lifecycle::ExitStatus;
use crate::spawn::{Adopted, Inherited, Recorded, Running, SpawnError, Spawner};

fn recorded(running: &Running) -> Recorded {
    let Running { worker, pid, start_time, .. } = *running;
    Recorded { worker, role: Role::Sdk, uid: 0, pid, start_time }
}

#[test]
fn an_end_is_told_as_it_was() {
    let Some(house) = House::build() else { return };
    assert_eq!(house.run(house.shell("exit 3")).1, ExitStatus::Code(3));
    // A pid 1 takes no signal from inside for which it has no handler, but every signal that comes from outside its namespace.
    let running = house.spawn(house.shell("echo here; exec sleep 1000"));
    read_until(&running.stdout, "here");
    house.runtime.block_on(house.spawner.kill(running.worker)).unwrap();
    assert_eq!(house.exit(&running), ExitStatus::Signal(9));
    assert_eq!(house.exit(&running), ExitStatus::Signal(9), "asked again, it says the same");
    house.runtime.block_on(house.spawner.kill(running.worker)).unwrap();
}

#[test]
fn a_step_that_fails_is_named() {
    let Some(house) = House::build() else { return };
    let mut spec = house.shell("true");
    spec.package = house.folder.path().join("nowhere");
    let worker = spec.worker;
    let failed = house.runtime.block_on(house.spawner.spawn(spec.clone())).unwrap_err();
    let bind =
        Step::Bind { from: spec.package.clone(), path: "/module".into(), access: mortise_control::plan::Access::Read };
    match failed {
        SpawnError::Step { step, about, errno } => {
            assert_eq!(
                (step.as_str(), about.as_str(), errno),
                (bind.name(), spec.package.to_str().unwrap(), Errno::ENOENT)
            );
        }
        other => panic!("{other}"),
    }
    house.runtime.block_on(house.spawner.remove(worker)).unwrap();
    let spec = house.spec("/usr/bin/no-such-program", &[]);
    let worker = spec.worker;
    match house.runtime.block_on(house.spawner.spawn(spec)).unwrap_err() {
        SpawnError::Step { step, about, errno } => {
            assert_eq!((step.as_str(), about.as_str(), errno), ("exec", "/usr/bin/no-such-program", Errno::ENOENT));
        }
        other => panic!("{other}"),
    }
    house.runtime.block_on(house.spawner.remove(worker)).unwrap();
    assert_eq!(house.groups.names().len(), 0);
}

#[test]
fn what_was_removed_is_gone_and_removing_it_again_is_no_error() {
    let Some(house) = House::build() else { return };
    let mut spec = house.shell("sleep 1000 & sleep 1000 & echo here; exec sleep 1000");
    spec.http = true;
    let running = house.spawn(spec);
    read_until(&running.stdout, "here");
    let worker = running.worker;
    let run = house.config.run.clone();
    assert!(run.join(format!("workers/{worker}/control.sock")).exists());
    assert!(run.join(format!("http/{worker}.sock")).exists());
    let figures = house.spawner.figures(worker).unwrap();
    assert_eq!(figures.pids, Some(3));
    assert!(figures.memory_bytes.unwrap() > 0 && figures.oom_kills == Some(0) && figures.cpu_usec.unwrap() > 0);
    let groups = running.group.clone();
    let remains = house.runtime.block_on(house.spawner.remove(worker)).unwrap();
    assert!(remains.cgroups_removed > 0 && remains.memory_bytes > 0, "{remains:?}");
    assert_eq!(house.exit(&running), ExitStatus::Signal(9));
    assert!(groups.v1_tasks().all(|it| !it.exists()) && groups.v2_folder().is_none_or(|it| !it.exists()));
    assert_eq!(fs::read_dir(run.join("workers")).unwrap().count() + fs::read_dir(run.join("http")).unwrap().count(), 0);
    assert_eq!(house.spawner.figures(worker), None);
    let again = house.runtime.block_on(house.spawner.remove(worker)).unwrap();
    assert_eq!(again, Default::default());
}

#[test]
fn a_successor_finds_a_worker_by_pid_start_time_and_group() {
    let Some(house) = House::build() else { return };
    let running = house.spawn(house.shell("trap 'echo bye; exit 5' TERM; echo here; while true; do sleep 0.01; done"));
    read_until(&running.stdout, "here");
    let record = recorded(&running);
    let successor = Spawner::new(house.config.clone(), house.groups.clone()).unwrap();
    let adopt = |record| house.runtime.block_on(successor.adopt(record)).unwrap();
    let other = house.spawn(house.shell("exec sleep 1000"));
    let wrong = [
        Recorded { worker: other.worker, ..record },
        Recorded { start_time: record.start_time + 1, ..record },
        Recorded { pid: std::process::id(), ..record },
        Recorded { worker: WorkerId { generation: 2, ..record.worker }, ..record },
    ];
    for wrong in wrong {
        assert!(matches!(adopt(wrong), Adopted::Lost(_)), "{wrong:?}");
    }
    let Adopted::Running(found) = adopt(record) else { panic!("it runs") };
    found.process.terminate().unwrap();
    read_until(&found.stdout, "bye");
    assert_eq!(house.exit(&found), ExitStatus::Code(5));
    assert!(matches!(adopt(record), Adopted::Lost(_)));
    // The old spawner's handle asks for a child that is collected already.
    assert_eq!(house.exit(&running), ExitStatus::Code(5));
}

#[test]
fn the_end_of_somebody_elses_child_is_known_on_a_new_kernel() {
    let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
    let process = super::super::pidfd::open(child.id()).unwrap();
    child.wait().unwrap();
    match super::super::pidfd::exit_code(std::os::fd::AsFd::as_fd(&process)) {
        None => println!("skipped: this kernel forgets the exit code with the process (before Linux 6.15)"),
        code => assert_eq!(code, Some(3 << 8)),
    }
}

#[test]
fn a_sweep_takes_what_is_not_kept() {
    let Some(house) = House::build() else { return };
    let [kept, lost] = [(); 2].map(|()| house.spawn(house.shell("exec sleep 1000")));
    house.groups.create("r-words", &Default::default()).unwrap();
    let swept = house.runtime.block_on(house.spawner.sweep(vec![kept.worker]));
    assert_eq!((swept.removed, swept.left), (1, vec![]));
    assert_eq!(house.exit(&lost), ExitStatus::Signal(9));
    assert!(house.config.run.join(format!("workers/{}", kept.worker)).exists());
    assert!(!house.config.run.join(format!("workers/{}", lost.worker)).exists());
    let mut left: Vec<_> = house.groups.names().into_iter().collect();
    left.sort();
    assert_eq!(left, ["r-words".to_owned(), format!("w-{}", kept.worker)]);
    house.groups.sweep(|name| name != "r-words");
}

#[test]
fn a_test_that_panics_leaves_nothing() {
    let mut left = None;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let Some(house) = House::build() else { return };
        let running = house.spawn(house.shell("exec sleep 1000"));
        left = Some((running.pid, running.group.clone(), house.folder.path().to_owned()));
        panic!("as a test may");
    }));
    let Some((pid, group, folder)) = left else { return };
    assert!(panicked.is_err());
    assert!(!group.contains(pid));
    assert!(group.v1_tasks().all(|it| !it.exists()) && group.v2_folder().is_none_or(|it| !it.exists()));
    assert!(!folder.exists());
}

#[test]
fn a_missing_reader_is_no_error() {
    let Some(house) = House::build() else { return };
    let (gate, opener) = nix::unistd::pipe().unwrap();
    let mut spec = house.shell("read -r line <&4; echo into nothing && echo and again && exit 7");
    spec.inherited = vec![Inherited { name: "gate".into(), fd: gate.into() }];
    let mut running = house.spawn(spec);
    running.stdout = OwnedFd::from(fs::File::open("/dev/null").unwrap());
    nix::unistd::write(&opener, b"go\n").unwrap();
    assert_eq!(house.exit(&running), ExitStatus::Code(7));
}

#[test]
fn what_the_host_does_not_keep_is_left_out_and_the_rest_is_kept() {
    use crate::host::{Enforcement, Promise};
    let weaker = |groups: &crate::cgroup::Groups| {
        let all = probe_all(groups);
        let gone = [Promise::UserNamespace, Promise::NetNamespace, Promise::Landlock];
        Enforcement::new(Promise::ALL.into_iter().filter(|it| all.keeps(*it) && !gone.contains(it)).collect())
    };
    let Some(house) = House::build_with(weaker) else { return };
    let (out, status) = house.run(house.shell("cat /proc/self/status /proc/self/uid_map /proc/net/dev"));
    assert_eq!(status, ExitStatus::Code(0));
    assert!(out.contains("CapBnd:\t0000000000000000") && out.contains("NoNewPrivs:\t1") && out.contains("Seccomp:\t2"));
    assert!(out.contains("4294967295"), "the user namespace outside: {out}");
}
