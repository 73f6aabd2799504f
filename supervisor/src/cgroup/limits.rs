//! What the processes of a group may use together, and how it is written.
//!
//! `cgroups-rs` knows the files of each controller on v1 and v2; its controllers take the exact folder of a group, so they serve for
//! groups below our own. Its `Cgroup` does not: it joins every mounted hierarchy (also those that Mortise does not use, at 120 µs
//! each), looks for v2 only at /sys/fs/cgroup, and cannot be told what our own group is. So folders, joining, freezing and
//! killing are ours.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{MaxValue, error::Error};

use super::{CgroupError, Controller};
use crate::manifest;

/// Limits of one group. None: no limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory above which it is slowed down. None: none, also where there was one.
    pub memory_high_bytes: Option<u64>,
    /// Bytes of swap beside it.
    pub swap_bytes: Option<u64>,
    /// Cores; 0.5 is half of one.
    pub cpu_cores: Option<f64>,
    /// Share of busy processors, 1 to 10000; 100 is everybody's.
    pub cpu_weight: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Share of a busy disk, 1 to 10000; 100 is everybody's.
    pub io_weight: Option<u32>,
}

impl From<&manifest::Limits> for Limits {
    fn from(limits: &manifest::Limits) -> Self {
        Self {
            memory_bytes: Some(limits.memory),
            memory_high_bytes: limits.memory_high,
            swap_bytes: Some(limits.swap),
            cpu_cores: Some(limits.cpu),
            cpu_weight: Some(limits.cpu_weight),
            pids: Some(limits.pids),
            io_weight: Some(limits.io_weight),
        }
    }
}

/// What all groups of a tenant may use together. None: whatever there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of memory, swap among them.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_milli: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// Which generation of cgroups a folder belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// The period of CPU quotas, in microseconds: the kernel's default.
const PERIOD_USEC: u64 = 100_000;
/// The kernel takes no smaller quota.
const LEAST_QUOTA_USEC: i64 = 1_000;

/// Writes the limits of one controller of one group.
pub(super) fn write(
    folder: &Path,
    version: Version,
    controller: Controller,
    limits: &Limits,
) -> Result<(), CgroupError> {
    match controller {
        Controller::Memory => memory(folder, version, limits),
        Controller::Cpu => cpu(folder, version, limits),
        Controller::Pids => pids(folder, version, limits),
        Controller::Io => io(folder, version, limits),
        Controller::CpuAccounting | Controller::Freezer => Ok(()),
    }
}

fn memory(folder: &Path, version: Version, limits: &Limits) -> Result<(), CgroupError> {
    let controller = MemController::new(folder.into(), PathBuf::new(), version == Version::V2);
    let refused = |what, value: i64| move |error| refused(folder, what, value.to_string(), &error);
    let swap_file = folder.join(if version == Version::V2 { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" });
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let memory = limits.memory_bytes.map(signed);
    // v1 limits memory and swap together, v2 swap alone. A kernel without swap accounting has no file for it.
    let swap = match version {
        Version::V1 => limits.memory_bytes.map(|it| signed(it.saturating_add(limits.swap_bytes.unwrap_or(0)))),
        Version::V2 => limits.swap_bytes.map(signed),
    };
    let swap = swap.filter(|_| swap_file.exists());
    let set_memory = || memory.map_or(Ok(()), |it| controller.set_limit(it).map_err(refused("memory", it)));
    let set_swap = || swap.map_or(Ok(()), |it| controller.set_memswap_limit(it).map_err(refused("swap", it)));
    // On v1 the sum may never be below the memory limit: which one comes first depends on whether it grows or shrinks.
    let grows = version == Version::V1 && memory.is_some_and(|it| i128::from(it) > read_number(&swap_file));
    if grows {
        set_swap()?;
        set_memory()?;
    } else {
        set_memory()?;
        set_swap()?;
    }
    if version == Version::V2 {
        let high = limits.memory_high_bytes.map_or_else(|| "max".to_owned(), |it| it.to_string());
        for (file, value) in [("memory.oom.group", "1"), ("memory.high", &high)] {
            let file = folder.join(file);
            std::fs::write(&file, value).map_err(CgroupError::file("write", &file))?;
        }
    }
    Ok(())
}

fn read_number(file: &Path) -> i128 {
    std::fs::read_to_string(file).ok().and_then(|it| it.trim().parse().ok()).unwrap_or(i128::MAX)
}

fn cpu(folder: &Path, version: Version, limits: &Limits) -> Result<(), CgroupError> {
    let controller = CpuController::new(folder.into(), PathBuf::new(), version == Version::V2);
    if let Some(weight) = limits.cpu_weight {
        let share = if version == Version::V2 { weight.into() } else { shares(weight) };
        controller.set_shares(share).map_err(|error| refused(folder, "cpu weight", weight.to_string(), &error))?;
    }
    let Some(cores) = limits.cpu_cores else { return Ok(()) };
    let quota = ((cores * PERIOD_USEC as f64).round() as i64).max(LEAST_QUOTA_USEC);
    controller
        .set_cfs_quota_and_period(Some(quota), Some(PERIOD_USEC))
        .map_err(|error| refused(folder, "cpu", cores.to_string(), &error))
}

/// A weight in the unit of v1, whose default of 1024 is v2's default of 100. The kernel takes 2 to 262144.
fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1_024 / 100).max(2)
}

fn pids(folder: &Path, version: Version, limits: &Limits) -> Result<(), CgroupError> {
    let Some(pids) = limits.pids else { return Ok(()) };
    let controller = PidController::new(folder.into(), PathBuf::new(), version == Version::V2);
    controller
        .set_pid_max(MaxValue::Value(pids.into()))
        .map_err(|error| refused(folder, "pids", pids.to_string(), &error))
}

/// Ours: `cgroups-rs` writes `io.bfq.weight` on v2, which only BFQ has. A kernel without weights is no error: `io-weight` is not
/// a promise that a worker's start hangs on, and the host's report says that it is not kept.
fn io(folder: &Path, version: Version, limits: &Limits) -> Result<(), CgroupError> {
    let Some(weight) = limits.io_weight else { return Ok(()) };
    let files: &[(&str, u32)] = match version {
        Version::V1 => &[("blkio.bfq.weight", 1_000), ("blkio.weight", 1_000)],
        Version::V2 => &[("io.weight", 10_000), ("io.bfq.weight", 1_000)],
    };
    for (file, most) in files {
        let file = folder.join(file);
        if file.exists() {
            let least = if version == Version::V1 { 10 } else { 1 };
            let value = weight.clamp(least, *most).to_string();
            std::fs::write(&file, value).map_err(CgroupError::file("write", &file))?;
        }
    }
    Ok(())
}

/// Writes what one controller enforces of a tenant's quota, also that there is none. Ours: what `cgroups-rs` would do for a worker has
/// no word for "no limit", and the kernel shall not end all of a tenant's workers where one is too large.
pub(super) fn write_quota(
    folder: &Path,
    version: Version,
    controller: Controller,
    quota: &Quota,
) -> Result<(), CgroupError> {
    let text = |value: Option<u64>, none: &str| value.map_or_else(|| none.to_owned(), |it| it.to_string());
    let put = |what: &'static str, file: &str, value: String| {
        let path = folder.join(file);
        std::fs::write(&path, &value).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => CgroupError::file("write", &path)(error),
            _ => CgroupError::Limit { what, value, path: folder.into(), reason: error.to_string() },
        })
    };
    let usec = quota.cpu_milli.map(|it| (u64::from(it) * PERIOD_USEC / 1_000).max(LEAST_QUOTA_USEC.unsigned_abs()));
    match (controller, version) {
        (Controller::Memory, Version::V1) => {
            let both = "memory.memsw.limit_in_bytes";
            let swaps = folder.join(both).exists();
            let before = swaps.then(|| std::fs::read_to_string(folder.join(both)).unwrap_or_else(|_| "-1".into()));
            // The sum may never be below the memory limit.
            if swaps {
                put("memory", both, "-1".into())?;
            }
            let written = put("memory", "memory.limit_in_bytes", text(quota.memory_bytes, "-1"));
            let sum = if written.is_ok() { text(quota.memory_bytes, "-1") } else { before.unwrap_or_default() };
            if swaps { written.and(put("memory", both, sum.trim().into())) } else { written }
        }
        (Controller::Memory, Version::V2) => {
            if folder.join("memory.swap.max").exists() {
                put("memory", "memory.swap.max", quota.memory_bytes.map_or("max", |_| "0").into())?;
            }
            put("memory", "memory.max", text(quota.memory_bytes, "max"))
        }
        (Controller::Cpu, Version::V1) => {
            put("cpu", "cpu.cfs_period_us", PERIOD_USEC.to_string())?;
            put("cpu", "cpu.cfs_quota_us", text(usec, "-1"))
        }
        (Controller::Cpu, Version::V2) => put("cpu", "cpu.max", format!("{} {PERIOD_USEC}", text(usec, "max"))),
        (Controller::Pids, _) => put("pids", "pids.max", text(quota.pids.map(u64::from), "max")),
        (Controller::CpuAccounting | Controller::Freezer | Controller::Io, _) => Ok(()),
    }
}

fn refused(folder: &Path, what: &'static str, value: String, error: &Error) -> CgroupError {
    let cause = error.source().map(|it| format!(": {it}")).unwrap_or_default();
    CgroupError::Limit { what, value, path: folder.into(), reason: format!("{error}{cause}") }
}
