//! What a caller has: a channel for every edge it is granted, and routes over those that are open.

use std::collections::BTreeSet;

use mortise_control::routing::Rule;
use mortise_control::{
    Attach, ChannelId, ChannelRole, Encoding, Offer, PeerInfo, Role, RouteTable, ServiceDeclaration, ServiceName,
    ServiceRoute, Target, TenantName, VersionShare, WorkerId,
};

use super::channel::{Channel, Edge, EdgeState, End, Stage};
use super::lanes::Lane;
use super::module::Module;
use super::state::State;
use super::turn::Turn;
use super::worker::{Frost, Life, Worker};
use super::{Action, ProvidedService, Timer};

impl State {
    /// The rule for a caller.
    pub(super) fn attend_caller(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        if !worker.connected() || !worker.calls() || worker.frost != Frost::None {
            return;
        }
        let services: Vec<ServiceName> = worker.called_services().cloned().collect();
        let mut routes = Vec::with_capacity(services.len());
        for service in services {
            let payer = self.payer(id);
            for edge in self.missing_edges(id, &service) {
                match &payer {
                    Some(payer) if !self.tenants.has_room_for_channel(payer) => self.refuse_channel(edge, payer, turn),
                    Some(_) | None => self.make_channel(edge, turn),
                }
            }
            let rules = self.rules_of_calls(id, &service);
            let target = |channel| {
                let callee = self.channels.get(&channel).and_then(|it| self.slots.get(it.edge.callee));
                let share = |it: &Worker| VersionShare { version: it.spec.version.clone(), weight: self.share(it) };
                let version = callee.filter(|_| !rules.is_empty()).map(share);
                Target { channel, weight: callee.map_or(1, |it| self.default_share(it)), version }
            };
            let channels = self.targets(id, &service, !rules.is_empty());
            let shadow = self.shadow_route(id, &service, &channels);
            let targets = channels.into_iter().map(target).collect();
            let (offer, denied) = (self.offer(id, &service), self.denies(id, &service));
            routes.push(ServiceRoute { service, offer, denied, targets, rules, shadow });
        }
        self.send_routes(id, routes, turn);
    }

    /// What the tenant has laid down for the caller's calls of a service, and behind that how what is left is shared.
    fn rules_of_calls(&self, id: WorkerId, service: &ServiceName) -> Vec<Rule> {
        let Some(caller) = self.slots.get(id) else { return Vec::new() };
        let mut rules = self.routes.of_calls(caller, service);
        let publisher = self.publisher(&caller.key.tenant, service);
        rules.extend(publisher.and_then(|it| self.modules.get(it)).and_then(Module::sharing));
        rules
    }

    /// Whether the caller may have a channel to the callee for this service.
    pub(super) fn granted(&self, edge: &Edge) -> bool {
        let (Some(caller), Some(callee)) = (self.slots.get(edge.caller), self.slots.get(edge.callee)) else {
            return false;
        };
        let asked = caller.spec.requires.contains(&edge.service) || caller.wants.contains(&edge.service);
        asked
            && caller.alive()
            && caller.condemned.is_none()
            && !caller.is_kept()
            && callee.serves()
            && !self.is_withheld(callee)
            && caller.key != callee.key
            && callee.spec.provided(&edge.service).is_some_and(|it| it.http.is_none() && may_call(caller, callee, it))
            && self.publisher(&caller.key.tenant, &edge.service) == Some(&callee.key)
            && match self.lane(caller, callee, &edge.service) {
                Some(lane) => lane != Lane::Apart,
                None => self.in_charge(callee),
            }
    }

    /// Whether a worker's cohort is, or was, in charge of its module, or serves beside it.
    fn in_charge(&self, worker: &Worker) -> bool {
        self.modules.get(&worker.key).is_some_and(|it| worker.cohort <= it.record.cohort || it.is_beside(worker.cohort))
    }

    pub(super) fn providers(&self, caller: &Worker, service: &ServiceName) -> impl Iterator<Item = &Worker> {
        let publisher = self.publisher(&caller.key.tenant, service);
        let module = publisher.and_then(|it| self.modules.get(it));
        module.into_iter().flat_map(|it| &it.workers).filter_map(|it| self.slots.get(*it))
    }

    fn missing_edges(&self, id: WorkerId, service: &ServiceName) -> Vec<Edge> {
        let Some(caller) = self.slots.get(id) else { return Vec::new() };
        self.providers(caller, service)
            .filter(|it| it.connected() && it.life == Life::Running && it.stays())
            // Until the other end of a channel that it holds is heard, it is not known whether there is one.
            .filter(|it| !caller.reported.values().any(|report| report.peer == it.id))
            .map(|it| Edge { caller: id, callee: it.id, service: service.clone() })
            .filter(|edge| !self.edges.contains_key(edge) && self.granted(edge))
            .collect()
    }

    /// Against whose limit a caller's channels count. A base is the operator's.
    pub(super) fn payer(&self, caller: WorkerId) -> Option<TenantName> {
        let caller = self.slots.get(caller).filter(|it| it.role != Role::Base)?;
        Some(caller.key.tenant.clone())
    }

    fn make_channel(&mut self, edge: Edge, turn: &mut Turn<'_>) {
        let mut id = ChannelId(turn.draw.number());
        while self.channels.contains_key(&id) {
            id = ChannelId(turn.draw.number());
        }
        let (Some(caller), Some(callee)) = (self.slots.get(edge.caller), self.slots.get(edge.callee)) else { return };
        let encoding = encoding(&edge.service, &caller.clients, &callee.services);
        let attach = |role, peer: &Worker| {
            Box::new(Attach {
                channel: id,
                role,
                service: edge.service.clone(),
                peer: PeerInfo {
                    worker: peer.id,
                    tenant: peer.key.tenant.clone(),
                    module: peer.key.module.clone(),
                    version: peer.spec.version.clone(),
                },
                encoding,
                caller: self.config.caller_geometry,
                callee: self.config.callee_geometry,
            })
        };
        turn.act(Action::MakeChannel {
            channel: id,
            caller: (edge.caller, attach(ChannelRole::Caller, callee)),
            callee: (edge.callee, attach(ChannelRole::Callee, caller)),
        });
        turn.timer(Timer::Mapped(id), self.config.map_within);
        for worker in [edge.caller, edge.callee] {
            if let Some(worker) = self.slots.get_mut(worker) {
                worker.channels.insert(id);
            }
        }
        self.edges.insert(edge.clone(), EdgeState::Channel(id));
        let payer = self.payer(edge.caller);
        let (caller, callee) = (End::Attached, End::Attached);
        self.channel_made(id, Channel { edge, stage: Stage::Attaching, caller, callee, payer, withheld: false });
    }

    /// Whether the caller can expect an answer: a module that is to run has published the service, for calls.
    fn offer(&self, id: WorkerId, service: &ServiceName) -> Offer {
        let Some(caller) = self.slots.get(id) else { return Offer::Nobody };
        let Some(key) = self.publisher(&caller.key.tenant, service) else {
            return Offer::Nobody;
        };
        let running = self.modules.get(key).and_then(Module::current);
        match running.and_then(|it| it.spec.provided(service)) {
            Some(provided) if provided.http.is_none() && *key == caller.key => Offer::Own,
            Some(provided) if provided.http.is_none() => Offer::Published,
            Some(_) | None => Offer::Nobody,
        }
    }

    /// The channels over which calls of a service go. Workers of the cohort in charge, and of the one beside it, answer; while some
    /// of them have no open channel to this caller yet, those that they supersede go on answering.
    ///
    /// A rule decides among the versions that answer. A caller that had a channel to one only, because it opened first, would send
    /// everything there: where there are rules it begins with all, or with what there is when the making of one takes too long.
    fn targets(&self, id: WorkerId, service: &ServiceName, ruled: bool) -> Vec<ChannelId> {
        let Some(caller) = self.slots.get(id) else { return Vec::new() };
        let mut fresh = Vec::new();
        let mut old = Vec::new();
        let mut complete = true;
        let mut coming = false;
        for callee in self.providers(caller, service) {
            let edge = Edge { caller: id, callee: callee.id, service: service.clone() };
            let channel = match self.edges.get(&edge) {
                Some(EdgeState::Channel(channel)) => Some(*channel),
                Some(EdgeState::Waiting | EdgeState::Parted) | None => None,
            };
            let stage = channel.and_then(|it| self.channels.get(&it)).map(|it| it.stage);
            let open = channel.filter(|_| stage == Some(Stage::Open) && self.granted(&edge));
            let current = self.modules.get(&callee.key).is_some_and(|it| it.stands(callee.cohort));
            match (&callee.leaving, open) {
                (None, open) if current => {
                    complete &= open.is_some() || !callee.serves();
                    coming |= stage == Some(Stage::Attaching);
                    fresh.extend(open);
                }
                (None, open) => old.extend(open),
                (Some(it), open) if it.why.makes_way() && !it.flip_over => old.extend(open),
                (Some(_), _) => {}
            }
        }
        if ruled && coming && begins(caller, service) {
            return Vec::new();
        }
        if fresh.is_empty() || !complete || !old.is_empty() && self.waits_for_fresh(caller, service) {
            fresh.extend(old);
        }
        fresh.sort_unstable();
        fresh
    }

    /// Whether the module that answers a service has too few workers ready to do without those of an earlier cohort.
    fn waits_for_fresh(&self, caller: &Worker, service: &ServiceName) -> bool {
        let publisher = self.publisher(&caller.key.tenant, service);
        publisher.is_some_and(|it| !self.staffed(it))
    }

    fn send_routes(&mut self, id: WorkerId, routes: Vec<ServiceRoute>, turn: &mut Turn<'_>) {
        let within = self.config.apply_within;
        let Some(incarnation) = self.epochs() else { return };
        let Some(worker) = self.slots.get_mut(id) else { return };
        // Routes without a channel whose other end has yet to be heard would break calls that go over it.
        if !worker.reported.is_empty() {
            return;
        }
        if worker.routes.sent.as_ref() == Some(&routes) || (worker.routes.sent.is_none() && routes.is_empty()) {
            return;
        }
        worker.next_epoch += 1;
        let epoch = incarnation | worker.next_epoch;
        let kept = channels_of(&routes);
        // On a new connection it may still use whatever it holds.
        let calls_on = |it: &ChannelId| self.channels.get(it).is_some_and(|it| it.edge.caller == id);
        let before = match &worker.routes.sent {
            Some(sent) => channels_of(sent),
            None => worker.channels.iter().copied().filter(calls_on).collect(),
        };
        for channel in before.difference(&kept) {
            worker.dropped.insert(*channel, epoch);
        }
        for channel in &kept {
            worker.dropped.remove(channel);
        }
        worker.routes.sent = Some(routes.clone());
        worker.routes.epoch = epoch;
        worker.routes.unacknowledged.insert(epoch);
        turn.act(Action::SendRoutes { worker: id, epoch, services: routes });
        turn.timer(Timer::Routes { worker: id, epoch }, within);
        self.touched.channels.extend(before);
        self.touch_routing_operations();
    }

    /// The high half of this run's epochs, once no later run can use the same.
    pub(super) fn epochs(&self) -> Option<u64> {
        let saved = self.meta.saved.as_ref().is_some_and(|it| it.incarnation == self.meta.record.incarnation);
        saved.then_some(self.meta.record.incarnation << 32)
    }

    /// Routes are in force, says a worker, or are taken as such. Without a table it is whichever the epoch was sent with.
    pub(super) fn routes_applied(&mut self, id: WorkerId, table: Option<RouteTable>, epoch: u64) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if table != Some(RouteTable::Http) && worker.routes.acknowledge(epoch) {
            let dropped: Vec<ChannelId> = worker.dropped.keys().copied().collect();
            self.touched.channels.extend(dropped);
        } else if table != Some(RouteTable::Services) && worker.http.acknowledge(epoch) {
            let users: Vec<WorkerId> = worker.http_users.keys().copied().collect();
            self.touched.workers.extend(users);
        } else {
            return; // an epoch that was never sent with this table, or is over
        }
        self.touch_routing_operations();
    }

    pub(super) fn routes_timer(&mut self, id: WorkerId, epoch: u64, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let base_keeps_route = worker.http.unacknowledged.contains(&epoch)
            && worker.http_users.values().any(|it| it.is_some_and(|out| out <= epoch));
        if base_keeps_route {
            let within = self.config.apply_within;
            self.condemn(id, format!("it did not take a route away within {within:?}"), turn);
        } else {
            self.routes_applied(id, None, epoch);
        }
    }

    /// A channel to this edge's callee has opened or gone: who it supersedes may be let go, or is needed.
    pub(super) fn touch_flip(&mut self, edge: &Edge) {
        self.touched.callers.insert(edge.caller);
        self.touch_routing_operations();
    }
}

/// Whether a caller has been told of no channel for a service yet. One on a new connection may have some that it uses.
fn begins(caller: &Worker, service: &ServiceName) -> bool {
    let has_some = |it: &ServiceRoute| it.service == *service && !it.targets.is_empty();
    caller.routes.sent.as_ref().is_some_and(|it| !it.iter().any(has_some))
}

/// Whether the callee's author has a service called by whoever its tenant allows it to, where that is another.
pub(super) fn may_call(caller: &Worker, callee: &Worker, service: &ProvidedService) -> bool {
    caller.key.tenant == callee.key.tenant || service.export
}

fn channels_of(routes: &[ServiceRoute]) -> BTreeSet<ChannelId> {
    routes.iter().flat_map(|it| &it.targets).map(|it| it.channel).collect()
}

/// By position only where both ends know the same schema.
fn encoding(service: &ServiceName, clients: &[ServiceDeclaration], services: &[ServiceDeclaration]) -> Encoding {
    let fingerprint =
        |side: &[ServiceDeclaration]| side.iter().find(|it| it.service == *service).map(|it| it.fingerprint);
    match (fingerprint(clients), fingerprint(services)) {
        (Some(client), Some(server)) if client == server && client != 0 => Encoding::Positional,
        _ => Encoding::ByName,
    }
}
