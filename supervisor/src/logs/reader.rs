//! The readers of one worker.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mortise_control::{ModuleName, Role, TenantName, WorkerId};
use semver::Version;

use super::LogSink;

/// Whose output it is.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// Whose module.
    pub tenant: TenantName,
    /// Which module.
    pub module: ModuleName,
    /// Which version.
    pub version: Version,
    /// Which worker.
    pub worker: WorkerId,
    /// Structured lines are looked for in the stderr of those that have the SDK ([`Role::Sdk`], [`Role::Base`]).
    pub role: Role,
}

/// Reads the output of one worker as long as it is there. Dropping it ends that.
#[derive(Debug)]
pub struct WorkerOutput {}

impl WorkerOutput {
    /// Starts to read both FIFOs (non-blocking reading ends). To be called in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When a descriptor is no FIFO that can be read.
    pub fn read(source: LogSource, stdout: OwnedFd, stderr: OwnedFd, sink: &Arc<LogSink>) -> io::Result<Self> {
        let _ = (source, stdout, stderr, sink);
        unimplemented!()
    }

    /// The latest lines, oldest first: for the reason of an exit.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        unimplemented!()
    }

    /// The worker's first process has ended: reads what is still in the FIFOs, until nobody can write any more or `within` has
    /// passed, and gives the latest lines.
    pub async fn end(self, within: Duration) -> Vec<String> {
        let _ = within;
        unimplemented!()
    }
}
