//! The messages, as plain data. Each side turns what it receives into its own checked types before use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::routing::{Rule, TagSource};
use crate::shadow::{ShadowRoute, Shadowed};
use crate::{ChannelId, ModuleName, ResourceName, ServiceName, TenantName, Token, WorkerId};

/// From a worker to the supervisor. Every byte of it is an allegation of the tenant's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToSupervisor {
    /// The first message on every connection, also after the supervisor has restarted.
    Hello(Hello),
    /// The services that its code serves and calls, once its code has said so: after the welcome and before
    /// [`ToSupervisor::Ready`], again whenever there are more. Replaces [`Hello::services`] and [`Hello::clients`].
    Declare {
        /// As [`Hello::services`].
        services: Vec<ServiceDeclaration>,
        /// As [`Hello::clients`].
        clients: Vec<ServiceDeclaration>,
        /// As [`Hello::state`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<u32>,
    },
    /// The worker can serve. Sent once; on a reconnect [`Hello::phase`] says the same.
    Ready,
    /// It will not become ready, and why. The process is expected to end.
    NeverReady {
        /// For the operator.
        reason: String,
    },
    /// The worker has mapped and touched its own segment of a channel: it may be sealed and shown to the peer.
    Mapped {
        /// Which channel.
        channel: ChannelId,
    },
    /// Both segments of a channel are unmapped on this side.
    Released(Released),
    /// The routes of this epoch are in force for every later call.
    RoutesApplied {
        /// Which table. Protocol 1 did not say: none.
        #[serde(default)]
        table: Option<RouteTable>,
        /// As in [`ToWorker::Routes`] or [`ToWorker::HttpRoutes`].
        epoch: u64,
    },
    /// The worker wants routes to a service that its module.toml does not require (base only: operators' calls by name).
    /// They come with the next [`ToWorker::Routes`]; refused silently where there is no grant.
    Want {
        /// The service.
        service: ServiceName,
    },
    /// The base has finished the last HTTP request that it had sent to this worker and sends it no more.
    HttpDrained {
        /// The worker that is idle now.
        worker: WorkerId,
    },
    /// The worker's answer to [`ToWorker::Drain`]: nothing is in flight, nothing more is accepted.
    Drained {
        /// Calls served since it started, for the receipt.
        served: u64,
    },
    /// The answer to [`ToWorker::Ping`].
    Pong {
        /// The ping's number.
        nonce: u64,
        /// False when the worker finds itself unwell (an `http` worker's health path did not answer 2xx).
        healthy: bool,
    },
    /// The peer of a channel lied in its segment.
    Violation {
        /// Which channel.
        channel: ChannelId,
        /// What was found, for the log.
        what: String,
    },
    /// What it has seen by now of the calls that it also sends to a version beside. Again whenever there is more, but not more often than
    /// once a second for a service, and on every new connection.
    Shadowed(Shadowed),
    /// The answer to [`ToWorker::ExportState`]: the state lies in the memory that came with it, and the worker has let go of that.
    StateExported {
        /// Of which hand-over.
        handover: u64,
        /// What there is, or why there is nothing, for the operator.
        outcome: Result<ExportedState, String>,
    },
    /// The answer to [`ToWorker::ImportState`].
    StateImported {
        /// Of which hand-over.
        handover: u64,
        /// Err: why it is of no use, for the operator.
        outcome: Result<(), String>,
    },
}

/// What a worker has exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedState {
    /// The version of its form.
    pub version: u32,
    /// Its length in bytes, from the beginning of the memory.
    pub len: u64,
}

/// Who is calling, and what it already has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`] of the worker.
    pub protocol: u16,
    /// From the boot record.
    pub worker: WorkerId,
    /// From the boot record.
    pub token: Token,
    /// Where the worker is in its life.
    pub phase: Phase,
    /// The services that its code serves. Empty on the first connection, where the code has not said it yet (it needs the
    /// resources of the welcome first); from [`ToSupervisor::Ready`] on they must equal what module.toml says it provides.
    pub services: Vec<ServiceDeclaration>,
    /// Schema fingerprints of the services that its code calls, so that a channel's encoding can be chosen. A service
    /// missing here is called by field name.
    pub clients: Vec<ServiceDeclaration>,
    /// The version of the state that its code hands over, if it does; as `services`, it must equal what module.toml says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<u32>,
    /// The channels it holds and has had `Open` for (empty on the first connection). One that was attached and not opened is
    /// dropped when the connection breaks: its other segment died with the supervisor that had made it.
    pub channels: Vec<ChannelReport>,
}

/// Where a worker is in its life, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not ready yet.
    Starting,
    /// Ready.
    Ready,
    /// Was told to drain and has not finished.
    Draining,
    /// Nothing in flight, nothing accepted.
    Drained,
}

/// A service as the code of one side knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDeclaration {
    /// Its name.
    pub service: ServiceName,
    /// A hash over method names, order, and argument and result types. 0: none, always by field name.
    pub fingerprint: u64,
}

/// A channel that a worker holds, told after a reconnect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelReport {
    /// Its id.
    pub channel: ChannelId,
    /// Which end this worker holds.
    pub role: ChannelRole,
    /// The service it carries.
    pub service: ServiceName,
    /// The worker at the other end, as the supervisor had told it.
    pub peer: WorkerId,
}

/// The end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChannelRole {
    /// Sends requests.
    Caller,
    /// Answers them.
    Callee,
}

/// How a channel ended on one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Which channel.
    pub channel: ChannelId,
    /// Calls finished over it, as this side counts them.
    pub calls: u64,
}

/// From the supervisor to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// The answer to a hello. Descriptors: the worker's figures page (a writable memfd of fixed size that the supervisor
    /// reads and never maps; on a reconnect a new one, into which the worker carries its figures over), then one sealed
    /// memfd per entry of [`Welcome::resources`].
    Welcome(Welcome),
    /// Map and touch your segment of a new channel. Descriptors: own segment, own end of the wake socket pair.
    /// Answered by [`ToSupervisor::Mapped`].
    Attach(Attach),
    /// Both segments are sealed: map the peer's and use the channel. Descriptors: the peer's segment.
    Open {
        /// Which channel.
        channel: ChannelId,
    },
    /// End a channel. A caller sends nothing more and waits for what is under way; a callee closes the ring, serves what
    /// lies before the close and answers it. Then unmap and answer [`ToSupervisor::Released`].
    Close {
        /// Which channel.
        channel: ChannelId,
    },
    /// Where the services that this worker requires are answered from now on; replaces all earlier routes.
    Routes {
        /// Ever growing, in one sequence with [`ToWorker::HttpRoutes`]. Answered by [`ToSupervisor::RoutesApplied`].
        epoch: u64,
        /// Every required or wanted service.
        services: Vec<ServiceRoute>,
    },
    /// Base only: where HTTP requests go from now on; replaces all earlier ones.
    HttpRoutes {
        /// Ever growing, in one sequence with [`ToWorker::Routes`]. Answered by [`ToSupervisor::RoutesApplied`].
        epoch: u64,
        /// Longest matching host + prefix wins.
        routes: Vec<HttpRoute>,
    },
    /// Finish what is in flight, accept nothing new, answer [`ToSupervisor::Drained`].
    Drain {
        /// After this many milliseconds the worker is killed.
        within_ms: u64,
    },
    /// Are you well? Answered by [`ToSupervisor::Pong`].
    Ping {
        /// To be sent back.
        nonce: u64,
    },
    /// Nobody calls you any more: write your state for the version that is to replace you. Only to workers whose code has declared a
    /// version of it. Descriptors: a writable memfd of `max_bytes`, which cannot grow. It is to be written to, not mapped: what is
    /// still mapped when the answer is read is refused. Answered by [`ToSupervisor::StateExported`].
    ExportState {
        /// To be sent back.
        handover: u64,
        /// The most that it may take.
        max_bytes: u64,
    },
    /// Begin with this state instead of none. Comes when the worker is ready and nobody calls it. Descriptors: a memfd sealed against
    /// every change. Answered by [`ToSupervisor::StateImported`].
    ImportState {
        /// To be sent back.
        handover: u64,
        /// The version of its form.
        version: u32,
        /// Its length in bytes; the receiver checks it against the descriptor.
        len: u64,
    },
}

/// The supervisor accepts the worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// [`crate::PROTOCOL`] of the supervisor.
    pub protocol: u16,
    /// Resources it may map, in the order of the packet's descriptors. Repeated on a reconnect only if they changed.
    pub resources: Vec<ResourceGrant>,
}

/// A resource that comes as a write-sealed memfd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceGrant {
    /// Its name.
    pub name: ResourceName,
    /// Its length in bytes; the receiver checks it against the descriptor.
    pub len: u64,
}

/// One end of a new channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Its id.
    pub channel: ChannelId,
    /// Which end this worker gets.
    pub role: ChannelRole,
    /// The service it carries. A pair of workers with two services between them has two channels, so that
    /// one service can be closed alone.
    pub service: ServiceName,
    /// Who is at the other end.
    pub peer: PeerInfo,
    /// How messages are encoded on it.
    pub encoding: Encoding,
    /// Sizes of the caller's segment.
    pub caller: Geometry,
    /// Sizes of the callee's segment.
    pub callee: Geometry,
}

/// Who is at the other end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The worker.
    pub worker: WorkerId,
    /// Its tenant.
    pub tenant: TenantName,
    /// Its module.
    pub module: ModuleName,
    /// Its version.
    pub version: semver::Version,
}

/// How the messages of a channel are encoded, chosen by comparing fingerprints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// Both ends know the same schema: fields by position.
    Positional,
    /// They differ: fields by name, unknown ones ignored, missing ones by default.
    ByName,
}

/// The sizes of one segment. The receiver checks them against the descriptor and its own bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Ring slots, a power of two.
    pub slots: u32,
    /// Bytes of the payload arena, a multiple of the page size; 0 for none.
    pub arena: u32,
}

/// Which routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RouteTable {
    /// [`ToWorker::Routes`].
    Services,
    /// [`ToWorker::HttpRoutes`].
    Http,
}

/// Whether a service is to be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offer {
    /// A module that is to run has published it. With no target it has none now: calls wait for one within their deadline.
    /// Protocol 1 knew nothing else.
    #[default]
    Published,
    /// Nobody offers it, and nobody is about to: calls end at once.
    Nobody,
    /// The worker's own module has published it: it answers itself, over no channel of the supervisor's.
    Own,
}

/// Who answers a required service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRoute {
    /// The service.
    pub service: ServiceName,
    /// Whether it is to be had.
    #[serde(default)]
    pub offer: Offer,
    /// The caller has no right to it, whether it is there or not: calls end at once. Then nobody offers it, too, which is what a worker
    /// that does not know this field goes by.
    #[serde(default)]
    pub denied: bool,
    /// Who answers; weights are relative to each other.
    pub targets: Vec<Target>,
    /// What goes before those weights: [`crate::routing::choose`] says which version answers a call, then
    /// [`Target::version`] who does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Which of the calls are also sent to the version beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowRoute>,
}

/// One worker that answers a service, reached by a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The channel to it, opened before.
    pub channel: ChannelId,
    /// Its share of the calls that no rule decides.
    pub weight: u32,
    /// What it is to rules; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionShare>,
}

/// A version, and a worker's share of what the version gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionShare {
    /// The version that the worker runs.
    pub version: semver::Version,
    /// Its share among the workers of that version.
    pub weight: u32,
}

/// HTTP requests of one host and path prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// The `Host` that must match, in lower case without port; none matches every host.
    pub host: Option<String>,
    /// The path prefix, matched at segment borders; `/` matches every path.
    pub prefix: String,
    /// The service.
    pub service: ServiceName,
    /// Who answers; none at the moment gives 503.
    pub targets: Vec<HttpTarget>,
    /// As [`ServiceRoute::rules`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// The tags that requests get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagSource>,
}

/// One worker that answers HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTarget {
    /// The worker.
    pub worker: WorkerId,
    /// Its module, for headers and figures.
    pub module: ModuleName,
    /// Its version.
    pub version: semver::Version,
    /// Its share of the requests that no rule decides.
    pub weight: u32,
    /// Its share among the workers of its version.
    #[serde(default)]
    pub version_weight: u32,
    /// The Unix stream socket to connect to, in the base's view.
    pub socket: PathBuf,
    /// What the socket speaks.
    pub reach: HttpReach,
}

/// What a worker's `http` socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpReach {
    /// HTTP/1.1 itself (SDK workers).
    Direct,
    /// The worker's init accepts, sends one byte with one descriptor: a TCP connection that it made inside the worker's
    /// network namespace, on which HTTP/1.1 is spoken; then it closes. A packet without a descriptor means that the
    /// program did not accept.
    Dial,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker of protocol 1 says.
    #[derive(Serialize)]
    enum First {
        RoutesApplied { epoch: u64 },
    }

    /// What a worker of protocol 1 understands.
    #[derive(Debug, Deserialize)]
    struct FirstRoute {
        service: ServiceName,
        targets: Vec<Target>,
    }

    #[test]
    fn a_worker_of_the_protocol_before_is_understood_and_understands() {
        let said = rmp_serde::to_vec_named(&First::RoutesApplied { epoch: 7 }).unwrap();
        let heard = rmp_serde::from_slice(&said).unwrap();
        assert!(matches!(heard, ToSupervisor::RoutesApplied { table: None, epoch: 7 }), "{heard:?}");
        let targets = vec![Target { channel: ChannelId(3), weight: 1, version: None }];
        let route = ServiceRoute {
            service: ServiceName::new("spell").unwrap(),
            offer: Offer::Published,
            denied: false,
            targets,
            rules: Vec::new(),
            shadow: None,
        };
        let heard: FirstRoute = rmp_serde::from_slice(&rmp_serde::to_vec_named(&route).unwrap()).unwrap();
        assert_eq!((heard.service, heard.targets), (route.service, route.targets));
    }
}
