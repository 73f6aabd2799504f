//! The group of a tenant: `mortise-HASH/t-TENANT`, above the groups of its workers and resources. It is there as long as one of
//! these is, and what it may use is written before the first of them is made.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::groups::{Groups, Parents, enable_below, make_folder, subfolders};
use super::limits::{self, Version};
use super::{CgroupError, Quota};

/// What the name of a tenant's folder begins with. Leaves begin otherwise.
const PREFIX: &str = "t-";

/// What each tenant may use; those that are not in it may use what there is.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<BTreeMap<String, Quota>>);

impl Quotas {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Quota>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    /// From now on a group that is made for this tenant has this quota. Touches no file: [`Self::enforce_quota`] does.
    pub fn set_quota(&self, tenant: &str, quota: Quota) {
        if quota == Quota::default() {
            self.quotas.locked().remove(tenant);
        } else {
            self.quotas.locked().insert(tenant.to_owned(), quota);
        }
    }

    /// Writes the tenant's quota into its group, if that is there. Blocks: the kernel may take memory back first.
    ///
    /// # Errors
    /// The first [`CgroupError`], such as when v1 cannot bring its memory under the quota; everything else of it holds. That holds when
    /// this is asked for again and can be, and for whatever is made after its group has gone.
    pub fn enforce_quota(&self, tenant: &str) -> Result<(), CgroupError> {
        loop {
            let quota = self.quotas.locked().get(tenant).copied().unwrap_or_default();
            let mut result = Ok(());
            for (parents, version) in self.versions() {
                for folder in parents.all().map(|it| folder(it, tenant)).filter(|it| it.is_dir()) {
                    result = result.and(write(parents, version, &folder, &quota));
                }
            }
            // Not under the lock, which every start of a worker takes: somebody may have said otherwise meanwhile.
            if self.quotas.locked().get(tenant).copied().unwrap_or_default() == quota {
                return result;
            }
        }
    }

    /// Makes the tenant's folder in one hierarchy, with its quota.
    pub(super) fn make_tenant(
        &self,
        parents: &Parents,
        version: Version,
        tenant: &str,
    ) -> Result<PathBuf, CgroupError> {
        let folder = folder(&parents.own, tenant);
        // Who finds the folder finds its quota: nobody goes past this while another writes it.
        let quotas = self.quotas.locked();
        if folder.is_dir() {
            return Ok(folder);
        }
        make_folder(&folder)?;
        let quota = quotas.get(tenant).copied().unwrap_or_default();
        let made = match version {
            Version::V1 => Ok(()),
            Version::V2 => enable_below(&parents.hierarchy, &folder),
        };
        made.and_then(|()| write(parents, version, &folder, &quota)).inspect_err(|_| {
            let _ = fs::remove_dir(&folder);
        })?;
        Ok(folder)
    }
}

/// What one controller refuses keeps no other from its own.
fn write(parents: &Parents, version: Version, folder: &Path, quota: &Quota) -> Result<(), CgroupError> {
    let mut result = Ok(());
    for controller in &parents.hierarchy.controllers {
        result = result.and(match limits::write_quota(folder, version, *controller, quota) {
            // It went with the last of its leaves.
            Err(CgroupError::File { source, .. }) if source.kind() == ErrorKind::NotFound && !folder.is_dir() => Ok(()),
            other => other,
        });
    }
    result
}

fn folder(parent: &Path, tenant: &str) -> PathBuf {
    parent.join(format!("{PREFIX}{tenant}"))
}

/// The folders of tenants in a parent's.
pub(super) fn folders_in(parent: &Path) -> impl Iterator<Item = PathBuf> {
    subfolders(parent).into_iter().filter(|it| is_tenants(it))
}

pub(super) fn is_tenants(folder: &Path) -> bool {
    folder.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with(PREFIX))
}

/// Removes the folder of a tenant if this leaf was the last in it.
pub(super) fn remove_with_last(leaf: &Path) {
    if let Some(folder) = leaf.parent().filter(|it| is_tenants(it)) {
        // Busy: there are others.
        let _ = fs::remove_dir(folder);
    }
}
