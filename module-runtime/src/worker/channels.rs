//! The life of a channel on this side.
//!
//! ```text
//!   Attach ──▶ Attached (own segment mapped) ── Open ──▶ Caller or Callee ── Close ──▶ Closing ── unmapped ──▶ Released
//!                                                          │ the peer ends by itself ──────▲
//! ```

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mortise_control::stats::Side;
use mortise_control::{
    Attach, ChannelId, ChannelRole, Encoding, Offer, Phase, Released, RouteTable, ServiceName, ServiceRoute, Target,
    ToSupervisor, WorkerId,
};
use shm_rpc::{
    CallError, Client, End, Geometry, GeometryError, OwnSegment, PeerSegment, SegmentError, ServeError, Server,
};

use super::drain;
use super::provider::Provider;
use super::shared::{Shared, State};
use crate::call::Source;
use crate::call::routes::{Expected, Outgoing, Route, Ruled};

/// A channel that this worker holds.
#[derive(Debug)]
pub(crate) enum Channel {
    /// Its own segment is mapped; the peer's has not come yet.
    Attached(Box<Attached>),
    /// This side calls.
    Caller(Arc<Outgoing>, Held),
    /// This side answers, in a task of its own.
    Callee(shm_rpc::ServerControl, Held),
    /// It ends, and something in it is still under way or mapped.
    Closing(Held),
}

/// What is known of an opened channel until it is released.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) role: ChannelRole,
    pub(crate) service: ServiceName,
    pub(crate) peer: WorkerId,
}

impl Channel {
    pub(crate) fn held(&self) -> Option<&Held> {
        match self {
            Self::Attached(_) => None,
            Self::Caller(_, held) | Self::Callee(_, held) | Self::Closing(held) => Some(held),
        }
    }
}

/// Half a channel.
#[derive(Debug)]
pub(crate) struct Attached {
    attach: Attach,
    own: OwnSegment,
    wake: OwnedFd,
    peer_geometry: Geometry,
}

/// Why a channel does not come to be.
#[derive(Debug, thiserror::Error)]
enum ChannelError {
    #[error("{found} descriptors, where {expected} are expected")]
    Descriptors { found: usize, expected: usize },
    #[error("it has not been attached")]
    NotAttached,
    #[error("the worker is draining")]
    Draining,
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

fn geometry(from: mortise_control::Geometry) -> Result<Geometry, GeometryError> {
    Geometry::new(from.slots, from.arena)
}

/// Exactly the descriptors that a message must have.
fn exactly<const N: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], ChannelError> {
    fds.try_into().map_err(|fds: Vec<OwnedFd>| ChannelError::Descriptors { found: fds.len(), expected: N })
}

impl Shared {
    /// Maps the own segment of a new channel.
    pub(crate) fn attach(&self, attach: Attach, fds: Vec<OwnedFd>) {
        let channel = attach.channel;
        match self.try_attach(attach, fds) {
            Ok(attached) => {
                self.state().channels.insert(channel, Channel::Attached(Box::new(attached)));
                self.reports.send(ToSupervisor::Mapped { channel });
            }
            Err(error) => self.give_up(channel, &error),
        }
    }

    fn try_attach(&self, attach: Attach, fds: Vec<OwnedFd>) -> Result<Attached, ChannelError> {
        if attach.role == ChannelRole::Callee {
            match *self.phase.borrow() {
                Phase::Starting | Phase::Ready | Phase::Drained => {}
                Phase::Draining => return Err(ChannelError::Draining),
            }
        }
        let [own, wake] = exactly(fds)?;
        let (caller, callee) = (geometry(attach.caller)?, geometry(attach.callee)?);
        let (own_geometry, peer_geometry) = match attach.role {
            ChannelRole::Caller => (caller, callee),
            ChannelRole::Callee => (callee, caller),
        };
        let own = OwnSegment::map(own, own_geometry)?;
        Ok(Attached { attach, own, wake, peer_geometry })
    }

    /// Maps the peer's segment and uses the channel.
    pub(crate) fn open(self: &Arc<Self>, channel: ChannelId, fds: Vec<OwnedFd>) {
        let removed = self.state().channels.remove(&channel);
        let opened = match removed {
            Some(Channel::Attached(attached)) => try_open(*attached, fds),
            Some(other) => {
                tracing::warn!(%channel, "a channel was opened twice");
                self.state().channels.insert(channel, other);
                return;
            }
            None => Err(ChannelError::NotAttached),
        };
        match opened {
            Ok((attach, end)) => self.begin(attach, end),
            Err(error) => {
                if let ChannelError::Segment(fault) = &error
                    && fault.is_the_writers_fault()
                {
                    self.reports.send(ToSupervisor::Violation { channel, what: error.to_string() });
                }
                self.give_up(channel, &error);
            }
        }
    }

    /// Uses an opened channel.
    pub(crate) fn begin(self: &Arc<Self>, attach: Attach, end: End) {
        let Attach { channel, role, service, peer, encoding, .. } = attach;
        let encoding = match encoding {
            Encoding::Positional => shm_rpc::Encoding::Positional,
            Encoding::ByName => shm_rpc::Encoding::ByName,
        };
        let held = Held { role, service: service.clone(), peer: peer.worker };
        match role {
            ChannelRole::Caller => {
                let outgoing = Outgoing::new(channel, Client::new(end), encoding);
                let mut state = self.state();
                state.channels.insert(channel, Channel::Caller(Arc::new(outgoing), held));
                state.apply_routes(&service);
            }
            ChannelRole::Callee => {
                let server = Server::new(end);
                self.state().channels.insert(channel, Channel::Callee(server.control(), held));
                drain::newcomer(self, channel);
                let provider = self.state().providers.get(&service).map(Arc::clone);
                let counter = self.figures.counter(Side::Provided, &service);
                let name = provider.as_ref().map_or("", |it| it.name);
                let source = Source { service: name, peer: Arc::new(peer), encoding, counter };
                tokio::spawn(serve(Arc::clone(self), channel, server, provider, Arc::new(source), self.busy.begin()));
            }
        }
    }

    /// Ends a channel.
    pub(crate) fn close(self: &Arc<Self>, channel: ChannelId) {
        let mut state = self.state();
        match state.channels.remove(&channel) {
            Some(Channel::Caller(outgoing, held)) => {
                outgoing.client.close();
                state.channels.insert(channel, Channel::Closing(held.clone()));
                state.apply_routes(&held.service);
                drop(state);
                tokio::spawn(let_go(Arc::clone(self), outgoing));
            }
            // The task that serves it does the rest.
            Some(Channel::Callee(control, held)) => {
                control.close();
                state.channels.insert(channel, Channel::Closing(held));
            }
            Some(Channel::Closing(held)) => {
                state.channels.insert(channel, Channel::Closing(held));
            }
            Some(Channel::Attached(_)) | None => {
                drop(state);
                self.reports.send(ToSupervisor::Released(Released { channel, calls: 0 }));
            }
        }
    }

    /// Takes the routes of a new epoch.
    pub(crate) fn set_routes(self: &Arc<Self>, epoch: u64, services: Vec<ServiceRoute>) {
        let mut state = self.state();
        state.told = services.into_iter().map(|it| (it.service.clone(), it)).collect();
        self.attend_own(&mut state);
        let known: Vec<ServiceName> = state.routes.keys().cloned().collect();
        known.iter().for_each(|it| state.apply_routes(it));
        drop(state);
        self.reports.send(ToSupervisor::RoutesApplied { table: Some(RouteTable::Services), epoch });
    }

    fn give_up(&self, channel: ChannelId, error: &ChannelError) {
        tracing::warn!(%channel, %error, "a channel does not come to be");
        self.reports.send(ToSupervisor::Released(Released { channel, calls: 0 }));
    }

    /// Lets go of the own end of a channel that has ended, and remembers it until it is unmapped.
    fn closing(&self, channel: ChannelId) {
        let mut state = self.state();
        if let Some(held) = state.channels.get(&channel).and_then(Channel::held).cloned() {
            state.channels.insert(channel, Channel::Closing(held));
        }
    }

    fn released(&self, channel: ChannelId, calls: u64) {
        self.state().channels.remove(&channel);
        self.reports.send(ToSupervisor::Released(Released { channel, calls }));
    }
}

impl State {
    /// Puts the supervisor's routes of a service in force, as far as their channels are open.
    pub(crate) fn apply_routes(&mut self, service: &ServiceName) {
        let Some(routes) = self.routes.get(service) else { return };
        let told = self.told.get(service);
        let targets = told.map_or(&[][..], |it| it.targets.as_slice());
        let caller = |channel: &ChannelId| match self.channels.get(channel)? {
            Channel::Caller(outgoing, held) if held.service == *service => Some(Arc::clone(outgoing)),
            _ => None,
        };
        let opened = |target: &Target| caller(&target.channel);
        let open = targets.iter().filter_map(|it| opened(it).map(|channel| Route { channel, weight: it.weight }));
        let rules = told.map_or(&[][..], |it| it.rules.as_slice());
        let ruled = (!rules.is_empty()).then(|| {
            let mut versions: Vec<(semver::Version, Vec<Route>)> = Vec::new();
            for target in targets {
                let (Some(channel), Some(share)) = (opened(target), &target.version) else { continue };
                let route = Route { channel, weight: share.weight };
                match versions.iter_mut().find(|(it, _)| *it == share.version) {
                    Some((_, routes)) => routes.push(route),
                    None => versions.push((share.version.clone(), vec![route])),
                }
            }
            Ruled { rules: rules.to_vec(), versions }
        });
        let own = self.own.get(service).map(|it| Route { channel: Arc::clone(it.outgoing()), weight: 1 });
        let expected = match told.map(|it| it.offer) {
            _ if told.is_some_and(|it| it.denied) => Expected::Denied,
            Some(Offer::Nobody) => Expected::Nobody,
            Some(Offer::Published | Offer::Own) | None => Expected::Somebody,
        };
        let open = open.chain(own).collect();
        let shadow = told.and_then(|it| it.shadow.as_ref()).and_then(|it| {
            let is_target = |channel: &&ChannelId| targets.iter().any(|it| it.channel == **channel);
            let channels = it.channels.iter().filter(is_target);
            let channels: Vec<_> = channels.filter_map(caller).collect();
            (!channels.is_empty()).then(|| (it.clone(), channels))
        });
        routes.replace(open, ruled, expected, shadow);
    }
}

fn try_open(attached: Attached, fds: Vec<OwnedFd>) -> Result<(Attach, End), ChannelError> {
    let [peer] = exactly(fds)?;
    let peer = PeerSegment::map(peer, attached.peer_geometry)?;
    Ok((attached.attach, End::new(attached.own, peer, attached.wake)))
}

/// Serves one channel until it ends, whoever ends it.
async fn serve(
    shared: Arc<Shared>,
    channel: ChannelId,
    mut server: Server,
    provider: Option<Arc<Provider>>,
    source: Arc<Source>,
    busy: super::busy::Token,
) {
    let control = server.control();
    let released = control.released();
    let peer = source.peer.worker;
    let ended = match provider {
        Some(provider) => provider.serve(server, source).await,
        None => {
            let ended = server
                .serve_async(|call| {
                    call.fail(&CallError::NoService);
                    std::future::ready(())
                })
                .await;
            drop(server);
            ended
        }
    };
    match ended {
        Ok(served) => tracing::debug!(%channel, %peer, ?served, "a channel has ended"),
        Err(ServeError::Violation(violation)) => {
            tracing::error!(%channel, %peer, %violation, "the caller of a channel lied");
            shared.reports.send(ToSupervisor::Violation { channel, what: violation.to_string() });
        }
        Err(error @ ServeError::Bell(_)) => tracing::error!(%channel, %peer, %error, "a channel cannot be served"),
    }
    let calls = control.served();
    shared.served.fetch_add(calls, Relaxed);
    drop(busy);
    shared.closing(channel);
    drop(control);
    released.await;
    shared.released(channel, calls);
}

/// Waits until no call of a closed channel is under way and it is unmapped.
async fn let_go(shared: Arc<Shared>, outgoing: Arc<Outgoing>) {
    if let Err(error) = outgoing.client.idle().await {
        tracing::error!(channel = %outgoing.id, %error, "nobody knows whether calls are under way");
    }
    let (channel, calls, released) = (outgoing.id, outgoing.client.finished(), outgoing.client.released());
    drop(outgoing);
    released.await;
    shared.released(channel, calls);
}
