//! Timers, named by what they are about, so that a late one finds its subject changed and does nothing.

use mortise_control::{ChannelId, ServiceName, TenantName, WorkerId};

use super::{ModuleKey, ResourceId};
use crate::api::OperationId;

/// What a timer is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The worker must be ready by now.
    Ready(WorkerId),
    /// The next ping is due.
    Ping(WorkerId),
    /// The ping must have been answered by now.
    Pong {
        /// Who was asked.
        worker: WorkerId,
        /// Which ping.
        nonce: u64,
    },
    /// The worker must have connected again by now.
    Reconnect(WorkerId),
    /// Callers must have left a retiring worker for its successor by now.
    Flip(WorkerId),
    /// The base must have finished its requests to the worker by now.
    HttpDrain(WorkerId),
    /// The worker must have drained by now.
    Drain(WorkerId),
    /// The worker must have ended after SIGTERM by now.
    Stop(WorkerId),
    /// The worker is tried again.
    Backoff(WorkerId),
    /// The worker has run long enough to forget its earlier failures.
    Stable(WorkerId),
    /// Removing the worker's group is tried again.
    Remove(WorkerId),
    /// Loading the resource is tried again.
    Load(ResourceId),
    /// Both ends of the channel must have mapped it by now.
    Mapped(ChannelId),
    /// The callee must have released the channel by now.
    CalleeReleased(ChannelId),
    /// The caller must have released the channel by now.
    CallerReleased(ChannelId),
    /// A channel that could not be made is tried again.
    Connect {
        /// Its caller.
        caller: WorkerId,
        /// Its callee.
        callee: WorkerId,
        /// What it is to carry.
        service: ServiceName,
    },
    /// The routes of this epoch must be in force by now.
    Routes {
        /// To whom they were sent.
        worker: WorkerId,
        /// Which.
        epoch: u64,
    },
    /// The version that is kept for a rollback has had its time.
    Keep {
        /// Of which module.
        key: ModuleKey,
        /// Which of its cohorts.
        cohort: u64,
    },
    /// A swap must have handed its module's state over by now.
    Handover(OperationId),
    /// It is time to look at the figures of a swap by steps.
    Look(OperationId),
    /// What callers have told of a comparison meanwhile is shown.
    Shadowing(ModuleKey),
    /// The operation's receipt is closed, naming what peers still hold.
    Receipt(OperationId),
    /// A tenant's limits, which the kernel did not take, are tried again.
    Quota(TenantName),
    /// What could not be put on disk is tried again.
    Persist,
}
