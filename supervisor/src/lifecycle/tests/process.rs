//! A worker's process, as far as the supervisor can see it.

use std::collections::{BTreeMap, BTreeSet};

use mortise_control::{
    ChannelId, ChannelReport, ChannelRole, Hello, HttpRoute, PROTOCOL, Phase, Released, ServiceDeclaration,
    ServiceName, ServiceRoute, ToSupervisor, WorkerId,
};

use crate::lifecycle::SpawnOrder;

/// What a process does not do as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Vice {
    /// It never connects.
    Silent,
    /// It connects and never becomes ready.
    NeverReady,
    /// It ends with status 3 instead of becoming ready.
    Crashes,
    /// It ends with status 0 instead of becoming ready.
    Leaves,
    /// Its code serves something else than its module.toml says.
    WrongServices,
    /// It does not answer `Attach`.
    MapsNothing,
    /// It does not answer `Close`.
    KeepsChannels,
    /// It does not answer routes.
    IgnoresRoutes,
    /// It does not answer `Drain`.
    IgnoresDrain,
    /// It does not end on SIGTERM.
    IgnoresTerm,
    /// It does not answer pings.
    Mute,
    /// It says that it is unwell.
    Unwell,
    /// Its group cannot be frozen.
    NeverFrozen,
    /// Its group cannot be thawed.
    NeverThawed,
    /// A fifth of its calls fail.
    Errs,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) order: SpawnOrder,
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) vices: BTreeSet<Vice>,
    pub(super) connected: bool,
    pub(super) welcomed: bool,
    /// What it would do it does when it is thawed.
    pub(super) frozen: bool,
    pub(super) phase: Phase,
    pub(super) channels: BTreeMap<ChannelId, Held>,
    pub(super) routes: Vec<ServiceRoute>,
    pub(super) http: Vec<HttpRoute>,
    pub(super) epoch: u64,
}

/// A process's end of a channel.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) role: ChannelRole,
    pub(super) service: ServiceName,
    pub(super) peer: WorkerId,
    pub(super) open: bool,
}

impl Process {
    pub(super) fn new(order: SpawnOrder, pid: u32, vices: BTreeSet<Vice>) -> Self {
        Self {
            order,
            pid,
            start_time: u64::from(pid) * 7,
            vices,
            connected: false,
            welcomed: false,
            frozen: false,
            phase: Phase::Starting,
            channels: BTreeMap::new(),
            routes: Vec::new(),
            http: Vec::new(),
            epoch: 0,
        }
    }

    pub(super) fn has(&self, vice: Vice) -> bool {
        self.vices.contains(&vice)
    }

    pub(super) fn declares(&self) -> Vec<ServiceDeclaration> {
        let provided = self.order.spec.provides.iter().filter(|it| it.http.is_none());
        let mut declared: Vec<_> =
            provided.map(|it| ServiceDeclaration { service: it.service.clone(), fingerprint: 7 }).collect();
        if self.has(Vice::WrongServices) {
            declared.push(ServiceDeclaration { service: super::world::service("wrong"), fingerprint: 7 });
        }
        declared
    }

    pub(super) fn hello(&self) -> ToSupervisor {
        let ready = self.phase != Phase::Starting;
        let channels = self.channels.iter().filter(|(_, it)| it.open).map(|(id, it)| ChannelReport {
            channel: *id,
            role: it.role,
            service: it.service.clone(),
            peer: it.peer,
        });
        ToSupervisor::Hello(Hello {
            protocol: PROTOCOL,
            worker: self.order.worker,
            token: self.order.token,
            phase: self.phase,
            services: if ready { self.declares() } else { Vec::new() },
            clients: Vec::new(),
            channels: channels.collect(),
        })
    }

    /// What it says after its welcome.
    pub(super) fn get_ready(&mut self) -> Vec<ToSupervisor> {
        if self.phase != Phase::Starting || self.has(Vice::NeverReady) {
            return Vec::new();
        }
        self.phase = Phase::Ready;
        vec![ToSupervisor::Declare { services: self.declares(), clients: Vec::new() }, ToSupervisor::Ready]
    }

    pub(super) fn close(&mut self, channel: ChannelId) -> Option<ToSupervisor> {
        if self.has(Vice::KeepsChannels) {
            return None;
        }
        self.channels.remove(&channel)?;
        Some(ToSupervisor::Released(Released { channel, calls: 0 }))
    }

    /// The connection is gone: what was attached and not opened is dropped.
    pub(super) fn disconnect(&mut self) {
        self.connected = false;
        self.channels.retain(|_, it| it.open);
    }

    /// Whether calls of this service would go to that worker now.
    pub(super) fn reaches(&self, service: &ServiceName, worker: WorkerId) -> bool {
        let routes = self.routes.iter().filter(|it| it.service == *service);
        routes
            .flat_map(|it| &it.targets)
            .any(|it| self.channels.get(&it.channel).is_some_and(|held| held.open && held.peer == worker))
    }
}
