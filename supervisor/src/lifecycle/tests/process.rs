//! A worker's process, as far as the supervisor can see it.

use std::collections::{BTreeMap, BTreeSet};

use mortise_control::{
    ChannelId, ChannelReport, ChannelRole, ExportedState, Hello, HttpRoute, PROTOCOL, Phase, Released,
    ServiceDeclaration, ServiceName, ServiceRoute, ToSupervisor, WorkerId,
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
    /// It does not answer when it is asked for its state.
    ExportsNothing,
    /// It says that it cannot export its state.
    CannotExport,
    /// It says that its state is larger than it may be.
    ExportsTooMuch,
    /// It exports state of another version than it has declared.
    ExportsAnother,
    /// It keeps the memory of its state mapped.
    MapsState,
    /// It does not answer when it is given state.
    ImportsNothing,
    /// It refuses the state that it is given.
    RefusesState,
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
    /// It has written its state, and has not been called since.
    pub(super) exported: bool,
    pub(super) imported: bool,
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
            exported: false,
            imported: false,
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

    /// The version of the state that its code hands over.
    pub(super) fn hands_over(&self) -> Option<u32> {
        self.order.spec.handover.as_ref().map(|it| it.version)
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
            state: if ready { self.hands_over() } else { None },
            channels: channels.collect(),
        })
    }

    /// What it says after its welcome.
    pub(super) fn get_ready(&mut self) -> Vec<ToSupervisor> {
        if self.phase != Phase::Starting || self.has(Vice::NeverReady) {
            return Vec::new();
        }
        self.phase = Phase::Ready;
        vec![
            ToSupervisor::Declare { services: self.declares(), clients: Vec::new(), state: self.hands_over() },
            ToSupervisor::Ready,
        ]
    }

    pub(super) fn close(&mut self, channel: ChannelId) -> Option<ToSupervisor> {
        if self.has(Vice::KeepsChannels) {
            return None;
        }
        self.channels.remove(&channel)?;
        Some(ToSupervisor::Released(Released { channel, calls: 0 }))
    }

    /// What it says when it is asked for its state.
    pub(super) fn export(&self) -> Option<Result<ExportedState, String>> {
        let version = self.hands_over().expect("only who hands state over is asked for it");
        match () {
            () if self.has(Vice::ExportsNothing) => None,
            () if self.has(Vice::CannotExport) => Some(Err("the state is locked".to_owned())),
            () if self.has(Vice::ExportsTooMuch) => Some(Ok(ExportedState { version, len: u64::MAX })),
            () if self.has(Vice::ExportsAnother) => Some(Ok(ExportedState { version: version + 7, len: 9 })),
            () => Some(Ok(ExportedState { version, len: 9 })),
        }
    }

    /// What it says when it is given state.
    pub(super) fn import(&self) -> Option<Result<(), String>> {
        match () {
            () if self.has(Vice::ImportsNothing) => None,
            () if self.has(Vice::RefusesState) => Some(Err("no count in it".to_owned())),
            () => Some(Ok(())),
        }
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
