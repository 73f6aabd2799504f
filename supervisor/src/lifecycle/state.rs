//! The state that `step` works on, and the order in which events and rules change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mortise_control::{ChannelId, WorkerId};

use super::channel::{Channel, Edge, EdgeState};
use super::groups::GroupBook;
use super::journal::Journal;
use super::marked::Marked;
use super::module::{Index, Module};
use super::operation::Operations;
use super::resources::Resource;
use super::routes::RouteBook;
use super::shadow::Shadowing;
use super::slots::Slots;
use super::tenants::TenantBook;
use super::touched::Touched;
use super::turn::Turn;
use super::{ModuleKey, ResourceId, Timer};
use crate::api::ModuleStatus;
use crate::lifecycle::{Action, Config, Event, Now};
use crate::store::MetaRecord;

/// Everything the supervisor knows and wants. Owned by the engine's loop alone.
#[derive(Debug)]
pub struct State {
    pub(super) config: Config,
    pub(super) meta: Meta,
    pub(super) modules: Marked<ModuleKey, Module>,
    pub(super) slots: Slots,
    pub(super) channels: Marked<ChannelId, Channel>,
    pub(super) edges: BTreeMap<Edge, EdgeState>,
    pub(super) resources: BTreeMap<ResourceId, Resource>,
    /// How often a resource that is being loaded has failed before.
    pub(super) loads: BTreeMap<ResourceId, u32>,
    pub(super) operations: Operations,
    pub(super) journal: Journal,
    pub(super) index: Index,
    pub(super) routes: RouteBook,
    pub(super) groups: GroupBook,
    /// What callers have told of comparisons with versions beside.
    pub(super) shadowings: BTreeMap<ModuleKey, Shadowing>,
    pub(super) tenants: TenantBook,
    pub(super) touched: Touched,
    /// Processes of an earlier supervisor that have not said hello yet.
    pub(super) recovering: BTreeSet<WorkerId>,
    pub(super) stopping: bool,
    pub(super) stop_at_once: bool,
    pub(super) all_stopped: bool,
    /// Modules as they were shown last.
    pub(super) shown: BTreeMap<ModuleKey, Arc<ModuleStatus>>,
}

/// The counters, and how far they are on disk.
#[derive(Debug, Default)]
pub(super) struct Meta {
    pub(super) record: MetaRecord,
    /// What this run of the supervisor has put on disk.
    pub(super) saved: Option<MetaRecord>,
    pub(super) writing: bool,
    /// Events that this run has emitted may have numbers up to here.
    pub(super) events: u64,
}

/// Event numbers are reserved on disk in blocks of this size.
pub(super) const EVENT_BLOCK: u64 = 65_536;

impl State {
    pub(super) fn empty(config: Config) -> Self {
        Self {
            config,
            meta: Meta::default(),
            modules: Marked::default(),
            slots: Slots::default(),
            channels: Marked::default(),
            edges: BTreeMap::new(),
            resources: BTreeMap::new(),
            loads: BTreeMap::new(),
            operations: Operations::default(),
            journal: Journal::default(),
            index: Index::default(),
            routes: RouteBook::default(),
            groups: GroupBook::default(),
            shadowings: BTreeMap::new(),
            tenants: TenantBook::default(),
            touched: Touched::default(),
            recovering: BTreeSet::new(),
            stopping: false,
            stop_at_once: false,
            all_stopped: false,
            shown: BTreeMap::new(),
        }
    }

    /// From now on other numbers. What waits already waits as long as it would have.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// Takes one event and says what is to be done. Never fails: what an event asks in vain is answered by actions.
    #[must_use]
    pub fn step(&mut self, event: Event, now: &Now) -> Vec<Action> {
        let mut turn = Turn::new(now);
        self.take(event, &mut turn);
        self.settle(&mut turn);
        turn.actions
    }

    fn take(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Request(submitted) => self.request(*submitted, turn),
            Event::Persisted { commit, result } => self.persisted(commit, &result, turn),
            Event::SpawnDone { worker, pid, start_time } => self.spawn_done(worker, pid, start_time, turn),
            Event::SpawnFailed { worker, reason, fault } => self.spawn_failed(worker, &reason, fault, turn),
            Event::Adopted { worker, started } => self.adopted(worker, started, turn),
            Event::Lost { worker, exit } => self.lost(worker, &exit, turn),
            Event::Message { worker, message } => self.message(worker, message, turn),
            Event::Disconnected { worker } => self.disconnected(worker, turn),
            Event::Exited { worker, exit } => self.exited(worker, &exit, turn),
            Event::Frozen { worker, memory_bytes } => self.frozen(worker, memory_bytes, turn),
            Event::Thawed { worker } => self.thawed(worker, turn),
            Event::FrostFailed { worker, reason } => self.frost_failed(worker, &reason, turn),
            Event::GroupGone { worker, remains } => self.group_gone(worker, remains, turn),
            Event::GroupBusy { worker, processes, reason } => self.group_busy(worker, processes, &reason, turn),
            Event::ChannelFailed { channel, reason } => self.channel_failed(channel, &reason, turn),
            Event::ChannelTampered { channel, writer, what } => self.channel_tampered(channel, writer, &what, turn),
            Event::ResourceLoaded { resource, bytes, digest } => self.resource_loaded(&resource, bytes, digest, turn),
            Event::ResourceFailed { resource, reason } => self.resource_failed(&resource, &reason, turn),
            Event::PackageRemoved { operation, result } => self.package_removed(&operation, result, turn),
            Event::QuotaSet { operation, tenant, result } => {
                self.quota_set(operation.as_ref(), &tenant, result, turn);
            }
            Event::LimitsSet { operation, refused } => self.limits_set(&operation, refused, turn),
            Event::Measured { operation, readings } => self.measured(&operation, &readings, turn),
            Event::StateSealed { operation, handover, result } => self.state_sealed(&operation, handover, result, turn),
            Event::Timer(timer) => self.timer(&timer, turn),
            Event::StopAll => self.stop_all(),
        }
    }

    fn timer(&mut self, timer: &Timer, turn: &mut Turn<'_>) {
        match timer {
            Timer::Ready(worker)
            | Timer::Ping(worker)
            | Timer::Pong { worker, .. }
            | Timer::Reconnect(worker)
            | Timer::Flip(worker)
            | Timer::HttpDrain(worker)
            | Timer::Drain(worker)
            | Timer::Stop(worker)
            | Timer::Backoff(worker)
            | Timer::Stable(worker)
            | Timer::Remove(worker) => self.worker_timer(timer, *worker, turn),
            Timer::Load(resource) => self.load_again(resource),
            Timer::Mapped(channel) | Timer::CalleeReleased(channel) | Timer::CallerReleased(channel) => {
                self.channel_timer(timer, *channel, turn);
            }
            Timer::Connect { caller, callee, service } => {
                self.connect_again(&Edge { caller: *caller, callee: *callee, service: service.clone() });
            }
            Timer::Routes { worker, epoch } => self.routes_timer(*worker, *epoch, turn),
            Timer::Keep { key, cohort } => self.keep_over(key, *cohort),
            Timer::Handover(operation) => self.handover_late(operation, turn),
            Timer::Look(operation) => self.look(operation, turn),
            Timer::Shadowing(key) => self.show_shadowing(key, turn),
            Timer::Receipt(operation) => self.close_receipt(operation),
            Timer::Quota(tenant) => self.enforce_again(tenant, turn),
            Timer::Persist => self.persist_again(),
        }
    }

    /// Runs the rules until none has anything left to do. A rule acts only on a difference between what is and what should be,
    /// and makes it smaller, so this ends.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>) {
        loop {
            if let Some(key) = self.touched.modules.pop_first() {
                self.staff(&key, turn);
                self.stock(&key);
            } else if let Some(resource) = self.touched.resources.pop_first() {
                self.attend_resource(&resource, turn);
            } else if let Some(worker) = self.touched.workers.pop_first() {
                self.advance(worker, turn);
            } else if let Some(channel) = self.touched.channels.pop_first() {
                self.attend_channel(channel, turn);
            } else if let Some(caller) = self.touched.callers.pop_first() {
                self.attend_caller(caller, turn);
            } else if std::mem::take(&mut self.touched.http) {
                self.attend_bases(turn);
            } else if let Some(operation) = self.touched.operations.pop_first() {
                self.operate(&operation, turn);
            } else {
                break;
            }
        }
        self.reserve_events(turn);
        self.save(turn);
        self.finish_stop(turn);
    }

    /// Event numbers are handed out by the engine; what they may reach is on disk long before they do.
    fn reserve_events(&mut self, turn: &Turn<'_>) {
        let emitted = turn.actions.iter().filter(|it| matches!(it, Action::Emit(_))).count() as u64;
        self.meta.events += emitted;
        if self.meta.events + EVENT_BLOCK / 2 > self.meta.record.events_reserved {
            self.meta.record.events_reserved = self.meta.events + EVENT_BLOCK;
        }
    }
}
