//! The parent group and its leaves.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use sha2::{Digest, Sha256};

use super::group::Folder;
use super::layout::Hierarchy;
use super::limits::Version;
use super::tenants::{self, Quotas};
use super::{CgroupError, Controller, Group, Layout, Limits, RemoveError, own_leaf};
use crate::failpoint::{self, Point};

/// How long a sweep waits for the processes of one group to end after they were killed.
const SWEEP_WITHIN: Duration = Duration::from_secs(5);
/// How many folders of a hierarchy are looked through for parents of an earlier life.
const SEARCH_MOST: usize = 20_000;
/// How often the folder of a tenant may go with the last of its leaves while another is being made in it.
const TRIES: usize = 16;

/// The supervisor's groups: one parent per hierarchy, `mortise-HASH` below the supervisor's own.
#[derive(Debug)]
pub struct Groups {
    layout: Layout,
    v1: Vec<Parents>,
    v2: Option<Parents>,
    /// Controllers that are mounted and not to be had, and why.
    unusable: Vec<(BTreeSet<Controller>, String)>,
    pub(super) quotas: Quotas,
}

/// The parent groups in one hierarchy.
#[derive(Debug)]
pub(super) struct Parents {
    pub(super) hierarchy: Hierarchy,
    /// Where new leaves are made.
    pub(super) own: PathBuf,
    /// Made by an earlier supervisor that was itself elsewhere: a login shell has another group every time.
    earlier: Vec<PathBuf>,
}

/// What groups are opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Use,
    Look,
}

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Groups that were removed.
    pub removed: u32,
    /// Groups that could not be removed, each with the reason.
    pub left: Vec<(String, String)>,
}

impl Groups {
    /// Makes the parent groups (finding those of an earlier supervisor on the same state directory, which name them), and on v2 lets
    /// them have controllers, moving this process into a leaf of its own if that is what it takes.
    ///
    /// A hierarchy in which this process may not make groups is left out, and [`Self::offers`] says why: without root and without
    /// a delegated group that may be all of them.
    ///
    /// # Errors
    /// [`CgroupError`] when the kernel refuses for another reason than a missing right.
    pub fn open(layout: Layout, state: &Path) -> Result<Self, CgroupError> {
        Self::make(layout, &parent_name(state), Purpose::Use)
    }

    /// No hierarchy, no group.
    pub(crate) fn none() -> Self {
        Self { layout: Layout::NONE, v1: Vec::new(), v2: None, unusable: Vec::new(), quotas: Quotas::default() }
    }

    /// Only to see what could be done: no process is moved, and [`Self::close`] removes what was made.
    pub(crate) fn open_to_look(layout: Layout) -> Result<Self, CgroupError> {
        Self::make(layout, &format!("mortise-look-{}", std::process::id()), Purpose::Look)
    }

    fn make(layout: Layout, name: &str, purpose: Purpose) -> Result<Self, CgroupError> {
        let mut groups = Self { layout, v1: Vec::new(), v2: None, unusable: Vec::new(), quotas: Quotas::default() };
        for hierarchy in groups.layout.v1.clone() {
            let parents = groups.parents_in(&hierarchy, name)?;
            groups.v1.extend(parents);
        }
        if let Some(hierarchy) = groups.layout.v2.clone() {
            groups.v2 = groups.parents_in(&hierarchy, name)?;
        }
        if let Some(v2) = &mut groups.v2
            && let Err(error) = delegate(&v2.hierarchy, &v2.own, purpose)
        {
            // Groups can be made, but not with controllers: still good for freeze and kill.
            let lost = std::mem::take(&mut v2.hierarchy.controllers);
            groups.unusable.push((lost, error.to_string()));
        }
        Ok(groups)
    }

    /// The parents in one hierarchy; none, and noted why, if they may not be made.
    fn parents_in(&mut self, hierarchy: &Hierarchy, name: &str) -> Result<Option<Parents>, CgroupError> {
        let own = hierarchy.own.join(name);
        match make_folder(&own) {
            Ok(()) => {}
            Err(CgroupError::File { what, path, source })
                if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                self.unusable.push((hierarchy.controllers.clone(), format!("{what} {path:?}: {source}")));
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let mut earlier = Vec::new();
        search(&hierarchy.mount, name, &mut earlier, &mut 0);
        earlier.retain(|it| *it != own);
        Ok(Some(Parents { hierarchy: hierarchy.clone(), own, earlier }))
    }

    /// Whether groups get this controller.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn offers(&self, controller: Controller) -> Result<(), String> {
        if self.parents().any(|it| it.hierarchy.has(controller)) {
            return Ok(());
        }
        let why = self.unusable.iter().find(|(it, _)| it.contains(&controller)).map(|(_, why)| why.clone());
        Err(why.unwrap_or_else(|| format!("no mounted cgroup hierarchy offers {controller:?}")))
    }

    /// Whether groups get one of these files: `(v1, v2)`; an empty name is no file.
    pub(crate) fn has_file(&self, v1: &str, v2: &str) -> bool {
        // What our own group has, its children can have.
        let folders = |it: &'_ Parents| [it.own.clone(), it.hierarchy.own.clone()];
        let there = |it: &Parents, file: &str| !file.is_empty() && folders(it).iter().any(|it| it.join(file).exists());
        self.v1.iter().any(|it| there(it, v1)) || self.v2.iter().any(|it| there(it, v2))
    }

    /// Whether there is no hierarchy in which groups can be made.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.v1.is_empty() && self.v2.is_none()
    }

    /// What is mounted.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Makes the leaf `name` in every hierarchy and writes its limits. One that is there already is taken over.
    ///
    /// # Errors
    /// [`CgroupError`]; what was made is removed again.
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Group, CgroupError> {
        self.create_in(None, name, limits)
    }

    /// The same, below the group of a tenant, whose quota holds for all that is in it.
    ///
    /// # Errors
    /// [`CgroupError`]; what was made is removed again.
    pub fn create_for(&self, tenant: &str, name: &str, limits: &Limits) -> Result<Group, CgroupError> {
        self.create_in(Some(checked(tenant)?), name, limits)
    }

    fn create_in(&self, tenant: Option<&str>, name: &str, limits: &Limits) -> Result<Group, CgroupError> {
        let mut group = Group { name: checked(name)?.into(), v1: Vec::new(), v2: None };
        let made = self.versions().try_for_each(|(parents, version)| {
            let folder = self.make_leaf(parents, version, tenant, name)?;
            match version {
                Version::V1 => group.v1.push(folder),
                Version::V2 => group.v2 = Some(folder),
            }
            Ok(())
        });
        let fault = |()| failpoint::reach(Point::Group).map_err(CgroupError::file("make", Path::new(name)));
        let made = made.and_then(fault).and_then(|()| group.set_limits(limits));
        if let Err(error) = made {
            let _ = group.remove(Duration::ZERO);
            return Err(error);
        }
        Ok(group)
    }

    fn make_leaf(
        &self,
        parents: &Parents,
        version: Version,
        tenant: Option<&str>,
        name: &str,
    ) -> Result<Folder, CgroupError> {
        let controllers = parents.hierarchy.controllers.clone();
        let Some(tenant) = tenant else {
            let path = parents.own.join(name);
            return make_folder(&path).map(|()| Folder { path, controllers });
        };
        let mut tries = 0;
        loop {
            let path = self.make_tenant(parents, version, tenant)?.join(name);
            match make_folder(&path) {
                Err(CgroupError::File { source, .. }) if source.kind() == ErrorKind::NotFound && tries < TRIES => {
                    tries += 1;
                }
                made => return made.map(|()| Folder { path, controllers }),
            }
        }
    }

    /// The leaf `name`, if it is in any hierarchy.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Group> {
        let name = checked(name).ok()?;
        let folder = |it: &Parents| {
            let path = it.all().find_map(|parent| leaf_in(parent, name))?;
            Some(Folder { path, controllers: it.hierarchy.controllers.clone() })
        };
        let v1: Vec<_> = self.v1.iter().filter_map(folder).collect();
        let v2 = self.v2.as_ref().and_then(folder);
        (!v1.is_empty() || v2.is_some()).then(|| Group { name: name.into(), v1, v2 })
    }

    /// The names of all leaves, also those of an earlier life.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let folders = self.parents().flat_map(Parents::all).flat_map(subfolders);
        let leaves = folders.flat_map(|it| if tenants::is_tenants(&it) { subfolders(&it) } else { vec![it] });
        leaves.filter_map(|it| Some(it.file_name()?.to_str()?.to_owned())).collect()
    }

    /// Kills and removes every leaf whose name `keep` does not want. Blocks until their processes have ended, or some seconds.
    pub fn sweep(&self, keep: impl Fn(&str) -> bool) -> Swept {
        let doomed: Vec<_> = self.names().into_iter().filter(|it| !keep(it)).filter_map(|it| self.find(&it)).collect();
        let mut swept = Swept::default();
        // All are killed before the first is waited for.
        let killed: Vec<_> = doomed.iter().map(|it| (it, it.kill())).collect();
        for (group, killed) in killed {
            match killed.map_err(RemoveError::from).and_then(|()| group.remove(SWEEP_WITHIN)) {
                Ok(_) => swept.removed += 1,
                Err(why) => swept.left.push((group.name().to_owned(), why.to_string())),
            }
        }
        swept
    }

    /// Removes the parent groups, which must be empty, and the leaf that this process was moved into: the supervisor stops in order.
    ///
    /// # Errors
    /// [`CgroupError`] when a leaf is left.
    pub fn close(&self) -> Result<(), CgroupError> {
        for path in self.parents().flat_map(Parents::all) {
            for empty in tenants::folders_in(path) {
                let _ = fs::remove_dir(empty);
            }
            match fs::remove_dir(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(CgroupError::file("remove", path)(e)),
                Ok(()) | Err(_) => {}
            }
        }
        self.v2.as_ref().map_or(Ok(()), |it| own_leaf::leave(&it.hierarchy.own))
    }

    #[cfg(test)]
    pub(crate) fn has_parent(&self) -> bool {
        self.parents().any(|it| it.own.exists())
    }

    fn parents(&self) -> impl Iterator<Item = &Parents> {
        self.v1.iter().chain(&self.v2)
    }

    pub(super) fn versions(&self) -> impl Iterator<Item = (&Parents, Version)> {
        let v1 = self.v1.iter().map(|it| (it, Version::V1));
        v1.chain(self.v2.iter().map(|it| (it, Version::V2)))
    }
}

impl Parents {
    pub(super) fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.own).chain(&self.earlier).map(PathBuf::as_path)
    }
}

/// The name under which a successor on the same state directory finds the groups.
fn parent_name(state: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;

    let path = fs::canonicalize(state).unwrap_or_else(|_| state.into());
    let hash = Sha256::digest(path.as_os_str().as_bytes());
    hash.iter().take(6).fold("mortise-".into(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// A name that stays one folder.
fn checked(name: &str) -> Result<&str, CgroupError> {
    let allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-' || it == b'.';
    if name.starts_with(|it: char| it.is_ascii_lowercase()) && name.len() <= 200 && name.bytes().all(allowed) {
        return Ok(name);
    }
    Err(CgroupError::Odd { path: name.into(), found: "not a group's name: a-z, 0-9, '-' and '.'".into() })
}

pub(super) fn make_folder(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(CgroupError::file("make", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn subfolders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()).collect()
}

/// The leaf in a parent's folder, or in that of a tenant there.
fn leaf_in(parent: &Path, name: &str) -> Option<PathBuf> {
    let plain = parent.join(name);
    if plain.is_dir() {
        return Some(plain);
    }
    tenants::folders_in(parent).map(|it| it.join(name)).find(|it| it.is_dir())
}

/// Collects the folders called `name`, as far as the hierarchy shows them.
fn search(at: &Path, name: &str, found: &mut Vec<PathBuf>, seen: &mut usize) {
    for folder in subfolders(at) {
        *seen += 1;
        if *seen > SEARCH_MOST {
            return;
        }
        if folder.ends_with(name) {
            found.push(folder);
        } else {
            search(&folder, name, found, seen);
        }
    }
}

/// Lets the groups below `parent` have what the hierarchy offers.
fn delegate(hierarchy: &Hierarchy, parent: &Path, purpose: Purpose) -> Result<(), CgroupError> {
    if purpose == Purpose::Look {
        let file = hierarchy.own.join("cgroup.subtree_control");
        if controllers(hierarchy).is_empty() {
            return Ok(());
        }
        let writable = access(&file, AccessFlags::W_OK).map_err(std::io::Error::from);
        return writable.map_err(CgroupError::file("write", &file));
    }
    match enable_below(hierarchy, &hierarchy.own) {
        Err(CgroupError::File { source, .. }) if source.kind() == ErrorKind::ResourceBusy => {
            own_leaf::enter(&hierarchy.own)?;
            enable_below(hierarchy, &hierarchy.own)?;
        }
        other => other?,
    }
    enable_below(hierarchy, parent)
}

/// Lets the groups in a v2 folder have what the hierarchy offers.
pub(super) fn enable_below(hierarchy: &Hierarchy, folder: &Path) -> Result<(), CgroupError> {
    let wanted = controllers(hierarchy);
    if wanted.is_empty() {
        return Ok(());
    }
    let file = folder.join("cgroup.subtree_control");
    fs::write(&file, &wanted).map_err(CgroupError::file("write", &file))
}

/// As `cgroup.subtree_control` takes them.
fn controllers(hierarchy: &Hierarchy) -> String {
    let names = hierarchy.controllers.iter().filter_map(|it| it.v2_name()).map(|it| format!("+{it}"));
    names.collect::<Vec<_>>().join(" ")
}
