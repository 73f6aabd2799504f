//! What the processes of a group may use together.

use crate::manifest;

/// Limits of one group. None: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of swap beside it.
    pub swap_bytes: Option<u64>,
    /// Cores; 0.5 is half of one.
    pub cpu_cores: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Share of a busy disk, 1 to 10000; 100 is everybody's.
    pub io_weight: Option<u32>,
}

impl From<&manifest::Limits> for Limits {
    fn from(limits: &manifest::Limits) -> Self {
        Self {
            memory_bytes: Some(limits.memory),
            swap_bytes: Some(limits.swap),
            cpu_cores: Some(limits.cpu),
            pids: Some(limits.pids),
            io_weight: Some(limits.io_weight),
        }
    }
}
