//! The parent group and its leaves.

use std::path::Path;

use super::{CgroupError, Group, Layout, Limits};

/// The supervisor's groups: one parent per hierarchy, `mortise-HASH` below the supervisor's own.
#[derive(Debug)]
pub struct Groups {
    layout: Layout,
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
    /// # Errors
    /// [`CgroupError`] when this process may not make groups.
    pub fn open(layout: Layout, state: &Path) -> Result<Self, CgroupError> {
        let _ = state;
        Ok(Self { layout })
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
        let _ = (name, limits);
        unimplemented!()
    }

    /// The leaf `name`, if it is in any hierarchy.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Group> {
        let _ = name;
        unimplemented!()
    }

    /// The names of all leaves, also those of an earlier life.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        unimplemented!()
    }

    /// Kills and removes every leaf whose name `keep` does not want. Blocks until their processes have ended, or some seconds.
    pub fn sweep(&self, keep: impl Fn(&str) -> bool) -> Swept {
        let _ = keep;
        unimplemented!()
    }

    /// Removes the parent groups, which must be empty: the supervisor stops in order.
    ///
    /// # Errors
    /// [`CgroupError`] when a leaf is left.
    pub fn close(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }
}
