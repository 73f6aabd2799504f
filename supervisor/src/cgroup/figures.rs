//! What the kernel measures of a group.
//!
//! Read by our own few lines: `cgroups-rs` answers 0 where a file cannot be read, and reads nine files for one figure of memory.

use std::fs;
use std::path::Path;

use super::Controller;
use super::limits::Version;

/// How long at least one of a group's tasks has waited for something while it could have worked, since the group was made, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// For memory: pages to be taken back, read again or swapped in.
    pub memory_usec: u64,
    /// For a processor, also for the next period of its own quota.
    pub cpu_usec: u64,
    /// For disks.
    pub io_usec: u64,
}

impl Pressure {
    /// Of a folder of v2: the kernel keeps these of every group, whichever controllers it has.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        Self::read(|file| fs::read_to_string(folder.join(file)).ok())
    }

    fn read(text: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let total = |file: &str| some_total(&text(file)?);
        Some(Self {
            memory_usec: total("memory.pressure")?,
            cpu_usec: total("cpu.pressure")?,
            io_usec: total("io.pressure")?,
        })
    }
}

/// Of `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`, and a line `full …`.
fn some_total(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|it| it.strip_prefix("some "))?;
    some.split_whitespace().find_map(|it| it.strip_prefix("total="))?.parse().ok()
}

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

impl Figures {
    /// Adds what one controller of one folder tells.
    pub(super) fn read(&mut self, folder: &Path, version: Version, controller: Controller) {
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
        match (controller, version) {
            (Controller::Memory, Version::V1) => {
                self.memory_bytes = number("memory.usage_in_bytes");
                self.oom_kills = text("memory.oom_control").and_then(|it| keyed(&it, "oom_kill"));
            }
            (Controller::Memory, Version::V2) => {
                self.memory_bytes = number("memory.current");
                self.oom_kills = text("memory.events").and_then(|it| keyed(&it, "oom_kill"));
            }
            (Controller::CpuAccounting, Version::V1) => {
                self.cpu_usec = number("cpuacct.usage").map(|ns| ns / 1_000);
            }
            (Controller::Cpu, Version::V2) => {
                self.cpu_usec = text("cpu.stat").and_then(|it| keyed(&it, "usage_usec"));
            }
            (Controller::Pids, _) => self.pids = number("pids.current"),
            (Controller::Cpu | Controller::Freezer | Controller::Io, _) | (Controller::CpuAccounting, Version::V2) => {}
        }
    }
}

/// The value of `key` in lines of the form `key value`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once(' ').filter(|(it, _)| *it == key)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_have_waited_for_is_read_and_not_what_all_have() {
        let text =
            "some avg10=0.12 avg60=0.00 avg300=0.00 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(some_total(text), Some(4711));
        assert_eq!(some_total("full avg10=0.00 total=7\n"), None);
        assert_eq!(some_total("some avg10=0.00 total=-1\n"), None);
        let with = |file: &str| (file != "io.pressure").then(|| text.to_owned());
        assert_eq!(Pressure::read(with), None, "all or nothing: a zero would look like an idle disk");
    }

    #[test]
    fn a_key_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 7\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
        assert_eq!(keyed("oom_kill x\n", "oom_kill"), None);
    }
}
