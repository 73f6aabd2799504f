//! What values are possible, once: the schema and the validation both read these.

use std::time::Duration;

/// The most workers of one module.
pub const INSTANCES_MAX: i64 = 64;
/// The least memory in which a worker can start, in bytes.
pub const MEMORY_MIN: u64 = 2 << 20;
/// The most memory or swap that can be asked for, in bytes.
pub const MEMORY_MAX: u64 = 16 << 40;
/// The least share of a core: what the kernel's 1 ms of a 100 ms period allows.
pub const CPU_MIN: f64 = 0.01;
/// The most cores.
pub const CPU_MAX: f64 = 1024.0;
/// The fewest processes and threads: init and the program.
pub const PIDS_MIN: i64 = 2;
/// The most processes and threads.
pub const PIDS_MAX: i64 = 32_768;
/// The least weight on processors and disks.
pub const WEIGHT_MIN: i64 = 1;
/// The greatest weight.
pub const WEIGHT_MAX: i64 = 10_000;
/// The fewest descriptors: standard streams, control socket, listener and a few channels.
pub const OPEN_FILES_MIN: i64 = 32;
/// The most descriptors.
pub const OPEN_FILES_MAX: i64 = 1_048_576;
/// The most failed health checks in a row.
pub const FAILURES_MAX: i64 = 100;
/// The most crashes that can be waited for.
pub const CRASHES_MAX: i64 = 1000;
/// The shortest span of time that can be asked for.
pub const DURATION_MIN: Duration = Duration::from_millis(10);
/// The longest.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// The greatest version of a state.
pub const STATE_VERSION_MAX: i64 = u32::MAX as i64;
/// The most bytes of state that a worker may hand over.
pub const STATE_BYTES_MAX: u64 = 1 << 30;
/// The longest that calls may wait while state is handed over.
pub const HANDOVER_MAX: Duration = Duration::from_secs(60);
/// The most arguments, variables, configuration values, services, resources or files each.
pub const LIST_MAX: usize = 256;
/// The longest argument or value, in bytes.
pub const TEXT_MAX: usize = 4096;
/// The longest module.toml, in bytes.
pub const SOURCE_MAX: usize = 256 * 1024;

/// An amount of bytes, as a regular expression.
pub const BYTES_PATTERN: &str = r"^\d+(\.\d+)?\s*([KMGT](i?B)?|B)?$";
/// A span of time, as a regular expression.
pub const DURATION_PATTERN: &str = r"^(\d+\s*[a-zA-Z]+\s*)+$";
