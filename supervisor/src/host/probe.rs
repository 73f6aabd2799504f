//! Asking the host.

use std::fs;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::geteuid;

use super::trial::{self, Way};
use super::{Enforcement, Promise, Promises, Refused};
use crate::cgroup::{Controller, Groups, Layout};

/// What was found about one promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which promise.
    pub promise: Promise,
    /// Whether this host keeps it.
    pub kept: bool,
    /// Why, or by what.
    pub why: String,
    /// What an operator can do about it; empty when it is kept.
    pub remedy: String,
}

/// What was found about all promises, in the order of [`Promise::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One per promise.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Promises that are not kept here.
    pub fn degraded(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|it| !it.kept)
    }

    /// What will be enforced, if that is enough.
    ///
    /// # Errors
    /// [`Refused`] names every required promise that is neither kept nor in `allowed`.
    pub fn decide(&self, allowed: &Promises) -> Result<Enforcement, Refused> {
        let missing = self.degraded().filter(|it| it.promise.is_required() && !allowed.contains(&it.promise));
        let missing: Vec<_> = missing.map(|it| (it.promise, it.why.clone(), it.remedy.clone())).collect();
        if !missing.is_empty() {
            return Err(Refused(missing));
        }
        Ok(Enforcement::new(self.findings.iter().filter(|it| it.kept).map(|it| it.promise).collect()))
    }
}

/// Finds out what this host can enforce. Tries what can be tried, in child processes that are thrown away. Blocks for some
/// milliseconds.
#[must_use]
pub fn probe(groups: &Groups) -> Report {
    let root = is_root();
    let way = if root { Way::Direct } else { Way::InUserNamespace };
    let findings = Promise::ALL.into_iter().map(|promise| {
        let (found, remedy) = look(promise, groups, way);
        let (kept, why) = match found {
            Ok(how) => (true, how),
            Err(why) => (false, why),
        };
        Finding { promise, kept, why, remedy: if kept { String::new() } else { remedy.to_owned() } }
    });
    Report { findings: findings.collect() }
}

/// What this host would keep for a supervisor that is started like this process: same user, same cgroup. No process is moved, and the
/// groups that are made to try it are removed.
#[must_use]
pub fn examine() -> Report {
    let groups = Layout::detect().and_then(Groups::open_to_look);
    let groups = groups.unwrap_or_else(|error| {
        tracing::warn!(%error, "cgroups cannot be looked at");
        Groups::none()
    });
    let report = probe(&groups);
    if let Err(error) = groups.close() {
        tracing::warn!(%error, "a cgroup of the examination is left");
    }
    report
}

const AS_ROOT: &str = "run mortised as root, or as a systemd unit with Delegate=yes";
const CGROUPS: &str =
    "run mortised as root, or in a delegated group: systemd-run --user --scope -p Delegate=yes mortised …";
const USER_NAMESPACES: &str = "run mortised as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
     kernel.apparmor_restrict_unprivileged_userns)";

/// What was found, and what would help if it is not kept.
fn look(promise: Promise, groups: &Groups, way: Way) -> (Result<String, String>, &'static str) {
    let controller = |it| groups.offers(it).map(|()| format!("by the cgroup controller {it:?}"));
    let namespace = |flag| made(trial::namespace(way, flag), "it can be made");
    let file = |v1, v2| {
        if groups.has_file(v1, v2) {
            return Ok(());
        }
        let v1 = if v1.is_empty() { String::new() } else { format!("{v1} (v1) or ") };
        Err(format!("no group of ours has a file {v1}{v2} (v2)"))
    };
    match promise {
        Promise::MemoryLimit => (controller(Controller::Memory), CGROUPS),
        Promise::MemoryHigh => (
            controller(Controller::Memory).and_then(|_| file("", "memory.high")).map(|()| "by memory.high".into()),
            "use cgroup v2; `memory_high` is ignored until then",
        ),
        Promise::Pressure => (
            file("", "memory.pressure").map(|()| "by the groups' pressure files".into()),
            "use cgroup v2 and a kernel with CONFIG_PSI, booted with psi=1 where CONFIG_PSI_DEFAULT_DISABLED is set",
        ),
        Promise::SwapLimit => (
            controller(Controller::Memory)
                .and_then(|how| file("memory.memsw.limit_in_bytes", "memory.swap.max").map(|()| how)),
            "boot with swapaccount=1, or without swap",
        ),
        Promise::CpuLimit => {
            (controller(Controller::Cpu).and_then(|how| file("cpu.cfs_quota_us", "cpu.max").map(|()| how)), CGROUPS)
        }
        Promise::PidsLimit => (controller(Controller::Pids), CGROUPS),
        Promise::IoWeight => (
            controller(Controller::Io).and_then(|how| {
                file("blkio.bfq.weight", "io.weight").or_else(|_| file("blkio.weight", "io.bfq.weight")).map(|()| how)
            }),
            "use cgroup v2 with io.cost, or the bfq scheduler: echo bfq > /sys/block/DISK/queue/scheduler",
        ),
        Promise::OomGroup => (
            controller(Controller::Memory)
                .and_then(|_| file("", "memory.oom.group"))
                .map(|()| "by memory.oom.group".into()),
            "use cgroup v2: on v1 the kernel kills one process of a worker, which ends as a whole only if that was its first",
        ),
        Promise::GroupKill => (group_kill(groups, way), CGROUPS),
        Promise::Freeze => {
            let v2 = file("freezer.state", "cgroup.freeze");
            (v2.map(|()| "by cgroup.freeze or the v1 freezer".into()), CGROUPS)
        }
        Promise::Figures => (figures(groups), CGROUPS),
        Promise::OwnUid => (own_uid(), AS_ROOT),
        Promise::UserNamespace => {
            (made(trial::namespace(Way::Direct, CloneFlags::CLONE_NEWUSER), "it can be made"), USER_NAMESPACES)
        }
        Promise::PidNamespace => (namespace(CloneFlags::CLONE_NEWPID), USER_NAMESPACES),
        Promise::MountNamespace => (
            namespace(CloneFlags::CLONE_NEWNS)
                .and_then(|_| made(trial::mounts(way), "it can be made, with /proc and attributes")),
            "run mortised as root on Linux 5.12 or later; in a container, let /proc be uncovered",
        ),
        Promise::IpcNamespace => (namespace(CloneFlags::CLONE_NEWIPC), USER_NAMESPACES),
        Promise::UtsNamespace => (namespace(CloneFlags::CLONE_NEWUTS), USER_NAMESPACES),
        Promise::CgroupNamespace => (namespace(CloneFlags::CLONE_NEWCGROUP), USER_NAMESPACES),
        Promise::NetNamespace => (namespace(CloneFlags::CLONE_NEWNET), USER_NAMESPACES),
        Promise::Seccomp => (made(trial::seccomp(), "by an allow-list"), "use a kernel with CONFIG_SECCOMP_FILTER"),
        Promise::Landlock => (
            trial::landlock().map(|version| format!("ABI {version}")).map_err(refused),
            "use a kernel with CONFIG_SECURITY_LANDLOCK, and landlock among its lsm= modules",
        ),
    }
}

fn group_kill(groups: &Groups, way: Way) -> Result<String, String> {
    if groups.has_file("", "cgroup.kill") {
        return Ok("by cgroup.kill".into());
    }
    if groups.offers(Controller::Pids).is_ok() && groups.has_file("freezer.state", "cgroup.freeze") {
        return Ok("by freezing the group and signalling every process".into());
    }
    // A pid namespace ends with its first process.
    made(trial::namespace(way, CloneFlags::CLONE_NEWPID), "by the pid namespace")
        .map_err(|why| format!("no cgroup.kill, no freezer, no pid namespace ({why})"))
}

fn figures(groups: &Groups) -> Result<String, String> {
    groups.offers(Controller::Memory)?;
    groups.offers(Controller::Pids)?;
    let counted = groups.has_file("cpuacct.usage", "cpu.stat");
    if counted { Ok("by the group's own counters".into()) } else { Err("nobody counts CPU time per group".into()) }
}

/// CAP_SETGID, CAP_SETUID and CAP_SETPCAP.
fn own_uid() -> Result<String, String> {
    const NEEDED: u64 = 1 << 6 | 1 << 7 | 1 << 8;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|it| it.strip_prefix("CapEff:"));
    let effective = effective.and_then(|it| u64::from_str_radix(it.trim(), 16).ok()).unwrap_or(0);
    match (is_root(), effective & NEEDED == NEEDED) {
        (true, true) => Ok("by root's rights".into()),
        (true, false) => {
            Err("root without CAP_SETUID, CAP_SETGID and CAP_SETPCAP cannot give a worker another uid".into())
        }
        (false, _) => Err(format!("uid {} cannot give a worker another uid", geteuid())),
    }
}

fn is_root() -> bool {
    geteuid().is_root()
}

fn made(tried: Result<(), Errno>, how: &str) -> Result<String, String> {
    tried.map(|()| how.to_owned()).map_err(refused)
}

fn refused(errno: Errno) -> String {
    format!("the kernel refuses: {}", errno.desc())
}
