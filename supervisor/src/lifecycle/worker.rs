//! A worker, as the supervisor knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use mortise_control::{
    ChannelId, ChannelReport, HttpRoute, ResourceName, Role, ServiceDeclaration, ServiceName, ServiceRoute, Token,
    WorkerId,
};

use super::{ModuleKey, ModuleSpec, ResourceId, Runtime, SpawnOrder};
use crate::api::ModuleLimits;
use crate::store::{EndKind, EndRecord, OccupantRecord};

/// The occupant of a slot. With each restart it gets a new id (the same slot, the next generation).
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) key: ModuleKey,
    pub(super) role: Role,
    pub(super) spec: Arc<ModuleSpec>,
    pub(super) digest: String,
    pub(super) cohort: u64,
    pub(super) token: Token,
    pub(super) uid: u32,
    /// Limits that hold instead of those of its module.toml.
    pub(super) said: ModuleLimits,
    pub(super) restarts: u32,
    pub(super) failures: u32,
    pub(super) life: Life,
    /// Since when its state, as shown, is what it is.
    pub(super) since: Timestamp,
    /// Why it is there, as shown.
    pub(super) reason: Option<String>,
    /// Why its group is still there though its process has ended.
    pub(super) busy: Option<String>,
    pub(super) process: Option<(u32, u64)>,
    pub(super) link: Link,
    /// It has been sent its welcome by this supervisor.
    pub(super) welcomed: bool,
    pub(super) ready: bool,
    /// An earlier supervisor had started it.
    pub(super) adopted: bool,
    pub(super) leaving: Option<Leaving>,
    /// Whether its group is frozen.
    pub(super) frost: Frost,
    /// Why it is to be killed, once that is decided.
    pub(super) condemned: Option<String>,
    pub(super) killed: bool,
    pub(super) oom_kills: u64,
    /// The resources it was or will be given.
    pub(super) pinned: Vec<ResourceId>,
    pub(super) services: Vec<ServiceDeclaration>,
    pub(super) clients: Vec<ServiceDeclaration>,
    /// The version of the state that its code hands over.
    pub(super) hands_over: Option<u32>,
    /// Services it calls beside those its module.toml requires (base only).
    pub(super) wants: BTreeSet<ServiceName>,
    /// Channels of which it is one end.
    pub(super) channels: BTreeSet<ChannelId>,
    /// Channels it has reported whose other end has not been heard yet.
    pub(super) reported: BTreeMap<ChannelId, ChannelReport>,
    pub(super) next_epoch: u64,
    pub(super) routes: Advice<Vec<ServiceRoute>>,
    /// Channels that were taken out of its routes, and the epoch that did it.
    pub(super) dropped: BTreeMap<ChannelId, u64>,
    pub(super) http: Advice<Vec<HttpRoute>>,
    /// Workers that this base may be sending requests to; the epoch is that of the routes that left it out.
    pub(super) http_users: BTreeMap<WorkerId, Option<u64>>,
    /// Bases have been given a time to finish their requests to it.
    pub(super) http_timed: bool,
    pub(super) ping: Option<u64>,
    pub(super) bad_pings: u32,
    /// What was wrong with its last answer, if anything was.
    pub(super) unwell: Option<&'static str>,
}

/// What there is of a worker on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// Nothing; it is to be started as soon as its resources are loaded.
    Waiting,
    /// Nothing; it is tried again when its timer is due.
    Backoff,
    /// Nothing; its record is on its way to the disk.
    Recording,
    /// It was ordered.
    Spawning,
    /// Its process is looked for after a restart of the supervisor.
    Adopting,
    /// A process.
    Running,
    /// Its process has ended; what is left of it is being removed.
    Removing(Outcome),
    /// Nothing, and it is not started again by itself.
    Settled(EndKind),
}

/// What follows when nothing of an ended worker is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its slot is free.
    Vacate,
    /// It is started again at once; this end is not its fault.
    Again,
    /// The host had not what its start takes: it is tried again for as long as that lasts.
    Short,
    /// It has failed.
    Fail {
        /// Whether its policy allows another try.
        again: bool,
    },
    /// It ended by itself, as its policy allows.
    Exit,
}

/// Its control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// It has not said hello to this supervisor.
    Unheard,
    /// Its hello was accepted; the welcome waits for its resources.
    Greeted {
        /// Whether it has had its resources already.
        again: bool,
    },
    /// It was welcomed.
    Connected,
    /// The connection broke; it may connect again.
    Broken,
}

/// A worker on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) why: Why,
    pub(super) stage: LeaveStage,
    /// Callers have had their time to take the successor.
    pub(super) flip_over: bool,
}

/// Whether a worker's group is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frost {
    /// It is not.
    None,
    /// That it will be is on its way to the disk.
    Recording,
    /// It was ordered.
    Freezing,
    /// It is.
    Frozen,
    /// Its thaw was ordered.
    Thawing,
}

/// Why a worker leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Another cohort has taken its place, and it is kept for a rollback.
    Kept,
    /// Another cohort has taken its place.
    Superseded,
    /// It is not wanted any more.
    Stopped,
    /// Its cohort was never committed: it is killed.
    RolledBack,
}

/// How far out it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaveStage {
    /// Callers and bases are made to leave it.
    Withdrawing,
    /// Nobody calls it; it waits, frozen, to be wanted again or to end.
    Kept,
    /// It finishes what is in flight.
    Draining,
    /// It was sent SIGTERM.
    Terminating,
}

/// Routes as a worker has been told them.
#[derive(Debug)]
pub(super) struct Advice<T> {
    pub(super) sent: Option<T>,
    pub(super) epoch: u64,
    pub(super) unacknowledged: BTreeSet<u64>,
}

impl<T> Default for Advice<T> {
    fn default() -> Self {
        Self { sent: None, epoch: 0, unacknowledged: BTreeSet::new() }
    }
}

impl Why {
    /// Whether it serves on until callers have taken its successor.
    pub(super) const fn makes_way(self) -> bool {
        matches!(self, Self::Kept | Self::Superseded)
    }
}

impl<T> Advice<T> {
    /// Takes an acknowledgement (it covers all earlier ones). False: no such routes are outstanding.
    pub(super) fn acknowledge(&mut self, epoch: u64) -> bool {
        let known = self.unacknowledged.contains(&epoch);
        if known {
            self.unacknowledged.retain(|it| *it > epoch);
        }
        known
    }

    /// Whether the routes of this epoch, or later ones, are in force.
    pub(super) fn in_force(&self, epoch: u64) -> bool {
        self.unacknowledged.first().is_none_or(|oldest| *oldest > epoch)
    }
}

/// What makes a worker, as far as it is not the same for all.
pub(super) struct Appointment {
    pub(super) id: WorkerId,
    pub(super) key: ModuleKey,
    pub(super) role: Role,
    pub(super) spec: Arc<ModuleSpec>,
    pub(super) digest: String,
    pub(super) cohort: u64,
    pub(super) token: Token,
    pub(super) uid: u32,
    pub(super) said: ModuleLimits,
}

impl Worker {
    /// A worker of which nothing is on the host yet.
    pub(super) fn new(made: Appointment, since: Timestamp) -> Self {
        let Appointment { id, key, role, spec, digest, cohort, token, uid, said } = made;
        Self {
            id,
            key,
            role,
            spec,
            digest,
            cohort,
            token,
            uid,
            said,
            restarts: 0,
            failures: 0,
            life: Life::Waiting,
            since,
            reason: None,
            busy: None,
            process: None,
            link: Link::Unheard,
            welcomed: false,
            ready: false,
            adopted: false,
            leaving: None,
            frost: Frost::None,
            condemned: None,
            killed: false,
            oom_kills: 0,
            pinned: Vec::new(),
            services: Vec::new(),
            clients: Vec::new(),
            hands_over: None,
            wants: BTreeSet::new(),
            channels: BTreeSet::new(),
            reported: BTreeMap::new(),
            next_epoch: 0,
            routes: Advice::default(),
            dropped: BTreeMap::new(),
            http: Advice::default(),
            http_users: BTreeMap::new(),
            http_timed: false,
            ping: None,
            bad_pings: 0,
            unwell: None,
        }
    }

    /// The same instance under its next id. What is known of its process and its peers died with the process.
    pub(super) fn successor(self, id: WorkerId, token: Token, since: Timestamp) -> Self {
        let Self { key, role, spec, digest, cohort, uid, said, .. } = self;
        let made = Appointment { id, key, role, spec, digest, cohort, token, uid, said };
        Self {
            restarts: self.restarts.saturating_add(1),
            failures: self.failures,
            oom_kills: self.oom_kills,
            reason: self.reason,
            ..Self::new(made, since)
        }
    }

    /// Whether its control connection can carry messages.
    pub(super) fn connected(&self) -> bool {
        self.link == Link::Connected
    }

    /// Whether there may be a process that holds what it was given.
    pub(super) fn alive(&self) -> bool {
        matches!(self.life, Life::Spawning | Life::Adopting | Life::Running)
    }

    /// Whether it has said hello to this supervisor.
    pub(super) fn heard(&self) -> bool {
        self.link != Link::Unheard
    }

    /// Whether its process can answer calls.
    pub(super) fn serves(&self) -> bool {
        self.ready && self.alive() && self.condemned.is_none() && self.frost == Frost::None
    }

    /// Whether its group is, or is about to be, frozen.
    pub(super) fn is_frozen(&self) -> bool {
        matches!(self.frost, Frost::Recording | Frost::Freezing | Frost::Frozen)
    }

    /// Whether it can answer calls and nobody wants to be rid of it.
    pub(super) fn stays(&self) -> bool {
        self.serves() && self.leaving.is_none()
    }

    /// Whether it may be given channels to call on.
    pub(super) fn calls(&self) -> bool {
        let ending = self.leaving.as_ref().is_some_and(|it| it.stage == LeaveStage::Terminating);
        self.role != Role::Http && self.alive() && self.condemned.is_none() && !ending
    }

    /// Whether it is told routes and can be expected to take them.
    pub(super) fn takes_routes(&self) -> bool {
        self.ready && self.connected() && self.calls() && !self.is_kept()
    }

    /// Whether the routes that it was told last are in force there.
    pub(super) fn has_taken_routes(&self) -> bool {
        self.reported.is_empty() && self.routes.unacknowledged.is_empty() && self.routes.sent.is_some()
    }

    /// The services it may call.
    pub(super) fn called_services(&self) -> impl Iterator<Item = &ServiceName> {
        self.spec.requires.iter().chain(&self.wants)
    }

    pub(super) fn maps(&self) -> &[ResourceName] {
        &self.spec.maps
    }

    pub(super) fn provides_http(&self) -> bool {
        self.spec.provides.iter().any(|it| it.http.is_some())
    }

    pub(super) fn order(&self) -> SpawnOrder {
        SpawnOrder {
            worker: self.id,
            role: self.role,
            key: self.key.clone(),
            spec: Arc::clone(&self.spec),
            digest: self.digest.clone(),
            token: self.token,
            uid: self.uid,
            limits: self.said,
        }
    }

    /// What is kept of it on disk; none while nothing of it has ever been on the host.
    pub(super) fn occupant(&self) -> Option<OccupantRecord> {
        let ended = match self.life {
            Life::Waiting => return None,
            Life::Settled(kind) => {
                Some(EndRecord { kind, reason: self.reason.clone().unwrap_or_default(), at: self.since })
            }
            _ => None,
        };
        Some(OccupantRecord {
            key: self.key.clone(),
            version: self.spec.version.clone(),
            digest: self.digest.clone(),
            cohort: self.cohort,
            token: self.token,
            uid: self.uid,
            process: self.process,
            restarts: self.restarts,
            failures: self.failures,
            frozen: self.is_frozen(),
            ended,
        })
    }
}

/// The role of a module's workers; none if it has no workers.
pub(super) fn role(runtime: &Runtime) -> Option<Role> {
    match runtime {
        Runtime::Sdk => Some(Role::Sdk),
        Runtime::Http => Some(Role::Http),
        Runtime::Base => Some(Role::Base),
        Runtime::Resource { .. } => None,
    }
}
