//! Which hierarchies there are, and where this process is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// A controller that Mortise uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// CPU time, limited.
    Cpu,
    /// CPU time, counted (v1 only; on v2 `Cpu` counts).
    CpuAccounting,
    /// Processes and threads.
    Pids,
    /// Disks.
    Io,
    /// Stopping and resuming (v1 only; every v2 group can).
    Freezer,
}

impl Controller {
    fn from_v1(name: &str) -> Option<Self> {
        Some(match name {
            "memory" => Self::Memory,
            "cpu" => Self::Cpu,
            "cpuacct" => Self::CpuAccounting,
            "pids" => Self::Pids,
            "blkio" => Self::Io,
            "freezer" => Self::Freezer,
            _ => return None,
        })
    }

    fn from_v2(name: &str) -> Option<Self> {
        Some(match name {
            "memory" => Self::Memory,
            "cpu" => Self::Cpu,
            "pids" => Self::Pids,
            "io" => Self::Io,
            _ => return None,
        })
    }

    /// The name in `cgroup.subtree_control`; none for what v2 has without a controller.
    pub(super) const fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory"),
            Self::Cpu => Some("cpu"),
            Self::Pids => Some("pids"),
            Self::Io => Some("io"),
            Self::CpuAccounting | Self::Freezer => None,
        }
    }
}

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The folder of the group below which this process makes groups.
    pub own: PathBuf,
    /// What it offers to groups made there, as far as Mortise uses it.
    pub controllers: BTreeSet<Controller>,
}

/// The hierarchies of this host and where this process is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// v1 hierarchies with a controller that Mortise uses.
    pub(super) v1: Vec<Hierarchy>,
    /// The v2 tree, wherever it is mounted; beside v1 it may offer no controller at all.
    pub(super) v2: Option<Hierarchy>,
}

/// The leaf into which `mortised hold` moves itself.
pub(super) const HOLD_LEAF: &str = "mortise-hold";

/// The leaf into which the supervisor moves itself where v2 does not let a group have both processes and controlled children.
pub(super) const OWN_LEAF: &str = "mortise-supervisor";

impl Layout {
    pub(super) const NONE: Self = Self { v1: Vec::new(), v2: None };

    /// Reads /proc/self/mountinfo and /proc/self/cgroup.
    ///
    /// # Errors
    /// [`CgroupError::File`] when /proc cannot be read. That no hierarchy is mounted is none: nothing is offered then.
    pub fn detect() -> Result<Self, CgroupError> {
        let read = |path: &str| fs::read_to_string(path).map_err(CgroupError::file("read", Path::new(path)));
        let mut layout = Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        if let Some(v2) = &mut layout.v2 {
            let offered = fs::read_to_string(v2.own.join("cgroup.controllers")).unwrap_or_default();
            v2.controllers = offered.split_whitespace().filter_map(Controller::from_v2).collect();
        }
        // Weights on v1 are BFQ's. Without a disk that uses it, one more hierarchy to join would buy nothing.
        let weights = uses_bfq(Path::new("/sys/block"));
        let unified = layout.v2.is_some();
        for hierarchy in &mut layout.v1 {
            hierarchy.controllers.retain(|it| match it {
                Controller::Io => weights,
                Controller::Freezer => !unified,
                _ => true,
            });
        }
        layout.v1.retain(|it| !it.controllers.is_empty());
        Ok(layout)
    }

    /// The same hierarchies with groups made below another group of the v2 tree than this process's own: `path` is as in
    /// /proc/PID/cgroup and as systemd names it, like `/system.slice/mortise-workers.service`.
    ///
    /// # Errors
    /// [`CgroupError`] when no v2 tree is mounted or there is no such group in it.
    pub fn below(mut self, path: &str) -> Result<Self, CgroupError> {
        let Some(v2) = &mut self.v2 else {
            return Err(CgroupError::NoHierarchy(format!("no v2 tree is mounted, so there is no {path} in it")));
        };
        v2.own = v2.mount.join(path.trim_start_matches('/'));
        let file = v2.own.join("cgroup.controllers");
        let offered = fs::read_to_string(&file).map_err(CgroupError::file("read", &file))?;
        v2.controllers = offered.split_whitespace().filter_map(Controller::from_v2).collect();
        Ok(self)
    }

    /// Whether a v2 tree is mounted.
    #[must_use]
    pub const fn has_v2(&self) -> bool {
        self.v2.is_some()
    }

    /// From the text of /proc/self/mountinfo and /proc/self/cgroup. The v2 tree's controllers are left empty.
    fn parse(mountinfo: &str, membership: &str) -> Self {
        let mut layout = Self { v1: Vec::new(), v2: None };
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            let member = membership.lines().filter_map(Member::parse).find(|it| it.is_of(&mount));
            let Some(own) = member.and_then(|it| mount.folder(it.path)) else { continue };
            let mut hierarchy = Hierarchy { mount: mount.point.clone(), own, controllers: BTreeSet::new() };
            if mount.v2 {
                if hierarchy.own.ends_with(OWN_LEAF) {
                    hierarchy.own.pop();
                }
                layout.v2.get_or_insert(hierarchy);
                continue;
            }
            hierarchy.controllers = mount.options.iter().filter_map(|it| Controller::from_v1(it)).collect();
            let known = |it: &Hierarchy| !it.controllers.is_disjoint(&hierarchy.controllers);
            if !hierarchy.controllers.is_empty() && !layout.v1.iter().any(known) {
                layout.v1.push(hierarchy);
            }
        }
        layout
    }
}

impl Hierarchy {
    pub fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }
}

/// A line of mountinfo that mounts a cgroup hierarchy.
struct Mount<'a> {
    /// Which group is seen at the mount point.
    root: PathBuf,
    point: PathBuf,
    v2: bool,
    options: Vec<&'a str>,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let v2 = match after.next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        let options = after.nth(1)?.split(',').collect();
        Some(Self { root: unescape(root), point: unescape(point), v2, options })
    }

    /// The folder of the group `path`; none if the mount does not show it.
    fn folder(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        Some(if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) })
    }
}

/// A line of /proc/PID/cgroup.
pub(super) struct Member<'a> {
    id: &'a str,
    controllers: &'a str,
    pub path: &'a str,
}

impl<'a> Member<'a> {
    pub fn parse(line: &'a str) -> Option<Self> {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some(Self { id, controllers, path })
    }

    fn is_of(&self, mount: &Mount<'_>) -> bool {
        if mount.v2 { self.is_v2() } else { self.controllers.split(',').any(|it| mount.options.contains(&it)) }
    }

    pub fn is_v2(&self) -> bool {
        self.id == "0" && self.controllers.is_empty()
    }

    /// Whether it is a v1 hierarchy with one of these controllers.
    pub fn has_any_of(&self, controllers: &BTreeSet<Controller>) -> bool {
        self.controllers.split(',').filter_map(Controller::from_v1).any(|it| controllers.contains(&it))
    }
}

/// mountinfo writes space, tab, newline and backslash as `\ooo`.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;

    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let value = octal.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 8).ok());
        plain.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(plain).into()
}

fn uses_bfq(block: &Path) -> bool {
    let disks = fs::read_dir(block).into_iter().flatten().flatten();
    disks
        .map(|it| it.path().join("queue/scheduler"))
        .any(|it| fs::read_to_string(it).is_ok_and(|s| s.contains("[bfq]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_v1_hierarchy_per_controller_beside_an_empty_v2_tree() {
        let mounts = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let own = "9:name=systemd:/\n5:devices:/\n4:memory:/a/b\n2:cpuacct:/\n1:cpu:/x\n0::/y\n";
        let layout = Layout::parse(mounts, own);
        let found: Vec<_> = layout.v1.iter().map(|it| (it.own.to_str().unwrap(), it.controllers.len())).collect();
        let folders = ["/sys/fs/cgroup/cpu/x", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory/a/b"];
        assert_eq!(found, folders.map(|it| (it, 1)));
        assert_eq!(layout.v2.unwrap().own, Path::new("/sys/fs/cgroup/unified/y"));
    }

    #[test]
    fn controllers_mounted_together_are_one_hierarchy() {
        let mounts = "40 31 0:3 / /cg/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      41 31 0:3 / /other rw - cgroup cgroup rw,cpu,cpuacct\n";
        let layout = Layout::parse(mounts, "3:cpu,cpuacct:/u\n");
        assert_eq!(layout.v1.len(), 1, "the second mount of a hierarchy is the same hierarchy");
        assert_eq!(layout.v1[0].controllers, BTreeSet::from([Controller::Cpu, Controller::CpuAccounting]));
        assert_eq!(layout.v1[0].own, Path::new("/cg/cpu,cpuacct/u"));
        assert_eq!(layout.v2, None);
    }

    #[test]
    fn v2_alone_with_a_root_of_its_own_and_a_leaf_of_the_supervisors() {
        let mounts = "30 23 0:26 /docker/x /sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let layout = Layout::parse(mounts, "0::/docker/x/unit/mortise-supervisor\n");
        assert_eq!(layout.v1, []);
        assert_eq!(layout.v2.unwrap().own, Path::new("/sys/fs/cg roup/unit"));
    }

    #[test]
    fn a_group_that_no_mount_shows_is_no_hierarchy() {
        let mounts = "30 23 0:26 /docker/x /cg rw - cgroup cgroup rw,memory\n";
        assert_eq!(Layout::parse(mounts, "4:memory:/elsewhere\n").v1, []);
        assert_eq!(Layout::parse("nonsense\n1 2 3\n - cgroup", "x\n1:2").v1, []);
    }
}
