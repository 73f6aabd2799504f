//! The limits of a module's workers that an operator says instead of its module.toml.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits of each worker of a module, whichever version it is. None: as the version's module.toml says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModuleLimits {
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Bytes of memory above which a worker is slowed down, and the kernel takes back what it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high_bytes: Option<u64>,
    /// Bytes of swap beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_milli: Option<u32>,
    /// Share of busy processors; 100 is everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Share of a busy disk; 100 is everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
}

/// The name of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleLimit {
    /// `memory_bytes`.
    Memory,
    /// `memory_high_bytes`.
    MemoryHigh,
    /// `swap_bytes`.
    Swap,
    /// `cpu_milli`.
    Cpu,
    /// `cpu_weight`.
    CpuWeight,
    /// `pids`.
    Pids,
    /// `io_weight`.
    IoWeight,
}

impl ModuleLimits {
    /// These, with what `over` says instead, and without those of `lifted`.
    #[must_use]
    pub fn changed(self, over: &Self, lifted: impl IntoIterator<Item = ModuleLimit>) -> Self {
        let mut limits = Self {
            memory_bytes: over.memory_bytes.or(self.memory_bytes),
            memory_high_bytes: over.memory_high_bytes.or(self.memory_high_bytes),
            swap_bytes: over.swap_bytes.or(self.swap_bytes),
            cpu_milli: over.cpu_milli.or(self.cpu_milli),
            cpu_weight: over.cpu_weight.or(self.cpu_weight),
            pids: over.pids.or(self.pids),
            io_weight: over.io_weight.or(self.io_weight),
        };
        for limit in lifted {
            limits.set(limit, None);
        }
        limits
    }

    /// Says another value of one limit, in its unit; at most the largest number that it can be.
    pub fn set(&mut self, limit: ModuleLimit, value: Option<u64>) {
        let number = value.map(|it| u32::try_from(it).unwrap_or(u32::MAX));
        match limit {
            ModuleLimit::Memory => self.memory_bytes = value,
            ModuleLimit::MemoryHigh => self.memory_high_bytes = value,
            ModuleLimit::Swap => self.swap_bytes = value,
            ModuleLimit::Cpu => self.cpu_milli = number,
            ModuleLimit::CpuWeight => self.cpu_weight = number,
            ModuleLimit::Pids => self.pids = number,
            ModuleLimit::IoWeight => self.io_weight = number,
        }
    }

    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
