//! One leaf.

use std::time::Duration;

use super::{CgroupError, Limits, RemoveError};

/// A leaf group: one folder in every hierarchy. A handle; dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Group {}

/// What the kernel measures of a group. None: this host does not measure it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes charged to it.
    pub memory_bytes: Option<u64>,
    /// CPU time since it was made, in microseconds.
    pub cpu_usec: Option<u64>,
    /// Processes and threads in it.
    pub pids: Option<u64>,
    /// How often the kernel killed one of its processes for memory.
    pub oom_kills: Option<u64>,
}

impl Group {
    /// The leaf's name.
    #[must_use]
    pub fn name(&self) -> &str {
        unimplemented!()
    }

    /// Changes its limits, live. Those that are None stay as they are.
    ///
    /// # Errors
    /// [`CgroupError::Limit`] names the one that the kernel refused.
    pub fn set_limits(&self, limits: &Limits) -> Result<(), CgroupError> {
        let _ = limits;
        unimplemented!()
    }

    /// Reads its figures: a handful of small files.
    #[must_use]
    pub fn figures(&self) -> Figures {
        unimplemented!()
    }

    /// Whether the process is in it, in every hierarchy in which it has a folder.
    #[must_use]
    pub fn contains(&self, pid: u32) -> bool {
        let _ = pid;
        unimplemented!()
    }

    /// Stops all its processes.
    ///
    /// # Errors
    /// [`CgroupError`]
    pub fn freeze(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Resumes them.
    ///
    /// # Errors
    /// [`CgroupError`]
    pub fn thaw(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Kills all its processes, frozen ones too, and none escapes by forking. Returns without waiting for their end.
    ///
    /// # Errors
    /// [`CgroupError`]
    pub fn kill(&self) -> Result<(), CgroupError> {
        unimplemented!()
    }

    /// Waits until the last process has ended and removes its folders; how many there were.
    ///
    /// # Errors
    /// [`RemoveError::Busy`] when there are processes left after `within`.
    pub fn remove(&self, within: Duration) -> Result<u32, RemoveError> {
        let _ = within;
        unimplemented!()
    }
}
