//! What happened: everything that the performers report to the loop.

use jiff::Timestamp;
use mortise_control::{ChannelId, ChannelRole, TenantName, ToSupervisor, WorkerId};

use super::{CommitId, ModuleSpec, Reading, ResourceId, Ticket, Timer};
use crate::api::{OperationId, Request};

/// One thing that happened. Events about a worker carry its full id: one about an old generation changes nothing.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody asks for a change. Answered by one [`super::Action::Answer`] with the same ticket.
    Request(Box<Submitted>),
    /// The store has ended a transaction.
    Persisted {
        /// As in [`super::Action::Persist`].
        commit: CommitId,
        /// Err: nothing of it is on disk, and why not. The store has made sure of it by reopening and looking.
        result: Result<(), String>,
    },
    /// The worker's init was started.
    SpawnDone {
        /// Which worker.
        worker: WorkerId,
        /// As the host sees it.
        pid: u32,
        /// Field 22 of /proc/PID/stat, in clock ticks since boot: pid and this together are unique.
        start_time: u64,
    },
    /// The worker's init could not be started or failed in a step of its plan. What was made for it is still to be removed.
    SpawnFailed {
        /// Which worker.
        worker: WorkerId,
        /// Step and errno, for people.
        reason: String,
        /// Whose fault it is.
        fault: StartFault,
    },
    /// After a restart of the supervisor: the recorded process is there (same pid, start time and cgroup), has a pidfd, and
    /// its control socket listens again.
    Adopted {
        /// Which worker.
        worker: WorkerId,
        /// When the process was started.
        started: Timestamp,
    },
    /// After a restart of the supervisor: the recorded process is gone.
    Lost {
        /// Which worker.
        worker: WorkerId,
        /// What is still known of its end.
        exit: Exit,
    },
    /// A message of the worker, decoded and within its bounds, on the worker's own socket, from a process of the worker's uid
    /// and cgroup. Everything in it is an allegation.
    Message {
        /// On whose socket it came.
        worker: WorkerId,
        /// What it says.
        message: ToSupervisor,
    },
    /// The worker's control connection broke; its process may live.
    Disconnected {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker's first process ended (pidfd). Others may be left in its group.
    Exited {
        /// Which worker.
        worker: WorkerId,
        /// How.
        exit: Exit,
    },
    /// The answer to [`super::Action::Freeze`].
    Frozen {
        /// Which worker.
        worker: WorkerId,
        /// Bytes charged to its group.
        memory_bytes: u64,
    },
    /// The answer to [`super::Action::Thaw`].
    Thawed {
        /// Which worker.
        worker: WorkerId,
    },
    /// The answer to either, when the host did not do it.
    FrostFailed {
        /// Which worker.
        worker: WorkerId,
        /// For people.
        reason: String,
    },
    /// The answer to [`super::Action::RemoveGroup`]: nothing of the worker is left on the host.
    GroupGone {
        /// Which worker.
        worker: WorkerId,
        /// For the receipt.
        remains: Remains,
    },
    /// The answer to [`super::Action::RemoveGroup`] when it could not be removed yet; `step` asks again after a while.
    GroupBusy {
        /// Which worker.
        worker: WorkerId,
        /// Processes that are still in it.
        processes: u32,
        /// For people.
        reason: String,
    },
    /// The memfds or the socket pair of a channel could not be made, or an `Attach` could not be sent. Nothing is held for it.
    ChannelFailed {
        /// Which channel.
        channel: ChannelId,
        /// For people.
        reason: String,
    },
    /// A segment of a channel was not what it should be when it was to be sealed. Only its writer had it: it is to blame.
    ChannelTampered {
        /// Which channel. Neither end has had `Open`, and nothing is held for it.
        channel: ChannelId,
        /// Whose segment.
        writer: ChannelRole,
        /// For people.
        what: String,
    },
    /// A resource is in its sealed memfd.
    ResourceLoaded {
        /// Which.
        resource: ResourceId,
        /// Its length.
        bytes: u64,
        /// sha256 of its content, hexadecimal.
        digest: String,
    },
    /// A resource could not be loaded.
    ResourceFailed {
        /// Which.
        resource: ResourceId,
        /// For people.
        reason: String,
    },
    /// The answer to [`super::Action::RemovePackage`].
    PackageRemoved {
        /// Whose operation asked for it.
        operation: OperationId,
        /// Bytes freed, or why it is still there.
        result: Result<u64, String>,
    },
    /// The answer to [`super::Action::SetQuota`].
    QuotaSet {
        /// Whose operation asked for it.
        operation: Option<OperationId>,
        /// Whose quota it is.
        tenant: TenantName,
        /// Err: what runs is not brought under it, and why.
        result: Result<(), String>,
    },
    /// The answer to [`super::Action::SetLimits`].
    LimitsSet {
        /// Whose operation asked for it.
        operation: OperationId,
        /// Workers that are not brought under them, and why.
        refused: Vec<(WorkerId, String)>,
    },
    /// The answer to [`super::Action::Measure`].
    Measured {
        /// Whose operation asked for it.
        operation: OperationId,
        /// What each worker has come to; those that are gone are left out.
        readings: Vec<(WorkerId, Reading)>,
    },
    /// The answer to [`super::Action::SealState`]; or to [`super::Action::ExportState`], when there is no memory for it.
    StateSealed {
        /// Whose operation.
        operation: OperationId,
        /// Of which hand-over.
        handover: u64,
        /// Err: it is of no use, and why.
        result: Result<(), String>,
    },
    /// A timer is due. One that is late, repeated or about something that is no more changes nothing.
    Timer(Timer),
    /// Stop everything in dependency order and forget nothing of the desired state; ends with
    /// [`super::Action::AllStopped`].
    StopAll,
}

/// A request, as the engine hands it in.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// Who waits for the answer.
    pub ticket: Ticket,
    /// The operation's name; the same one twice gets the same answer.
    pub operation: OperationId,
    /// What is asked.
    pub request: Request,
    /// For [`Request::Install`]: the verified and unpacked package of that digest. None: there is no such package.
    pub package: Option<Package>,
    /// For [`Request::SetLimits`]: bytes charged to the groups of the module's workers, as far as this host measures them.
    pub used: Vec<(WorkerId, u64)>,
}

/// A package that lies verified and unpacked in the package store.
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    /// What its module.toml says.
    pub spec: ModuleSpec,
    /// sha256, hexadecimal.
    pub digest: String,
}

/// Whose fault it is that a worker could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFault {
    /// The host has no processes, descriptors, memory or space for it now: not the worker's fault, so its crash limit does not count it.
    Shortage,
    /// Anything else.
    Other,
}

impl StartFault {
    /// What the first error of the kernel in the chain of causes comes to.
    #[must_use]
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = std::iter::successors(Some(error), |it| it.source());
        causes.find_map(|it| it.downcast_ref::<std::io::Error>()?.raw_os_error()).map_or(Self::Other, Self::of_errno)
    }

    /// The same of one error.
    #[must_use]
    pub fn of_errno(errno: i32) -> Self {
        use nix::errno::Errno::{self, EAGAIN, EDQUOT, EMFILE, ENFILE, ENOMEM, ENOSPC};
        match Errno::from_raw(errno) {
            EAGAIN | ENOMEM | EMFILE | ENFILE | ENOSPC | EDQUOT => Self::Shortage,
            _ => Self::Other,
        }
    }
}

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit status of its first process.
    pub status: ExitStatus,
    /// OOM kills in its group since it was made.
    pub oom_kills: u64,
    /// The last lines of its output, oldest first, for the reason.
    pub last_lines: Vec<String>,
}

/// The exit status of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It ended while nobody was there to collect it.
    #[default]
    Unknown,
    /// It is gone with its group, which outlives a worker that ends by itself: the host was started anew, or whoever stopped the unit of
    /// the workers has ended them all. No fault of its own.
    Swept,
}

/// What a removed worker gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Cgroups that were removed.
    pub cgroups_removed: u32,
    /// Descriptors that the engine had held for it and closed (socket, pidfd, FIFOs, figures page).
    pub descriptors_closed: u32,
    /// Bytes charged to its group when it ended.
    pub memory_bytes: u64,
}
