//! Limits of this process and of the whole host.

use nix::sys::resource::{Resource, getrlimit};

use crate::doctor::{Area, Check, Verdict};

/// Descriptors for a few hundred workers: each costs about ten, and each channel two.
const DESCRIPTORS: u64 = 16_384;

/// Memory below which not even a small platform runs.
const MEMORY: u64 = 512 << 20;

const MEMORY_MATTERS: &str = "limits are promises only while the host has the memory";

pub(super) fn checks() -> Vec<Check> {
    vec![descriptors(), processes(), memory(), overcommit()]
}

fn descriptors() -> Check {
    let matters = "workers and channels: about ten descriptors a worker";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => open_files(soft, hard),
        Err(error) => Check::good(Area::Limit, "open-files", error.to_string(), matters)
            .but(Verdict::Unknown, "Look at `ulimit -n`."),
    }
}

fn open_files(soft: u64, hard: u64) -> Check {
    let found = format!("{soft}, may be raised to {hard}");
    let check = Check::good(Area::Limit, "open-files", found, "workers and channels: about ten descriptors a worker");
    if hard < DESCRIPTORS {
        check.but(Verdict::Weak, format!("Raise it (`ulimit -Hn {DESCRIPTORS}`, or LimitNOFILE= of the unit)."))
    } else {
        check
    }
}

fn read_number(file: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn processes() -> Check {
    let matters = "one pid per process and thread of all workers";
    match read_number("/proc/sys/kernel/pid_max") {
        Some(most) if most < 32_768 => Check::good(Area::Limit, "pid-max", most.to_string(), matters)
            .but(Verdict::Weak, "sysctl kernel.pid_max=4194304"),
        Some(most) => Check::good(Area::Limit, "pid-max", most.to_string(), matters),
        None => Check::good(Area::Limit, "pid-max", "not readable", matters).but(Verdict::Unknown, "Mount /proc."),
    }
}

fn memory() -> Check {
    match sysinfo::System::new() {
        Ok(mut system) => {
            system.refresh_memory();
            available(system.available_memory(), system.total_memory())
        }
        Err(error) => Check::good(Area::Limit, "memory", error.to_string(), MEMORY_MATTERS)
            .but(Verdict::Unknown, "Look at `free`."),
    }
}

fn available(free: u64, total: u64) -> Check {
    let found = format!("{} of {} MiB available", free >> 20, total >> 20);
    let check = Check::good(Area::Limit, "memory", found, MEMORY_MATTERS);
    if free < MEMORY { check.but(Verdict::Weak, "Stop something, or add memory.") } else { check }
}

fn overcommit() -> Check {
    let matters = "memory that is reserved and not touched costs nothing";
    match read_number("/proc/sys/vm/overcommit_memory") {
        Some(2) => Check::good(Area::Limit, "overcommit", "strict accounting", matters)
            .but(Verdict::Weak, "sysctl vm.overcommit_memory=0, unless the host needs it."),
        Some(_) => Check::good(Area::Limit, "overcommit", "allowed", matters),
        None => Check::good(Area::Limit, "overcommit", "not readable", matters).but(Verdict::Unknown, "Mount /proc."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_limits_are_named() {
        assert_eq!(open_files(1024, 4096).verdict, Verdict::Weak);
        assert_eq!(open_files(1024, 1 << 20).verdict, Verdict::Good);
        assert_eq!(available(1 << 20, 1 << 34).verdict, Verdict::Weak);
        assert_eq!(available(1 << 33, 1 << 34).verdict, Verdict::Good);
    }
}
