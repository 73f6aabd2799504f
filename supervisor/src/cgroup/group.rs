//! One leaf.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::layout::Member;
use super::limits::{self, Version};
use super::{CgroupError, Controller, Figures, Limits, Pressure, RemoveError, groups, kill, tenants};

/// A leaf group: one folder in every hierarchy. A handle; dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) name: String,
    pub(super) v1: Vec<Folder>,
    pub(super) v2: Option<Folder>,
}

/// The folder of a group in one hierarchy.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub path: PathBuf,
    pub controllers: BTreeSet<Controller>,
}

impl Group {
    /// A leaf in no hierarchy: every process that there is is in it.
    #[cfg(test)]
    pub(crate) fn in_no_hierarchy() -> Self {
        Self { name: "test".into(), v1: Vec::new(), v2: None }
    }

    /// The leaf's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes its limits, live. Those that are None stay as they are.
    ///
    /// # Errors
    /// [`CgroupError::Limit`] names the one that the kernel refused.
    pub fn set_limits(&self, limits: &Limits) -> Result<(), CgroupError> {
        self.controllers().try_for_each(|(path, version, controller)| limits::write(path, version, controller, limits))
    }

    /// Reads its figures: a handful of small files.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        self.controllers().for_each(|(path, version, controller)| figures.read(path, version, controller));
        figures
    }

    /// How long it has waited; none: this host does not measure it.
    #[must_use]
    pub fn pressure(&self) -> Option<Pressure> {
        self.v2.as_ref().and_then(|it| Pressure::of(&it.path))
    }

    /// Whether the process is in it, in every hierarchy in which it has a folder.
    #[must_use]
    pub fn contains(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        let members: Vec<_> = text.lines().filter_map(Member::parse).collect();
        let in_folder = |folder: &Folder, member: Option<&Member<'_>>| {
            // The parent's name has the hash of the state directory in it: with it the rest is enough to know the group.
            member.is_some_and(|it| Path::new(it.path).ends_with(tail(&folder.path)))
        };
        let v1 = |folder: &Folder| in_folder(folder, members.iter().find(|it| it.has_any_of(&folder.controllers)));
        let v2 = |folder: &Folder| in_folder(folder, members.iter().find(|it| it.is_v2()));
        self.v1.iter().all(v1) && self.v2.iter().all(v2)
    }

    /// Stops all its processes.
    ///
    /// # Errors
    /// [`CgroupError`]
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.write_freezer("1", "FROZEN")
    }

    /// Resumes them.
    ///
    /// # Errors
    /// [`CgroupError`]
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.write_freezer("0", "THAWED")
    }

    /// Kills all its processes, frozen ones too, and none escapes by forking. Returns without waiting for their end. On a host
    /// without `cgroup.kill` nothing can be started in it afterwards.
    ///
    /// # Errors
    /// [`CgroupError`]
    pub fn kill(&self) -> Result<(), CgroupError> {
        kill::kill(self)
    }

    /// Waits until the last process has ended and removes its folders; how many there were.
    ///
    /// # Errors
    /// [`RemoveError::Busy`] when there are processes left after `within`, [`RemoveError::Below`] when it has groups of its own.
    pub fn remove(&self, within: Duration) -> Result<u32, RemoveError> {
        let deadline = Instant::now() + within;
        kill::wait_empty(self, within).map_err(|processes| RemoveError::Busy { processes })?;
        let mut removed = 0;
        for folder in self.folders() {
            removed += u32::from(self.remove_folder(&folder.path, deadline)?);
        }
        Ok(removed)
    }

    /// Whether the folder was there.
    fn remove_folder(&self, path: &Path, deadline: Instant) -> Result<bool, RemoveError> {
        loop {
            match fs::remove_dir(path) {
                Ok(()) => {
                    tenants::remove_with_last(path);
                    return Ok(true);
                }
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
                Err(e) if e.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    // A process that has ended leaves its group a few microseconds after it has told so.
                    std::thread::yield_now();
                }
                Err(e) if e.kind() == ErrorKind::ResourceBusy => {
                    let below = groups::subfolders(path);
                    let mut names: Vec<_> = below.iter().filter_map(|it| it.file_name()?.to_str()).collect();
                    if !names.is_empty() {
                        names.sort_unstable();
                        return Err(RemoveError::Below { path: path.into(), names: names.join(", ") });
                    }
                    let processes = u32::try_from(self.processes().len()).unwrap_or(u32::MAX);
                    return Err(RemoveError::Busy { processes });
                }
                Err(source) => return Err(CgroupError::File { what: "remove", path: path.into(), source }.into()),
            }
        }
    }

    /// The files into which a process writes `0` to join, v1 only: a v2 group is joined at birth.
    pub(crate) fn v1_tasks(&self) -> impl Iterator<Item = PathBuf> {
        self.v1.iter().map(|it| it.path.join("tasks"))
    }

    /// The folder in the v2 tree.
    pub(crate) fn v2_folder(&self) -> Option<&Path> {
        self.v2.as_ref().map(|it| it.path.as_path())
    }

    /// The pids of its processes, as this process sees them.
    pub(super) fn processes(&self) -> BTreeSet<u32> {
        let listed = |it: &Folder| fs::read_to_string(it.path.join("cgroup.procs")).unwrap_or_default();
        let text: String = self.folders().map(listed).collect();
        text.lines().filter_map(|it| it.parse().ok()).collect()
    }

    pub(super) fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.v1.iter().chain(&self.v2)
    }

    pub(super) fn folders_with(&self, controller: Controller) -> impl Iterator<Item = &Path> {
        self.folders().filter(move |it| it.controllers.contains(&controller)).map(|it| it.path.as_path())
    }

    fn controllers(&self) -> impl Iterator<Item = (&Path, Version, Controller)> {
        fn of(it: &Folder, version: Version) -> impl Iterator<Item = (&Path, Version, Controller)> {
            it.controllers.iter().map(move |controller| (it.path.as_path(), version, *controller))
        }
        let v2 = self.v2.iter().flat_map(|it| of(it, Version::V2));
        self.v1.iter().flat_map(|it| of(it, Version::V1)).chain(v2)
    }

    fn write_freezer(&self, v2: &str, v1: &str) -> Result<(), CgroupError> {
        let file = match &self.v2 {
            Some(folder) => Some((folder.path.join("cgroup.freeze"), v2)),
            None => self.folders_with(Controller::Freezer).next().map(|it| (it.join("freezer.state"), v1)),
        };
        let Some((file, state)) = file else {
            return Err(CgroupError::NoHierarchy("neither a v2 tree nor a v1 freezer is mounted".into()));
        };
        fs::write(&file, state).map_err(CgroupError::file("write", &file))
    }
}

/// `parent/leaf` or `parent/tenant/leaf` of a group's folder.
fn tail(path: &Path) -> &Path {
    let parent = path.parent().map(|it| if tenants::is_tenants(it) { it.parent().unwrap_or(it) } else { it });
    let above = parent.and_then(Path::parent);
    above.and_then(|it| path.strip_prefix(it).ok()).unwrap_or(path)
}
