//! What a machine has of ours: processes, cgroups, mounts, sockets and memfds. A test takes one before and compares after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The first uid that workers run as, see `mortised --tenant-uids`.
const FIRST_UID: u32 = 200_000;

/// Everything on this machine that Mortise could have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    things: BTreeSet<String>,
}

impl Baseline {
    /// The machine as it is.
    #[must_use]
    pub fn take() -> Self {
        let mut things = BTreeSet::new();
        processes(&mut things);
        cgroups(Path::new("/sys/fs/cgroup"), 0, &mut things);
        mounts(&mut things);
        sockets(&mut things);
        Self { things }
    }

    /// What is there now and was not then. Empty: nothing was left behind.
    #[must_use]
    pub fn left_over(&self) -> Vec<String> {
        Self::take().things.difference(&self.things).cloned().collect()
    }
}

/// Processes of the supervisor's programs, and all that run as a worker's uid.
fn processes(things: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |key: &str| status.lines().find_map(|it| it.strip_prefix(key)).unwrap_or("").trim().to_owned();
        let uid: u32 = field("Uid:").split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0);
        let program = field("Name:");
        if uid >= FIRST_UID || program.starts_with("mortise") {
            things.insert(format!("process {name} {program} uid {uid} state {}", field("State:")));
        }
        memfds(&entry.path(), &name, &program, things);
    }
}

/// Memory of ours that a process still has a descriptor of, whoever it is.
fn memfds(process: &Path, number: &str, program: &str, things: &mut BTreeSet<String>) {
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.display().to_string();
        if target.starts_with("/memfd:mortise") {
            things.insert(format!("{target} in {number} {program}"));
        }
    }
}

/// Groups of ours, in every hierarchy.
fn cgroups(folder: &Path, depth: usize, things: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|it| it.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with("mortise") {
            things.insert(format!("cgroup {}", entry.path().display()));
        }
        if depth < 8 {
            cgroups(&entry.path(), depth + 1, things);
        }
    }
}

/// Where something is mounted, but for what systemd mounts whenever a service of its own starts.
fn mounts(things: &mut BTreeSet<String>) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split_whitespace().nth(4));
    things.extend(points.filter(|it| !it.starts_with("/run/credentials/")).map(|it| format!("mount {it}")));
}

/// Sockets that are bound to a path in a run folder of ours.
fn sockets(things: &mut BTreeSet<String>) {
    let text = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let paths = text.lines().filter_map(|line| line.split_whitespace().nth(7));
    let ours = |it: &&str| ["admin.sock", "control.sock", "invoke.sock", "/http/"].iter().any(|part| it.contains(part));
    things.extend(paths.filter(ours).map(|path| format!("socket {path}")));
}
