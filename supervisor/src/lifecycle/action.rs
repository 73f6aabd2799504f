//! What is to be done: everything that `step` asks of the performers.
//!
//! Actions are performed in the order given. One that cannot be performed because its worker or channel is gone or
//! its socket is closed is dropped without a word: the event that says so is on its way.

use std::sync::Arc;

use mortise_control::{
    Attach, ChannelId, ExportedState, HttpRoute, ResourceGrant, Role, ServiceRoute, TenantName, Token, WorkerId,
};

use super::{CommitId, ModuleKey, ModuleSpec, Mono, ResourceId, Ticket, Timer};
use crate::api::{ApiError, Event, ModuleLimits, Operation, OperationId, TenantLimits};
use crate::store::Change;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Commit these changes in one transaction, after every earlier `Persist`. Answered by `Event::Persisted`, in order.
    Persist {
        /// To be given back.
        commit: CommitId,
        /// All or nothing.
        changes: Vec<Change>,
    },
    /// Answer who asked with this ticket.
    Answer {
        /// From `Event::Request`.
        ticket: Ticket,
        /// The operation as it stands (accepted: it is on disk), or why it is refused.
        result: Result<Box<Operation>, ApiError>,
    },
    /// An operation took a step: publish its new form. Also sent when it is accepted.
    Progress(Box<Operation>),
    /// An operation has ended, and that is on disk: wake who waits for its end.
    Finish(Box<Operation>),
    /// Make groups, run folder and sockets, and start the worker's init. Answered by `SpawnDone` or `SpawnFailed`.
    Spawn(Box<SpawnOrder>),
    /// After a restart: find the process by pid, start time and group, open a pidfd, listen on its control socket again.
    /// Answered by `Adopted` or `Lost`.
    Adopt(Box<AdoptOrder>),
    /// The worker's hello is accepted: send `Welcome` with its figures page and these resources.
    SendWelcome {
        /// To whom.
        worker: WorkerId,
        /// The resources it maps, in order. Empty on a reconnect.
        resources: Vec<(ResourceGrant, ResourceId)>,
    },
    /// Close the worker's control connection: its hello was refused. It may connect again.
    Disconnect {
        /// Whose.
        worker: WorkerId,
        /// For the log.
        reason: String,
    },
    /// Make two memfds of the geometries given and a socket pair, and send each end its `Attach`. Keep both memfds until
    /// `SealAndOpen` or `ForgetChannel`. Answered by both workers' `Mapped`, or by `ChannelFailed`.
    MakeChannel {
        /// Its id.
        channel: ChannelId,
        /// For the caller ([`Attach::peer`] is the callee).
        caller: (WorkerId, Box<Attach>),
        /// For the callee.
        callee: (WorkerId, Box<Attach>),
    },
    /// Both have mapped: seal both segments, send each end `Open` with the other's segment, close both here.
    SealAndOpen {
        /// Which channel.
        channel: ChannelId,
        /// Its caller.
        caller: WorkerId,
        /// Its callee.
        callee: WorkerId,
    },
    /// Send `Close`. Answered by `Released`.
    SendClose {
        /// To which end.
        worker: WorkerId,
        /// Which channel.
        channel: ChannelId,
    },
    /// The channel is over: close whatever is still held for it.
    ForgetChannel {
        /// Which channel.
        channel: ChannelId,
    },
    /// Send `Routes`. Answered by `RoutesApplied`.
    SendRoutes {
        /// To whom.
        worker: WorkerId,
        /// For one worker, `Routes` and `HttpRoutes` draw from one sequence, so that an acknowledgement is unambiguous.
        epoch: u64,
        /// All of them.
        services: Vec<ServiceRoute>,
    },
    /// Send `HttpRoutes` to a base. Answered by `RoutesApplied`.
    SendHttpRoutes {
        /// Which base.
        worker: WorkerId,
        /// See `SendRoutes`.
        epoch: u64,
        /// All of them.
        routes: Vec<HttpRoute>,
    },
    /// Send `Drain`. Answered by `Drained`.
    SendDrain {
        /// To whom.
        worker: WorkerId,
        /// As in the message.
        within_ms: u64,
    },
    /// Send `Ping`. Answered by `Pong`.
    SendPing {
        /// To whom.
        worker: WorkerId,
        /// As in the message.
        nonce: u64,
    },
    /// Make memory for a worker's state and send `ExportState` with it. Answered by `StateExported`.
    ExportState {
        /// Whose operation.
        operation: OperationId,
        /// As in the message.
        handover: u64,
        /// To whom.
        worker: WorkerId,
        /// How much memory.
        max_bytes: u64,
    },
    /// Cut that memory to the length of what is in it and seal it, if nobody can write to it otherwise. Answered by `StateSealed`.
    SealState {
        /// Whose operation.
        operation: OperationId,
        /// Which.
        handover: u64,
        /// As the worker says.
        len: u64,
    },
    /// Send `ImportState` with the sealed memory, and let go of it. Answered by `StateImported`.
    ImportState {
        /// Which.
        handover: u64,
        /// To whom.
        worker: WorkerId,
        /// What is in it.
        state: ExportedState,
    },
    /// Let go of that memory, if it is held.
    ForgetState {
        /// Which.
        handover: u64,
    },
    /// SIGTERM to the worker's first process.
    Terminate {
        /// Which worker.
        worker: WorkerId,
    },
    /// Stop all processes in the worker's group. Answered by `Frozen` or `FrostFailed`.
    Freeze {
        /// Which worker.
        worker: WorkerId,
    },
    /// Let them go on. Never before the answer to `Freeze`. Answered by `Thawed` or `FrostFailed`.
    Thaw {
        /// Which worker.
        worker: WorkerId,
    },
    /// Kill everything in the worker's group at once. Answered by `Exited` like every end.
    Kill {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker's first process has ended or never was: kill whatever is left in its group, remove groups, run folder,
    /// sockets and FIFOs, close its descriptors. Must succeed when some or all of it is not there. Answered by `GroupGone` or
    /// `GroupBusy`.
    RemoveGroup {
        /// Which worker.
        worker: WorkerId,
    },
    /// Load a resource from the package of this digest. Answered by `ResourceLoaded` or `ResourceFailed`.
    LoadResource {
        /// Which.
        resource: ResourceId,
        /// The package.
        digest: String,
    },
    /// Close the resource's memfd and remove its group; workers that mapped it keep their mapping.
    ReleaseResource {
        /// Which.
        resource: ResourceId,
    },
    /// Remove a package that no installed version refers to any more. Answered by `PackageRemoved`.
    RemovePackage {
        /// Whose operation.
        operation: OperationId,
        /// Whose package.
        tenant: TenantName,
        /// Which packages, sha256 hexadecimal.
        digests: Vec<String>,
    },
    /// Let the host keep all that a tenant runs within these of its limits that are the kernel's. Answered by `QuotaSet`. What is started
    /// after this is within them.
    SetQuota {
        /// Whose operation.
        operation: Option<OperationId>,
        /// Whose group.
        tenant: TenantName,
        /// All of them.
        limits: TenantLimits,
    },
    /// Lay the limits of their packages' module.toml upon these workers, or those that were said instead. Answered by `LimitsSet`.
    SetLimits {
        /// Whose operation.
        operation: OperationId,
        /// What was said.
        limits: ModuleLimits,
        /// Who, and the package of each, sha256 hexadecimal.
        workers: Vec<(WorkerId, String)>,
    },
    /// Read the figures of these workers. Answered by `Measured`.
    Measure {
        /// Whose operation.
        operation: OperationId,
        /// Which workers.
        workers: Vec<WorkerId>,
    },
    /// Send `Event::Timer(timer)` when `at` has come. Setting the same timer again replaces its time.
    SetTimer {
        /// To be given back.
        timer: Timer,
        /// When.
        at: Mono,
    },
    /// Append to the event stream.
    Emit(Box<Event>),
    /// The answer to `Event::StopAll`: no worker, no group, no channel and no resource is left.
    AllStopped,
}

/// Everything the engine needs to start a worker. Its record is on disk.
#[derive(Clone, Debug)]
pub struct SpawnOrder {
    /// Who it will be.
    pub worker: WorkerId,
    /// What kind of program.
    pub role: Role,
    /// Whose which module.
    pub key: ModuleKey,
    /// What its module.toml says, as far as `step` knows it.
    pub spec: Arc<ModuleSpec>,
    /// The package, sha256 hexadecimal.
    pub digest: String,
    /// To be put into the boot record.
    pub token: Token,
    /// The uid and gid it runs as.
    pub uid: u32,
    /// Limits that hold instead of those of its module.toml.
    pub limits: ModuleLimits,
}

/// Everything the engine needs to find a worker again.
#[derive(Clone, Debug)]
pub struct AdoptOrder {
    /// As it was started.
    pub spawn: SpawnOrder,
    /// As recorded.
    pub pid: u32,
    /// As recorded.
    pub start_time: u64,
}
