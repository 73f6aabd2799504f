//! What a worker says. Every word is an allegation: what does not fit what is known changes nothing, or ends the worker.

use std::collections::BTreeSet;

use mortise_control::{Hello, PROTOCOL, Phase, Role, ServiceDeclaration, ServiceName, ToSupervisor, WorkerId};

use super::channel::End;
use super::state::State;
use super::turn::Turn;
use super::worker::{LeaveStage, Link, Worker};
use super::workers::about;
use super::{Action, Timer};
use crate::api::EventKind;

/// The most services that a base may want beside those it requires.
const MOST_WANTS: usize = 4096;

/// The longest text of a worker's that is kept.
const LONGEST_TEXT: usize = 500;

impl State {
    pub(super) fn message(&mut self, id: WorkerId, message: ToSupervisor, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if !worker.alive() || worker.condemned.is_some() {
            return;
        }
        if !matches!(message, ToSupervisor::Hello(_)) && !matches!(worker.link, Link::Connected) {
            let reason = "it spoke before it was welcomed".to_owned();
            return self.disconnect(id, reason, turn);
        }
        match message {
            ToSupervisor::Hello(hello) => self.hello(id, hello, turn),
            ToSupervisor::Declare { services, clients, state } => self.declare(id, services, clients, state, turn),
            ToSupervisor::Ready => self.ready(id, turn),
            ToSupervisor::NeverReady { reason } => {
                if !worker.ready {
                    worker.reason = Some(format!("it will not become ready: {}", clip(&reason)));
                }
            }
            ToSupervisor::Mapped { channel } => self.mapped(id, channel, turn),
            ToSupervisor::Released(released) => self.released(id, released.channel, turn),
            ToSupervisor::RoutesApplied { table, epoch } => self.routes_applied(id, table, epoch),
            ToSupervisor::Want { service } => self.want(id, service),
            ToSupervisor::HttpDrained { worker } => self.http_drained(id, worker),
            ToSupervisor::Drained { .. } => self.drained(id, turn),
            ToSupervisor::Pong { nonce, healthy } => self.pong(id, nonce, healthy, turn),
            ToSupervisor::Violation { channel, what } => self.violation(id, channel, &clip(&what), turn),
            ToSupervisor::Shadowed(shadowed) => self.shadowed(id, shadowed, turn),
            ToSupervisor::StateExported { handover, outcome } => {
                self.state_exported(id, handover, outcome.map_err(|it| clip(&it)), turn);
            }
            ToSupervisor::StateImported { handover, outcome } => {
                self.state_imported(id, handover, outcome.map_err(|it| clip(&it)), turn);
            }
        }
    }

    fn disconnect(&mut self, id: WorkerId, reason: String, turn: &mut Turn<'_>) {
        let within = self.config.reconnect_within;
        let Some(worker) = self.slots.get_mut(id) else { return };
        if matches!(worker.link, Link::Connected | Link::Greeted { .. }) {
            worker.link = Link::Broken;
            let key = worker.key.clone();
            turn.timer(Timer::Reconnect(id), within);
            self.touch_operation_of(&key);
        }
        turn.act(Action::Disconnect { worker: id, reason });
    }

    fn hello(&mut self, id: WorkerId, hello: Hello, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if hello.worker != id || hello.token != worker.token {
            return self.disconnect(id, "its hello does not show the worker's id and token".to_owned(), turn);
        }
        if !matches!(worker.link, Link::Unheard | Link::Broken) {
            return self.disconnect(id, "it said hello twice on one connection".to_owned(), turn);
        }
        if hello.protocol != PROTOCOL && hello.protocol.checked_add(1) != Some(PROTOCOL) {
            let reason = format!(
                "it speaks version {} of the control protocol, and this supervisor {PROTOCOL} and the one before",
                hello.protocol
            );
            return self.condemn(id, reason, turn);
        }
        let ready = match hello.phase {
            Phase::Starting => false,
            Phase::Ready | Phase::Draining | Phase::Drained => true,
        };
        if worker.ready && !ready {
            return self.condemn(id, "it said that it is starting after it had been ready", turn);
        }
        // A worker that this supervisor started has said `Ready` before it can be ready in a hello.
        if ready && !worker.ready && worker.link == Link::Unheard && !worker.adopted {
            return self.condemn(id, "its first hello says that it is ready", turn);
        }
        if ready && let Err(reason) = check_code(worker, &hello.services, hello.state) {
            return self.condemn(id, reason, turn);
        }
        let again = ready || worker.welcomed || !hello.channels.is_empty();
        worker.services = hello.services;
        worker.clients = hello.clients;
        worker.hands_over = hello.state;
        worker.link = Link::Greeted { again };
        // What it was told on an earlier connection is told again.
        worker.routes = super::worker::Advice::default();
        worker.dropped.clear();
        worker.http = super::worker::Advice::default();
        worker.ping = None;
        let newly_ready = ready && !worker.ready;
        self.recovering.remove(&id);
        self.welcome(id, turn);
        self.reconcile(id, &hello.channels, turn);
        if newly_ready {
            // It was, before this supervisor came: the time since when it is stays.
            self.become_ready(id, turn);
        }
        self.after_hello(id, hello.phase, turn);
    }

    /// A worker on its way out may have missed what it was told, and may have gone on meanwhile.
    fn after_hello(&mut self, id: WorkerId, phase: Phase, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let stage = worker.leaving.as_ref().map(|it| it.stage);
        match (stage, phase) {
            (None, Phase::Draining | Phase::Drained) => self.replace_drained(id, turn),
            (Some(LeaveStage::Draining), Phase::Starting | Phase::Ready) => self.send_drain(id, turn),
            _ => {}
        }
        if phase == Phase::Drained {
            self.drained(id, turn);
        }
        self.touched.workers.insert(id);
        // What bases are told waits until every process of an earlier supervisor has been heard.
        self.touched.http = true;
        self.touch_routing_operations();
    }

    /// The rule of a greeted worker: it is welcomed as soon as its resources are loaded.
    pub(super) fn welcome(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let Link::Greeted { again } = worker.link else { return };
        let resources = if again {
            Vec::new()
        } else {
            match self.loaded_grants(worker) {
                Some(grants) => grants,
                None => return,
            }
        };
        let Some(worker) = self.slots.get_mut(id) else { return };
        worker.link = Link::Connected;
        worker.welcomed = true;
        let (key, bases) = (worker.key.clone(), worker.role == Role::Base);
        turn.act(Action::SendWelcome { worker: id, resources });
        self.touched.callers.insert(id);
        self.touched.http |= bases;
        self.touch_provider(&key);
        self.touch_operation_of(&key);
    }

    fn declare(
        &mut self,
        id: WorkerId,
        services: Vec<ServiceDeclaration>,
        clients: Vec<ServiceDeclaration>,
        state: Option<u32>,
        turn: &mut Turn<'_>,
    ) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.ready
            && let Err(reason) = check_code(worker, &services, state)
        {
            return self.condemn(id, reason, turn);
        }
        worker.services = services;
        worker.clients = clients;
        worker.hands_over = state;
    }

    fn ready(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.ready {
            return; // said twice: nothing new
        }
        if let Err(reason) = check_code(worker, &worker.services, worker.hands_over) {
            return self.condemn(id, reason, turn);
        }
        worker.since = turn.now.wall;
        self.become_ready(id, turn);
    }

    pub(super) fn become_ready(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        worker.ready = true;
        worker.reason = None;
        turn.tell(EventKind::Worker, about(worker), "ready");
        if worker.failures > 0 {
            turn.timer(Timer::Stable(id), worker.spec.backoff.stable_after);
        }
        let key = worker.key.clone();
        self.begin_health(id, turn);
        self.touched.workers.insert(id);
        self.touched.callers.insert(id);
        self.touched.http = true;
        self.touch_module(&key);
        self.touch_provider(&key);
    }

    /// A base may call what its module.toml does not name: calls of operators, by name, within its tenant.
    pub(super) fn want(&mut self, id: WorkerId, service: ServiceName) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.role != Role::Base || worker.spec.requires.contains(&service) || worker.wants.len() >= MOST_WANTS {
            return;
        }
        if worker.wants.insert(service.clone()) {
            let key = (worker.key.tenant.clone(), service);
            self.index.callers.entry(key).or_default().insert(id);
            self.touched.callers.insert(id);
        }
    }

    /// The peer of a channel lied, says a worker. Only a party to the channel is believed, and an accusation costs it the
    /// channel too. A base is not killed on a tenant's word: it loses nothing but the channel, and the two are kept apart.
    fn violation(&mut self, id: WorkerId, channel: mortise_control::ChannelId, what: &str, turn: &mut Turn<'_>) {
        let Some(known) = self.channels.get(&channel) else { return };
        let edge = known.edge.clone();
        let (accused, end) = if edge.caller == id {
            (edge.callee, known.callee)
        } else if edge.callee == id {
            (edge.caller, known.caller)
        } else {
            return;
        };
        // Who holds no end of it (or never did: the channel may be an invention) cannot have lied on it.
        if end == End::Released || known.stage == super::channel::Stage::Attaching {
            return;
        }
        let Some(worker) = self.slots.get(accused) else { return };
        let text = format!("worker {id} says that worker {accused} broke the protocol of channel {channel}: {what}");
        turn.tell(EventKind::Channel, about(worker), text);
        let base = worker.role == Role::Base;
        self.part(edge);
        self.close_channel(channel, turn);
        if !base {
            let reason = format!("it broke the protocol of its channel with worker {id}: {what}");
            self.condemn(accused, reason, turn);
        }
    }

    /// Whether a process that an earlier supervisor started may still be serving without our having heard of it.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovering.iter().any(|it| self.slots.get(*it).is_some_and(Worker::alive))
    }
}

/// What its code does must be what module.toml says.
fn check_code(worker: &Worker, services: &[ServiceDeclaration], state: Option<u32>) -> Result<(), String> {
    check_services(worker, services)?;
    let said = worker.spec.handover.as_ref().map(|it| it.version);
    if said == state {
        return Ok(());
    }
    let of = |it: Option<u32>| {
        it.map_or_else(|| "hands no state over".to_owned(), |it| format!("hands over state of version {it}"))
    };
    Err(format!("its code {}, and by its module.toml it {}", of(state), of(said)))
}

/// Typed services must be declared exactly as module.toml has them; services reached by HTTP need no declaration.
fn check_services(worker: &Worker, declared: &[ServiceDeclaration]) -> Result<(), String> {
    let declared: BTreeSet<&ServiceName> = declared.iter().map(|it| &it.service).collect();
    if let Some(foreign) = declared.iter().find(|it| worker.spec.provided(it).is_none()) {
        return Err(format!("its code serves {foreign}, which its module.toml does not provide"));
    }
    let typed = worker.spec.provides.iter().filter(|it| it.http.is_none());
    match typed.map(|it| &it.service).find(|it| !declared.contains(it)) {
        Some(missing) => Err(format!("its module.toml provides {missing}, which its code does not serve")),
        None => Ok(()),
    }
}

fn clip(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).map(|it| if it.is_control() { ' ' } else { it }).collect()
}
