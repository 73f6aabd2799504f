//! What the kernel measures of a group.
//!
//! Read by our own few lines: `cgroups-rs` answers 0 where a file cannot be read, and reads nine files for one figure of memory.

use std::fs;
use std::path::Path;

use super::Controller;
use super::limits::Version;

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
    fn a_key_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 7\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
        assert_eq!(keyed("oom_kill x\n", "oom_kill"), None);
    }
}
