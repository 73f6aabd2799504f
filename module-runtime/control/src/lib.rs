//! What a supervisor and a worker say to each other.
//!
//! ```text
//!   supervisor                                   worker (SDK, init, base)
//!   ──────────                                   ────────────────────────
//!   sealed memfd with a [`Boot`] record ──exec──▶ read once, then closed
//!   listens on the worker's own socket  ◀──────── connects, [`ToSupervisor::Hello`]
//!   [`ToWorker`] (+ descriptors)        ────────▶
//!                                       ◀──────── [`ToSupervisor`] (never a descriptor)
//! ```
//!
//! The socket is `SOCK_SEQPACKET`: one message, one packet of at most [`MAX_PACKET`] bytes, or, where that is too little, several
//! (see [`parts`]). Messages are plain data in rmp-serde's field-name form, so that either side may be one version ahead.
//! Descriptors travel one way only, from supervisor to worker: [`socket::recv_without_fds`] gives the kernel no room for any, and
//! it drops what was sent.
//!
//! Every worker has a socket folder of its own, so no tenant can fill another's backlog, and a worker reconnects to the
//! same path when the supervisor comes back.
#![deny(missing_docs)]

mod boot;
mod ids;
pub mod log_line;
mod message;
pub mod parts;
pub mod plan;
pub mod routing;
pub mod shadow;
pub mod socket;
pub mod stats;

pub use boot::{BOOT_FD, BOOT_FD_VARIABLE, Boot, InheritedFd, Role};
pub use ids::{ChannelId, GroupName, InvalidName, ModuleName, ResourceName, ServiceName, TenantName, Token, WorkerId};
pub use message::{
    Attach, ChannelReport, ChannelRole, Encoding, ExportedState, Geometry, Hello, HttpReach, HttpRoute, HttpTarget,
    Offer, PeerInfo, Phase, Released, ResourceGrant, RouteTable, ServiceDeclaration, ServiceRoute, Target,
    ToSupervisor, ToWorker, VersionShare, Welcome,
};

/// The version of this protocol. A supervisor serves workers of the same version and of the one before.
///
/// 2: [`ToSupervisor::RoutesApplied`] names the table, [`ServiceRoute::offer`], messages in [`parts`].
pub const PROTOCOL: u16 = 2;

/// The largest packet either side sends or accepts, in bytes.
pub const MAX_PACKET: usize = 64 * 1024;

/// The most descriptors that one packet carries.
pub const MAX_FDS: usize = 16;

/// The longest message from the supervisor to a worker, in bytes: the routes of some ten thousand HTTP services.
pub const MAX_MESSAGE: usize = 4 << 20;

/// The most descriptors of one message.
pub const MAX_MESSAGE_FDS: usize = 512;

/// The longest message from a worker to the supervisor, in bytes: the hello of a worker with some five thousand channels. The
/// supervisor may have to keep that much for each worker.
pub const MAX_REPORT: usize = 512 * 1024;
