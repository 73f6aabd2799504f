//! Which hierarchies there are.
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

/// The hierarchies of this host and where this process is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {}

impl Layout {
    /// Reads /proc/self/mountinfo and /proc/self/cgroup.
    ///
    /// # Errors
    /// [`CgroupError::NoHierarchy`] when none is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        unimplemented!()
    }

    /// Whether a hierarchy offers this.
    #[must_use]
    pub fn offers(&self, controller: Controller) -> bool {
        let _ = controller;
        unimplemented!()
    }
}
