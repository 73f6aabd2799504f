//! A simulated host: store, processes, timers. It obeys every action and checks what must never be asked of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use mortise_control::{ChannelId, ChannelRole, Phase, Role, RouteTable, TenantName, ToSupervisor, WorkerId};

use super::chance::Chance;
use super::page;
use super::process::{Held, Process, Vice};
use super::world::tenant;
use crate::api::{ApiError, ModuleLimits, Operation, OperationId, OperationState, Request, TenantLimits};
use crate::lifecycle::turn::Turn;
use crate::lifecycle::worker::LeaveStage;
use crate::lifecycle::{
    Action, Config, Event, Exit, ExitStatus, ModuleKey, Mono, Now, Package, Reading, Remains, ResourceId, StartFault,
    State, Submitted, Ticket, Timer,
};
use crate::store::{Change, Records, WorkerRecord};

/// Who reports: what one of them reports arrives in order, between them anything goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Store,
    Socket(WorkerId),
    Process(WorkerId),
    Channels,
    Loader,
    Packages,
    Figures,
}

/// How often it is checked that no rule was left out: that costs a look at everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    AfterEveryEvent,
    AtTheEnd,
}

pub(super) struct Host {
    pub(super) checks: Checks,
    pub(super) events: usize,
    /// Time spent in `step`, for those who print it.
    pub(super) spent: Duration,
    pub(super) slowest: Duration,
    pub(super) state: State,
    pub(super) disk: Records,
    pub(super) now: Mono,
    pub(super) coming: BTreeMap<Source, VecDeque<Event>>,
    pub(super) timers: BTreeMap<Timer, Mono>,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    pub(super) groups: BTreeSet<WorkerId>,
    /// Channels whose memfds are held here; both ends' acknowledgements.
    pub(super) made: BTreeMap<ChannelId, BTreeSet<WorkerId>>,
    pub(super) loaded: BTreeMap<ResourceId, bool>,
    /// Memory for state that is held here, and who writes it.
    pub(super) handed: BTreeMap<u64, WorkerId>,
    pub(super) packages: BTreeMap<String, Package>,
    pub(super) limits: BTreeMap<WorkerId, ModuleLimits>,
    /// What the kernel says that workers use.
    pub(super) memory: Vec<(WorkerId, u64)>,
    /// Workers that the kernel does not keep within other limits.
    pub(super) too_large: BTreeSet<WorkerId>,
    pub(super) quotas: BTreeMap<TenantName, TenantLimits>,
    pub(super) answers: BTreeMap<Ticket, Result<Operation, ApiError>>,
    pub(super) finished: BTreeMap<OperationId, Operation>,
    pub(super) log: Vec<String>,
    /// The event stream.
    pub(super) told: Vec<String>,
    pub(super) all_stopped: bool,
    pub(super) stopping: bool,
    /// What the next transactions come to; empty: they succeed.
    pub(super) store_fails: u32,
    pub(super) vices: BTreeMap<(String, u64), BTreeSet<Vice>>,
    pub(super) spawn_fails: u32,
    /// Whether it is the host that lacks something then.
    pub(super) short: bool,
    pub(super) channel_fails: u32,
    pub(super) load_fails: u32,
    pub(super) busy_groups: u32,
    pub(super) quota_fails: u32,
    /// Calls that each worker has answered, and those of them that failed. Each look at them finds some more.
    pub(super) answered: BTreeMap<WorkerId, (u64, u64)>,
    /// How many more that is.
    pub(super) calls_a_look: u64,
    pub(super) chance: Chance,
    pub(super) random: bool,
    pub(super) actions: u64,
    next_pid: u32,
    next_ticket: u64,
    config: Config,
    leaving: BTreeSet<WorkerId>,
    /// Cohorts that were on disk as running beside another. One that is not any more may be routed to until the state has heard of that.
    beside: BTreeSet<(ModuleKey, u64)>,
}

fn mark(now: Mono, chance: &mut Chance) -> Now {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&chance.number().to_le_bytes());
    let wall = Timestamp::from_second(1_700_000_000).unwrap();
    Now { mono: now, wall, seed }
}

impl Host {
    pub(super) fn new() -> Self {
        Self::random_or_not(1, false)
    }

    pub(super) fn random(seed: u64) -> Self {
        Self::random_or_not(seed, true)
    }

    fn random_or_not(seed: u64, random: bool) -> Self {
        let mut chance = Chance::new(seed);
        let config = Config::default();
        let (state, actions) = State::restore(config.clone(), Records::default(), &mark(Mono(1), &mut chance));
        let mut host = Self {
            checks: Checks::AfterEveryEvent,
            events: 0,
            spent: Duration::ZERO,
            slowest: Duration::ZERO,
            state,
            disk: Records::default(),
            now: Mono(1),
            coming: BTreeMap::new(),
            timers: BTreeMap::new(),
            processes: BTreeMap::new(),
            groups: BTreeSet::new(),
            made: BTreeMap::new(),
            loaded: BTreeMap::new(),
            handed: BTreeMap::new(),
            packages: BTreeMap::new(),
            limits: BTreeMap::new(),
            memory: Vec::new(),
            too_large: BTreeSet::new(),
            quotas: BTreeMap::new(),
            answers: BTreeMap::new(),
            finished: BTreeMap::new(),
            log: Vec::new(),
            told: Vec::new(),
            all_stopped: false,
            stopping: false,
            store_fails: 0,
            vices: BTreeMap::new(),
            spawn_fails: 0,
            short: false,
            channel_fails: 0,
            load_fails: 0,
            busy_groups: 0,
            quota_fails: 0,
            answered: BTreeMap::new(),
            calls_a_look: 1000,
            chance,
            random,
            actions: 0,
            next_pid: 100,
            next_ticket: 1,
            config,
            leaving: BTreeSet::new(),
            beside: BTreeSet::new(),
        };
        host.perform_all(actions);
        host
    }

    // ---- what happens ----

    pub(super) fn event(&mut self, event: Event) {
        let now = mark(self.now, &mut self.chance);
        self.log.push(format!("{event:?}"));
        self.events += 1;
        let before = Instant::now();
        let actions = self.state.step(event, &now);
        let spent = before.elapsed();
        self.spent += spent;
        self.slowest = self.slowest.max(spent);
        self.perform_all(actions);
        if self.checks == Checks::AfterEveryEvent {
            let (shown, fresh) = (self.state.show(), self.state.snapshot());
            assert_eq!(shown.modules, fresh.modules, "what is shown is what there is");
            self.check_rules_are_level(&now);
            self.check_nobody_left_alone();
        }
    }

    pub(super) fn coming(&mut self, source: Source, event: Event) {
        self.coming.entry(source).or_default().push_back(event);
    }

    pub(super) fn says(&mut self, worker: WorkerId, message: ToSupervisor) {
        self.coming(Source::Socket(worker), Event::Message { worker, message });
    }

    /// Delivers one event that is under way. False: there is none.
    pub(super) fn deliver(&mut self) -> bool {
        let sources: Vec<Source> =
            self.coming.iter().filter(|(_, it)| !it.is_empty()).map(|(it, _)| it.clone()).collect();
        if sources.is_empty() {
            return false;
        }
        let chosen = if self.random { self.chance.below(sources.len()) } else { 0 };
        let event = self.coming.get_mut(&sources[chosen]).and_then(VecDeque::pop_front).unwrap();
        self.event(event);
        true
    }

    /// Delivers the next event of this source. False: there is none.
    pub(super) fn deliver_from(&mut self, source: &Source) -> bool {
        let event = self.coming.get_mut(source).and_then(VecDeque::pop_front);
        event.map(|it| self.event(it)).is_some()
    }

    pub(super) fn deliver_all(&mut self) {
        for _ in 0..200_000 {
            if !self.deliver() {
                return;
            }
        }
        panic!("events without end: {:#?}", self.log.iter().rev().take(30).collect::<Vec<_>>());
    }

    /// Lets the earliest timer come due. False: there is none but those that go on for ever.
    pub(super) fn tick(&mut self) -> bool {
        let endless = |it: &Timer| matches!(it, Timer::Ping(_));
        let next = self.timers.iter().filter(|(it, _)| !endless(it)).min_by_key(|(_, at)| **at);
        let Some((timer, at)) = next.map(|(timer, at)| (timer.clone(), *at)) else { return false };
        self.timers.remove(&timer);
        self.now = self.now.max(at);
        self.event(Event::Timer(timer));
        true
    }

    /// Lets this timer come due.
    pub(super) fn due(&mut self, timer: &Timer) {
        let at = self.timers.remove(timer).unwrap_or_else(|| panic!("{timer:?} is not set: {:#?}", self.timers));
        self.now = self.now.max(at);
        self.event(Event::Timer(timer.clone()));
        self.deliver_all();
    }

    /// Until nothing more happens, however long that takes.
    pub(super) fn quiesce(&mut self) {
        for _ in 0..5_000 {
            self.deliver_all();
            if !self.tick() {
                return;
            }
        }
        panic!("timers without end: {:#?}", self.timers);
    }

    pub(super) fn submit(&mut self, id: &str, request: Request) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let package = match &request {
            Request::Install { digest, .. } => self.packages.get(digest).cloned(),
            _ => None,
        };
        let operation = OperationId(id.to_owned());
        let used = self.memory.clone();
        self.event(Event::Request(Box::new(Submitted { ticket, operation, request, package, used })));
        ticket
    }

    /// Asks, and lets everything happen that happens without waiting for a timer.
    pub(super) fn ask(&mut self, request: Request) -> Result<Operation, ApiError> {
        let id = format!("op-{}", self.next_ticket);
        let ticket = self.submit(&id, request);
        self.deliver_all();
        self.answers
            .remove(&ticket)
            .expect("every request is answered")
            .map(|accepted| self.finished.get(&accepted.id).cloned().unwrap_or(accepted))
    }

    /// Asks for what must end well.
    pub(super) fn done(&mut self, request: Request) -> Operation {
        let operation = self.ask(request.clone()).unwrap_or_else(|error| panic!("{request:?}: {error:?}"));
        assert_eq!(operation.state, OperationState::Done, "{operation:#?}");
        operation
    }

    pub(super) fn install(&mut self, package: Package) {
        let digest = package.digest.clone();
        self.packages.insert(digest.clone(), package);
        self.done(Request::Install { tenant: tenant(), digest });
    }

    pub(super) fn vice(&mut self, module: &str, major: u64, vices: &[Vice]) {
        self.vices.insert((module.to_owned(), major), vices.iter().copied().collect());
    }

    /// The supervisor dies and comes back; what was on its way to it is lost.
    pub(super) fn restart_supervisor(&mut self) {
        self.coming.clear();
        self.timers.clear();
        self.made.clear();
        self.loaded.clear();
        self.handed.clear();
        self.answers.clear();
        self.stopping = false;
        self.leaving.clear();
        for process in self.processes.values_mut() {
            process.disconnect();
        }
        self.now = Mono(self.now.0 + 1_000_000);
        self.log.push("-- the supervisor returns".to_owned());
        let now = mark(self.now, &mut self.chance);
        let (state, actions) = State::restore(self.config.clone(), self.disk.clone(), &now);
        self.state = state;
        self.perform_all(actions);
        self.check_rules_are_level(&now);
    }

    /// The host is started anew: processes and groups are gone, the disk is as it was.
    pub(super) fn reboot(&mut self) {
        self.processes.clear();
        self.groups.clear();
        self.restart_supervisor();
    }

    /// The supervisor dies in the middle of what it does for an event.
    pub(super) fn die_during(&mut self, event: Event) {
        let now = mark(self.now, &mut self.chance);
        self.log.push(format!("{event:?} and it dies"));
        let mut actions = self.state.step(event, &now);
        let performed = self.chance.below(actions.len() + 1);
        actions.truncate(performed);
        self.perform_all(actions);
        self.restart_supervisor();
    }

    pub(super) fn exit(&mut self, worker: WorkerId, status: ExitStatus) {
        if self.processes.remove(&worker).is_some() {
            let exit = Exit { status, oom_kills: 0, last_lines: vec!["last words".to_owned()] };
            self.coming(Source::Process(worker), Event::Exited { worker, exit });
        }
    }

    /// The control connection of a worker breaks, and it connects again.
    pub(super) fn break_connection(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        if !process.connected || process.frozen {
            return;
        }
        process.disconnect();
        let hello = process.hello();
        self.coming(Source::Socket(worker), Event::Disconnected { worker });
        self.connect(worker, hello);
    }

    fn connect(&mut self, worker: WorkerId, hello: ToSupervisor) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.connected = true;
        }
        self.says(worker, hello);
    }

    // ---- what is done ----

    fn perform_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.actions += 1;
            if !matches!(action, Action::SetTimer { .. } | Action::Emit(_)) {
                self.log.push(format!("    {action:?}"));
            }
            self.perform(action);
        }
    }

    fn connected(&mut self, worker: WorkerId) -> Option<&mut Process> {
        // What is sent before the state has heard of the end of a connection is lost with it: the next one has not been accepted yet.
        let breaks = |it: &Event| matches!(it, Event::Disconnected { .. });
        if self.coming.get(&Source::Socket(worker)).is_some_and(|it| it.iter().any(breaks)) {
            return None;
        }
        let process = self.processes.get_mut(&worker).filter(|it| it.connected)?;
        assert!(!process.frozen, "worker {worker} is frozen and is told something");
        Some(process)
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { commit, changes } => {
                let fails = self.store_fails > 0;
                let result = if fails {
                    self.store_fails -= 1;
                    Err("no space left on device".to_owned())
                } else {
                    for change in changes {
                        if let Change::PutOperation(record) = &change {
                            let Operation { request, steps, .. } = &record.operation;
                            steps.iter().for_each(|it| page::check(request, &it.step));
                        }
                        if let Change::PutModule(record) = &change {
                            let beside = record.beside.as_ref().map(|it| (record.key.clone(), it.cohort));
                            self.beside.extend(beside);
                        }
                        write(&mut self.disk, change);
                    }
                    Ok(())
                };
                self.coming(Source::Store, Event::Persisted { commit, result });
            }
            Action::Answer { ticket, result } => {
                if let Ok(operation) = &result {
                    assert!(self.on_disk(&operation.id).is_some(), "answered before it is on disk: {operation:?}");
                }
                let old = self.answers.insert(ticket, result.map(|it| *it));
                assert!(old.is_none(), "answered twice");
            }
            Action::Finish(operation) => {
                assert_ne!(operation.state, OperationState::Running);
                assert_eq!(self.on_disk(&operation.id), Some(&*operation), "finished before its end is on disk");
                self.finished.insert(operation.id.clone(), *operation);
            }
            Action::Progress(operation) => {
                assert!(self.on_disk(&operation.id).is_some(), "{operation:?} goes on before it is on disk");
            }
            Action::Emit(event) => self.told.push(event.text),
            Action::Spawn(order) => self.spawn(*order),
            Action::Adopt(order) => {
                let worker = order.spawn.worker;
                let found = self
                    .processes
                    .get(&worker)
                    .filter(|it| it.pid == order.pid && it.start_time == order.start_time)
                    .map(Process::hello);
                match found {
                    Some(hello) => {
                        self.coming(
                            Source::Process(worker),
                            Event::Adopted { worker, started: started(order.start_time) },
                        );
                        let process = &self.processes[&worker];
                        if !process.has(Vice::Silent) && !process.frozen {
                            self.connect(worker, hello);
                        }
                    }
                    None => {
                        let status =
                            if self.groups.contains(&worker) { ExitStatus::Unknown } else { ExitStatus::Swept };
                        let exit = Exit { status, ..Exit::default() };
                        self.coming(Source::Process(worker), Event::Lost { worker, exit });
                    }
                }
            }
            Action::SendWelcome { worker, resources } => {
                for (_, resource) in &resources {
                    assert_eq!(self.loaded.get(resource), Some(&true), "{resource:?} is given and not loaded");
                }
                // It may be frozen since it said hello: then it reads this later.
                let Some(process) = self.processes.get_mut(&worker).filter(|it| it.connected) else { return };
                process.welcomed = true;
                if process.has(Vice::Crashes) && process.phase == Phase::Starting {
                    return self.exit(worker, ExitStatus::Code(3));
                }
                if process.has(Vice::Leaves) && process.phase == Phase::Starting {
                    return self.exit(worker, ExitStatus::Code(0));
                }
                for message in process.get_ready() {
                    self.says(worker, message);
                }
            }
            Action::Disconnect { worker, .. } => {
                if let Some(process) = self.connected(worker) {
                    process.disconnect();
                    let hello = process.hello();
                    self.coming.remove(&Source::Socket(worker));
                    self.connect(worker, hello);
                }
            }
            Action::MakeChannel { channel, caller, callee } => {
                self.check_grant(caller.0, callee.0, &caller.1.service);
                if self.channel_fails > 0 {
                    self.channel_fails -= 1;
                    let reason = "too many open files".to_owned();
                    return self.coming(Source::Channels, Event::ChannelFailed { channel, reason });
                }
                self.made.insert(channel, BTreeSet::new());
                self.check_not_handed_over(callee.0);
                for (worker, attach) in [caller, callee] {
                    let Some(process) = self.connected(worker) else { continue };
                    let held = Held {
                        role: attach.role,
                        service: attach.service.clone(),
                        peer: attach.peer.worker,
                        open: false,
                    };
                    process.channels.insert(channel, held);
                    if !process.has(Vice::MapsNothing) {
                        self.says(worker, ToSupervisor::Mapped { channel });
                    }
                }
            }
            Action::SealAndOpen { channel, caller, callee } => {
                assert!(self.made.remove(&channel).is_some(), "sealed twice, or never made");
                for worker in [caller, callee] {
                    if let Some(held) = self.connected(worker).and_then(|it| it.channels.get_mut(&channel)) {
                        held.open = true;
                    }
                }
            }
            Action::SendClose { worker, channel } => {
                let Some(process) = self.connected(worker) else { return };
                if let Some(message) = process.close(channel) {
                    self.says(worker, message);
                }
            }
            Action::ForgetChannel { channel } => {
                self.made.remove(&channel);
            }
            Action::SendRoutes { worker, epoch, services } => {
                for target in services.iter().flat_map(|it| &it.targets) {
                    let Some(held) = self.processes.get(&worker).and_then(|it| it.channels.get(&target.channel)) else {
                        continue;
                    };
                    let peer = held.peer;
                    // What comes with a group calls what comes with it, before anybody calls either.
                    if self.is_committed(worker) {
                        self.check_committed(peer);
                    }
                }
                let Some(process) = self.connected(worker) else { return };
                assert!(epoch > process.epoch, "epochs grow: {epoch:x} after {:x}", process.epoch);
                process.epoch = epoch;
                process.routes = services;
                if !process.has(Vice::IgnoresRoutes) {
                    self.says(worker, ToSupervisor::RoutesApplied { table: Some(RouteTable::Services), epoch });
                }
            }
            Action::SendHttpRoutes { worker, epoch, routes } => {
                for target in routes.iter().flat_map(|it| &it.targets) {
                    self.check_committed(target.worker);
                }
                let Some(process) = self.connected(worker) else { return };
                assert_eq!(process.order.role, Role::Base);
                assert!(epoch > process.epoch, "epochs grow: {epoch:x} after {:x}", process.epoch);
                process.epoch = epoch;
                let before = targets(&process.http);
                let after = targets(&routes);
                process.http = routes;
                if !process.has(Vice::IgnoresRoutes) {
                    self.says(worker, ToSupervisor::RoutesApplied { table: Some(RouteTable::Http), epoch });
                    for gone in before.difference(&after) {
                        self.says(worker, ToSupervisor::HttpDrained { worker: *gone });
                    }
                }
            }
            Action::SendDrain { worker, .. } => {
                let Some(process) = self.connected(worker) else { return };
                process.phase = Phase::Draining;
                if !process.has(Vice::IgnoresDrain) {
                    process.phase = Phase::Drained;
                    self.says(worker, ToSupervisor::Drained { served: 0 });
                }
            }
            Action::SendPing { worker, nonce } => {
                let Some(process) = self.connected(worker) else { return };
                if !process.has(Vice::Mute) {
                    let healthy = !process.has(Vice::Unwell);
                    self.says(worker, ToSupervisor::Pong { nonce, healthy });
                }
            }
            Action::Terminate { worker } => {
                if !self.processes.get(&worker).is_some_and(|it| it.has(Vice::IgnoresTerm)) {
                    self.exit(worker, ExitStatus::Code(0));
                }
            }
            Action::Freeze { worker } => {
                let record = self.record(worker).and_then(|it| it.occupant.as_ref());
                assert!(record.is_some_and(|it| it.frozen), "worker {worker} is frozen before that is on disk");
                let Some(process) = self.processes.get_mut(&worker) else { return };
                assert!(process.channels.is_empty(), "worker {worker} is frozen with channels: {:?}", process.channels);
                let event = if process.has(Vice::NeverFrozen) {
                    Event::FrostFailed { worker, reason: "no freezer".to_owned() }
                } else {
                    process.frozen = true;
                    Event::Frozen { worker, memory_bytes: 2000 }
                };
                self.coming(Source::Process(worker), event);
            }
            Action::Thaw { worker } => {
                let Some(process) = self.processes.get_mut(&worker) else { return };
                if process.has(Vice::NeverThawed) {
                    let reason = "device or resource busy".to_owned();
                    return self.coming(Source::Process(worker), Event::FrostFailed { worker, reason });
                }
                assert!(std::mem::take(&mut process.frozen), "worker {worker} is thawed and was not frozen");
                let waiting = (!process.connected && !process.has(Vice::Silent)).then(|| process.hello());
                self.coming(Source::Process(worker), Event::Thawed { worker });
                if let Some(hello) = waiting {
                    self.connect(worker, hello);
                }
            }
            Action::Kill { worker } => self.exit(worker, ExitStatus::Signal(9)),
            Action::RemoveGroup { worker } => {
                self.processes.remove(&worker);
                if self.busy_groups > 0 {
                    self.busy_groups -= 1;
                    let reason = "device or resource busy".to_owned();
                    return self.coming(Source::Process(worker), Event::GroupBusy { worker, processes: 1, reason });
                }
                self.groups.remove(&worker);
                let remains = Remains { cgroups_removed: 1, descriptors_closed: 4, memory_bytes: 1000 };
                self.coming(Source::Process(worker), Event::GroupGone { worker, remains });
            }
            Action::LoadResource { resource, .. } => {
                assert!(!self.loaded.contains_key(&resource), "{resource:?} is loaded twice");
                let event = if self.load_fails > 0 {
                    self.load_fails -= 1;
                    Event::ResourceFailed { resource, reason: "no memory".to_owned() }
                } else {
                    self.loaded.insert(resource.clone(), true);
                    Event::ResourceLoaded { resource, bytes: 4096, digest: "d".to_owned() }
                };
                self.coming(Source::Loader, event);
            }
            Action::ReleaseResource { resource } => {
                assert!(self.loaded.remove(&resource).is_some(), "{resource:?} is released and not loaded");
            }
            Action::RemovePackage { operation, digests, .. } => {
                for digest in &digests {
                    assert!(self.disk.versions.iter().all(|it| it.digest != *digest), "a package in use is removed");
                }
                self.coming(Source::Packages, Event::PackageRemoved { operation, result: Ok(1234) });
            }
            Action::SetQuota { operation, tenant, limits } => {
                let result = match self.quota_fails {
                    0 => {
                        self.quotas.insert(tenant.clone(), limits);
                        Ok(())
                    }
                    _ => {
                        self.quota_fails -= 1;
                        Err("device or resource busy".to_owned())
                    }
                };
                self.coming(Source::Packages, Event::QuotaSet { operation, tenant, result });
            }
            Action::SetLimits { operation, limits, workers } => {
                let mut refused = Vec::new();
                for (worker, _) in workers {
                    // One that is gone is no reason.
                    if self.too_large.contains(&worker) {
                        refused.push((worker, "the kernel says EBUSY".to_owned()));
                    } else if self.groups.contains(&worker) {
                        self.limits.insert(worker, limits);
                    }
                }
                self.coming(Source::Figures, Event::LimitsSet { operation, refused });
            }
            Action::Measure { operation, workers } => {
                let mut readings = Vec::new();
                for worker in workers {
                    let Some(process) = self.processes.get(&worker) else { continue };
                    let (calls, errors) = self.answered.entry(worker).or_default();
                    *calls += self.calls_a_look;
                    *errors += if process.has(Vice::Errs) { self.calls_a_look / 5 } else { 0 };
                    let reading = Reading { calls: *calls, errors: *errors, ..Reading::default() };
                    readings.push((worker, reading));
                }
                self.coming(Source::Figures, Event::Measured { operation, readings });
            }
            Action::ExportState { handover, worker, .. } => {
                self.handed.insert(handover, worker);
                let Some(process) = self.connected(worker) else { return };
                let called = process.channels.values().find(|it| it.role == ChannelRole::Callee);
                assert!(called.is_none(), "worker {worker} is asked for its state and can be called: {called:?}");
                if let Some(outcome) = process.export() {
                    process.exported = true;
                    self.says(worker, ToSupervisor::StateExported { handover, outcome });
                }
            }
            Action::SealState { operation, handover, .. } => {
                let from = self.handed[&handover];
                let maps = self.processes.get(&from).is_some_and(|it| it.has(Vice::MapsState));
                let result = if maps { Err("the worker still has its memory mapped".to_owned()) } else { Ok(()) };
                self.coming(Source::Channels, Event::StateSealed { operation, handover, result });
            }
            Action::ImportState { handover, worker, .. } => {
                assert!(self.handed.remove(&handover).is_some(), "imported twice, or never exported");
                let Some(process) = self.connected(worker) else { return };
                if let Some(outcome) = process.import() {
                    process.imported = outcome.is_ok();
                    self.says(worker, ToSupervisor::StateImported { handover, outcome });
                }
            }
            Action::ForgetState { handover } => {
                self.handed.remove(&handover);
            }
            Action::SetTimer { timer, at } => {
                self.timers.insert(timer, at);
            }
            Action::AllStopped => {
                assert!(!self.all_stopped, "stopped twice");
                self.all_stopped = true;
            }
        }
    }

    fn spawn(&mut self, order: crate::lifecycle::SpawnOrder) {
        let worker = order.worker;
        let record = self.disk.workers.iter().find(|it| it.worker == worker);
        let occupant = record.and_then(|it| it.occupant.as_ref()).expect("spawned before its record is on disk");
        assert_eq!((occupant.token, occupant.process), (order.token, None));
        assert!(self.groups.iter().all(|it| it.slot != worker.slot), "two occupants of slot {}", worker.slot);
        assert!(!self.stopping, "spawned while stopping");
        self.groups.insert(worker);
        self.limits.insert(worker, order.limits);
        if self.spawn_fails > 0 {
            self.spawn_fails -= 1;
            let (reason, fault) = match self.short {
                true => ("clone3: EAGAIN".to_owned(), StartFault::Shortage),
                false => ("mount: EPERM".to_owned(), StartFault::Other),
            };
            return self.coming(Source::Process(worker), Event::SpawnFailed { worker, reason, fault });
        }
        self.next_pid += 1;
        let vices =
            self.vices.get(&(order.key.module.to_string(), order.spec.version.major)).cloned().unwrap_or_default();
        let process = Process::new(order, self.next_pid, vices);
        let (pid, start_time) = (process.pid, process.start_time);
        let hello = process.hello();
        let silent = process.has(Vice::Silent);
        self.processes.insert(worker, process);
        self.coming(Source::Process(worker), Event::SpawnDone { worker, pid, start_time });
        if !silent {
            self.connect(worker, hello);
        }
    }

    pub(super) fn on_disk(&self, id: &OperationId) -> Option<&Operation> {
        self.disk.operations.iter().map(|it| &it.operation).find(|it| it.id == *id)
    }

    // ---- what must always hold ----

    fn record(&self, worker: WorkerId) -> Option<&WorkerRecord> {
        self.disk.workers.iter().find(|it| it.worker == worker)
    }

    fn check_grant(&self, caller: WorkerId, callee: WorkerId, service: &mortise_control::ServiceName) {
        let key = |it: WorkerId| self.record(it).and_then(|it| it.occupant.as_ref()).map(|it| it.key.clone()).unwrap();
        let (caller_key, callee_key) = (key(caller), key(callee));
        if caller_key.tenant != callee_key.tenant {
            let of = |tenant| self.state.tenants.get(tenant).expect("a tenant that shares is declared");
            let to = of(&callee_key.tenant).exports.get(service);
            assert!(to.is_some_and(|it| it.contains(&caller_key.tenant)), "a channel that the callee's tenant forbids");
            assert_eq!(
                of(&caller_key.tenant).imports.get(service),
                Some(&callee_key.tenant),
                "that the caller's does not mean"
            );
            let spec = self.processes.get(&callee).map(|it| &it.order.spec);
            assert!(spec.is_none_or(|it| it.provided(service).is_some_and(|it| it.export)), "that its author forbids");
        }
        // What is on disk may be one answer of the store ahead of what the state knows.
        let published = &self.state.modules[&callee_key].record.published;
        assert!(published.contains(service), "a channel to {service}, which is not published");
        if let Some(process) = self.processes.get(&caller) {
            let asked = process.order.spec.requires.contains(service) || process.order.role == Role::Base;
            assert!(asked, "a channel that the caller never asked for");
        }
    }

    /// Nothing is routed to a worker whose cohort is not committed.
    fn check_committed(&self, worker: WorkerId) {
        assert!(self.is_committed(worker), "routed to worker {worker} before the commit is on disk");
    }

    /// A worker whose state is another's for good is never called again.
    fn check_not_handed_over(&mut self, worker: WorkerId) {
        let occupant = self.record(worker).and_then(|it| it.occupant.as_ref());
        let Some((key, cohort)) = occupant.map(|it| (it.key.clone(), it.cohort)) else { return };
        let Some(process) = self.processes.get_mut(&worker).filter(|it| it.exported) else { return };
        // What is on disk may be one answer of the store ahead of what the state knows, but not behind.
        let committed = self.disk.modules.iter().any(|it| it.key == key && it.cohort > cohort);
        assert!(!committed, "worker {worker} is called after it has handed its state over");
        process.exported = false;
    }

    fn is_committed(&self, worker: WorkerId) -> bool {
        let Some(occupant) = self.record(worker).and_then(|it| it.occupant.as_ref()) else { return true };
        let module = self.disk.modules.iter().find(|it| it.key == occupant.key).unwrap();
        let beside = self.beside.contains(&(occupant.key.clone(), occupant.cohort));
        occupant.cohort <= module.cohort || beside
    }

    /// Every rule has run that had anything to do: running all of them again does nothing.
    fn check_rules_are_level(&mut self, now: &Now) {
        let mut turn = Turn::new(now);
        self.state.touch_everything();
        self.state.settle(&mut turn);
        assert!(turn.actions.is_empty(), "a rule was not run: {:#?}", turn.actions);
    }

    /// A worker is superseded only by workers that are ready.
    fn check_nobody_left_alone(&mut self) {
        let superseded: Vec<(WorkerId, ModuleKey)> =
            self.state
                .slots
                .workers()
                .filter(|it| {
                    it.alive()
                        && it.leaving.as_ref().is_some_and(|it| {
                            it.why.makes_way() && !it.flip_over && it.stage == LeaveStage::Withdrawing
                        })
                })
                .map(|it| (it.id, it.key.clone()))
                .collect();
        for (id, key) in superseded {
            if self.leaving.insert(id) {
                let over = self.state.has_handed_over(&key);
                assert!(over || self.state.staffed(&key), "worker {id} leaves while its successors are not ready");
            }
        }
    }

    /// Workers of a module that are ready, by what their processes say.
    pub(super) fn ready(&self, module: &str) -> Vec<WorkerId> {
        let ready = |it: &&Process| it.phase == Phase::Ready && it.order.key.module.as_str() == module;
        self.processes.values().filter(ready).map(|it| it.order.worker).collect()
    }

    pub(super) fn worker(&self, module: &str) -> WorkerId {
        match self.ready(module)[..] {
            [worker] => worker,
            ref other => panic!("{module} has workers {other:?}"),
        }
    }

    /// Whether calls of a service from a module reach another module's worker over a channel that both hold open.
    pub(super) fn reaches(&self, caller: WorkerId, service: &str, callee: WorkerId) -> bool {
        let service = super::world::service(service);
        let both = |id: &ChannelId| {
            let held = self.processes.get(&callee).and_then(|it| it.channels.get(id));
            held.is_some_and(|it| it.open && it.role == ChannelRole::Callee && it.peer == caller)
        };
        self.processes.get(&caller).is_some_and(|it| {
            it.reaches(&service, callee) && it.channels.iter().any(|(id, held)| held.peer == callee && both(id))
        })
    }

    pub(super) fn http_reaches(&self, worker: WorkerId) -> bool {
        let mut bases = self.processes.values().filter(|it| it.order.role == Role::Base);
        bases.any(|it| targets(&it.http).contains(&worker))
    }
}

fn targets(routes: &[mortise_control::HttpRoute]) -> BTreeSet<WorkerId> {
    routes.iter().flat_map(|it| &it.targets).map(|it| it.worker).collect()
}

/// What a store does with a change.
fn write(disk: &mut Records, change: Change) {
    match change {
        Change::PutModule(record) => {
            disk.modules.retain(|it| it.key != record.key);
            disk.modules.push(record);
        }
        Change::PutRoutes(record) => {
            disk.routes.retain(|it| it.tenant != record.tenant);
            disk.routes.push(*record);
        }
        Change::PutGroup(record) => {
            disk.groups.retain(|it| (&it.tenant, &it.group) != (&record.tenant, &record.group));
            disk.groups.push(*record);
        }
        Change::RemoveGroup(tenant, group) => disk.groups.retain(|it| (&it.tenant, &it.group) != (&tenant, &group)),
        Change::PutTenant(record) => {
            disk.tenants.retain(|it| it.tenant != record.tenant);
            disk.tenants.push(*record);
        }
        Change::RemoveTenant(tenant) => disk.tenants.retain(|it| it.tenant != tenant),
        Change::RemoveModule(key) => disk.modules.retain(|it| it.key != key),
        Change::PutVersion(record) => {
            disk.versions.retain(|it| it.key != record.key || it.spec.version != record.spec.version);
            disk.versions.push(*record);
        }
        Change::RemoveVersion(key, version) => disk.versions.retain(|it| it.key != key || it.spec.version != version),
        Change::PutWorker(record) => {
            disk.workers.retain(|it| it.worker.slot != record.worker.slot);
            disk.workers.push(record);
        }
        Change::PutOperation(record) => {
            disk.operations.retain(|it| it.operation.id != record.operation.id);
            disk.operations.push(*record);
        }
        Change::RemoveOperation(id) => disk.operations.retain(|it| it.operation.id != id),
        Change::PutMeta(record) => disk.meta = record,
    }
}

/// When a process was started, by the wall clock.
pub(super) fn started(start_time: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(start_time).unwrap()).unwrap()
}
