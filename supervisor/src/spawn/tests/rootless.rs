//! Without root: user namespaces, and what cannot be kept is said.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::house::House;
use crate::cgroup::{Groups, Layout};
use crate::host::{Promise, Promises, probe};
use crate::lifecycle::ExitStatus;

const NOBODY: u32 = 65_534;

/// What nobody on a host without a delegated group has to do without.
fn allowed() -> Promises {
    use Promise::{CpuLimit, Figures, Freeze, GroupKill, MemoryLimit, OwnUid, PidsLimit};
    [CpuLimit, Figures, Freeze, GroupKill, MemoryLimit, OwnUid, PidsLimit].into()
}

/// Runs another test of this program as nobody.
fn as_nobody(test: &str) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root, to become nobody");
        return;
    }
    let Some(house) = House::build() else { return };
    drop(house); // init is built now
    let tests = std::env::current_exe().unwrap();
    let mut command = Command::new(tests);
    command.args(["--exact", "--ignored", "--nocapture", test]).uid(NOBODY).gid(NOBODY).current_dir("/");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    if let Some(skipped) = text.lines().find(|it| it.starts_with("skipped")) {
        println!("{skipped}");
    }
}

#[test]
fn nobody_can_start_workers_too() {
    as_nobody("spawn::tests::rootless::nobody_starts_a_worker");
}

#[test]
#[ignore = "is run by `nobody_can_start_workers_too`, as nobody"]
fn nobody_starts_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let groups = Groups::open(Layout::detect().unwrap(), folder.path()).unwrap();
    let report = probe(&groups);
    groups.close().unwrap();
    if report.findings.iter().any(|it| it.promise == Promise::MountNamespace && !it.kept) {
        println!("skipped: this host lets nobody make no mount namespace with a /proc of its own");
        return;
    }
    // Nothing is left out silently.
    let refused = report.decide(&Promises::new()).unwrap_err();
    assert!(refused.0.iter().any(|(promise, why, remedy)| {
        *promise == Promise::OwnUid && why.contains("65534") && remedy.contains("root")
    }));
    let Some(house) = House::build_as_anybody(|groups| probe(groups).decide(&allowed()).unwrap()) else { return };
    let script = "id -u; id -g; echo $$; ls /proc | grep -c '^[0-9]'; cat /module/greeting /proc/self/status; \
                  touch /module/x || touch /usr/x || echo read-only";
    let (out, status) = house.run(house.shell(script));
    assert_eq!(status, ExitStatus::Code(0), "{out}");
    assert!(out.starts_with("65534\n65534\n1\n"), "{out}");
    for line in [
        "hello",
        "read-only",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
    ] {
        assert!(out.contains(line), "{line} is not in {out}");
    }
    // Killed as a whole by its pid namespace.
    let running = house.spawn(house.shell("sleep 1000 & exec sleep 1000"));
    house.runtime.block_on(house.spawner.kill(running.worker)).unwrap();
    assert_eq!(house.exit(&running), ExitStatus::Signal(9));
}
