//! The engine's way to workers' processes.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mortise_control::{Role, WorkerId};

use super::{Process, SpawnError, WorkerSpec};
use crate::cgroup::{Figures, Group, Groups, Swept};
use crate::host::Enforcement;
use crate::lifecycle::Remains;

/// What a spawner needs to know once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The run folder, `RUN`: absolute, on a file system that takes sockets.
    pub run: PathBuf,
    /// The program `mortise-init`: absolute.
    pub init: PathBuf,
    /// The group of workers that may connect to `RUN/http`: the base's. No worker's own gid.
    pub http_gid: u32,
    /// What is enforced.
    pub enforcement: Enforcement,
}

/// Starts, finds and ends workers. Cheap to clone. Nothing here blocks the runtime it is called in.
#[derive(Clone, Debug)]
pub struct Spawner {}

/// A worker that was started or found again.
#[derive(Debug)]
pub struct Running {
    /// Who it is.
    pub worker: WorkerId,
    /// As the host sees it.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat: pid and this together are unique.
    pub start_time: u64,
    /// Its first process.
    pub process: Arc<Process>,
    /// Its group.
    pub group: Group,
    /// Listens on its `control.sock`: seqpacket, non-blocking.
    pub control: OwnedFd,
    /// What it writes to its standard output: the reading end of a FIFO, non-blocking. Ends (0 bytes) when nobody is left who has it.
    pub stdout: OwnedFd,
    /// The same for its standard error.
    pub stderr: OwnedFd,
}

/// What is recorded of a worker of an earlier supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Who it is.
    pub worker: WorkerId,
    /// What kind of program.
    pub role: Role,
    /// The uid it runs as.
    pub uid: u32,
    /// As recorded.
    pub pid: u32,
    /// As recorded.
    pub start_time: u64,
}

/// The answer to [`Spawner::adopt`].
#[derive(Debug)]
pub enum Adopted {
    /// It runs: same pid, start time and group. Its control socket listens again.
    Running(Running),
    /// It is gone. Its group and run folder may be there still.
    Lost,
}

/// Something of a worker could not be removed yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RemoveBusy {
    /// Processes that are left in its group.
    pub processes: u32,
    /// For people.
    pub reason: String,
}

impl Spawner {
    /// Makes `RUN/workers`, `RUN/http` and the thread that clones. It runs as long as a clone of this is there.
    ///
    /// # Errors
    /// [`SpawnError`] when a folder, init or the thread is not to be had.
    pub fn new(config: Config, groups: Arc<Groups>) -> Result<Self, SpawnError> {
        let _ = (config, groups);
        unimplemented!()
    }

    /// Makes groups, run folder and sockets and starts the worker. Returns when its init has finished its plan.
    ///
    /// # Errors
    /// [`SpawnError`]; then [`Self::remove`] removes what was made.
    pub async fn spawn(&self, spec: WorkerSpec) -> Result<Running, SpawnError> {
        let _ = spec;
        unimplemented!()
    }

    /// Finds a worker of an earlier supervisor.
    ///
    /// # Errors
    /// [`SpawnError`] when it is there but its control socket or FIFOs are not to be had.
    pub async fn adopt(&self, recorded: Recorded) -> Result<Adopted, SpawnError> {
        let _ = recorded;
        unimplemented!()
    }

    /// Kills everything in the worker's group. That nothing is there is no error.
    ///
    /// # Errors
    /// [`SpawnError::Group`]
    pub async fn kill(&self, worker: WorkerId) -> Result<(), SpawnError> {
        let _ = worker;
        unimplemented!()
    }

    /// Kills what is left in the worker's group and removes group, run folder, FIFOs and sockets. That some or all of it is not
    /// there is no error. `descriptors_closed` of the answer is 0: they are the caller's.
    ///
    /// # Errors
    /// [`RemoveBusy`] when processes have not ended after two seconds.
    pub async fn remove(&self, worker: WorkerId) -> Result<Remains, RemoveBusy> {
        let _ = worker;
        unimplemented!()
    }

    /// The figures of the worker's group; none if there is no such group. Blocks for some microseconds.
    #[must_use]
    pub fn figures(&self, worker: WorkerId) -> Option<Figures> {
        let _ = worker;
        unimplemented!()
    }

    /// Kills and removes everything that an earlier supervisor left of workers other than these. Leaves resources' groups (`r-…`) alone.
    pub async fn sweep(&self, keep: Vec<WorkerId>) -> Swept {
        let _ = keep;
        unimplemented!()
    }
}
