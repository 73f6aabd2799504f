//! The life of a channel: attached at both ends, mapped by both, open, closing, gone.
//!
//! ```text
//!   Attaching ──both Mapped──▶ Open ──not granted, not routed──▶ Closing ──both ends Released or dead──▶ gone
//!       └───────────────── not granted ──────────────────────────▲
//! ```
//!
//! A channel without a grant is never made, and one whose grant ends is closed; a callee closes its ring and is killed if it
//! does not, so what the caller thinks of its routes matters for speed only.

use std::collections::BTreeSet;

use mortise_control::{ChannelId, ChannelRole, ServiceName, TenantName, WorkerId};

use super::state::State;
use super::turn::{About, Turn};
use super::worker::Worker;
use super::{Action, Timer};
use crate::api::{EventKind, OperationId};

/// Who calls whom for what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) caller: WorkerId,
    pub(super) callee: WorkerId,
    pub(super) service: ServiceName,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) edge: Edge,
    pub(super) stage: Stage,
    pub(super) caller: End,
    pub(super) callee: End,
    /// Against whose limit of channels it counts: the caller's tenant. None: nobody's.
    pub(super) payer: Option<TenantName>,
    /// It was closed so that its callee could hand its state over.
    pub(super) withheld: bool,
}

/// How far the channel as a whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Attaching,
    Open,
    Closing,
}

/// One end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was sent its segment.
    Attached,
    /// It has mapped it.
    Mapped,
    /// It has let go, or is dead.
    Released,
}

/// What is known of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EdgeState {
    /// It has this channel, which is not closing.
    Channel(ChannelId),
    /// Its channel could not be made; it is tried again after a while.
    Waiting,
    /// One end accused the other: never again between these two.
    Parted,
}

impl Channel {
    pub(super) fn end(&self, role: ChannelRole) -> End {
        match role {
            ChannelRole::Caller => self.caller,
            ChannelRole::Callee => self.callee,
        }
    }

    pub(super) fn end_mut(&mut self, role: ChannelRole) -> &mut End {
        match role {
            ChannelRole::Caller => &mut self.caller,
            ChannelRole::Callee => &mut self.callee,
        }
    }

    pub(super) fn worker(&self, role: ChannelRole) -> WorkerId {
        match role {
            ChannelRole::Caller => self.edge.caller,
            ChannelRole::Callee => self.edge.callee,
        }
    }

    pub(super) fn role_of(&self, id: WorkerId) -> Option<ChannelRole> {
        if self.edge.caller == id {
            Some(ChannelRole::Caller)
        } else if self.edge.callee == id {
            Some(ChannelRole::Callee)
        } else {
            None
        }
    }
}

pub(super) const ROLES: [ChannelRole; 2] = [ChannelRole::Caller, ChannelRole::Callee];

impl State {
    /// The rule for a channel.
    pub(super) fn attend_channel(&mut self, id: ChannelId, turn: &mut Turn<'_>) {
        let Some(channel) = self.channels.get(&id) else { return };
        let over = channel.caller == End::Released || channel.callee == End::Released;
        let kept = !over && self.keeps(&channel.edge);
        match channel.stage {
            Stage::Attaching if !kept => self.close_channel(id, turn),
            Stage::Attaching if channel.caller == End::Mapped && channel.callee == End::Mapped => {
                let edge = channel.edge.clone();
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.stage = Stage::Open;
                }
                turn.act(Action::SealAndOpen { channel: id, caller: edge.caller, callee: edge.callee });
                self.touched.callers.insert(edge.caller);
                self.touch_flip(&edge);
            }
            Stage::Open if over || (!kept && !self.is_routed(channel.edge.caller, id)) => self.close_channel(id, turn),
            Stage::Closing if channel.caller == End::Released && channel.callee == End::Released => {
                self.forget_channel(id, turn);
            }
            Stage::Attaching | Stage::Open | Stage::Closing => {}
        }
    }

    /// Whether a channel on this edge may go on. A superseded callee's may until its caller has left it; the caller's routes
    /// see to that.
    pub(super) fn keeps(&self, edge: &Edge) -> bool {
        let callee_goes = self.slots.get(edge.callee).is_none_or(|it| it.leaving.is_some());
        !callee_goes && self.granted(edge)
    }

    /// Whether an open channel is (or may still be) in its caller's routes in force.
    fn is_routed(&self, caller: WorkerId, id: ChannelId) -> bool {
        let Some(worker) = self.slots.get(caller) else { return false };
        if !worker.alive() || worker.condemned.is_some() {
            return false;
        }
        let in_sent =
            |it: &Vec<mortise_control::ServiceRoute>| it.iter().any(|it| it.targets.iter().any(|it| it.channel == id));
        match &worker.routes.sent {
            // Not told anything on this connection yet: what it was told before still holds.
            None => true,
            Some(sent) if in_sent(sent) => true,
            Some(_) => worker.dropped.get(&id).is_some_and(|epoch| !worker.routes.in_force(*epoch)),
        }
    }

    /// Sends both ends their close; each must let go within its time.
    pub(super) fn close_channel(&mut self, id: ChannelId, turn: &mut Turn<'_>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.stage == Stage::Closing {
            return;
        }
        channel.stage = Stage::Closing;
        let edge = channel.edge.clone();
        let withheld = self.slots.get(edge.callee).is_some_and(|it| it.leaving.is_none() && self.is_withheld(it));
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.withheld = withheld;
        }
        if self.edges.get(&edge) == Some(&EdgeState::Channel(id)) {
            self.edges.remove(&edge);
        }
        let serve = self.slots.get(edge.callee).map(|it| it.spec.timeouts.drain).unwrap_or_default();
        for role in ROLES {
            let (worker, end) =
                self.channels.get(&id).map_or((edge.caller, End::Released), |it| (it.worker(role), it.end(role)));
            if end == End::Released {
                continue;
            }
            match self.slots.get(worker).filter(|it| it.alive()) {
                Some(it) if it.connected() => turn.act(Action::SendClose { worker, channel: id }),
                Some(_) => {} // it is told when it connects again
                None => {
                    if let Some(channel) = self.channels.get_mut(&id) {
                        *channel.end_mut(role) = End::Released;
                    }
                    continue;
                }
            }
            match role {
                ChannelRole::Callee => turn.timer(Timer::CalleeReleased(id), serve),
                ChannelRole::Caller => {
                    turn.timer(Timer::CallerReleased(id), serve + self.config.caller_release_within);
                }
            }
        }
        self.touched.channels.insert(id);
        self.touched.callers.insert(edge.caller);
        self.touch_flip(&edge);
    }

    fn forget_channel(&mut self, id: ChannelId, turn: &mut Turn<'_>) {
        let Some(channel) = self.channel_gone(id) else { return };
        turn.act(Action::ForgetChannel { channel: id });
        // Receipts count what workers on their way out gave back, and what was theirs when they ended.
        let mut concerned: BTreeSet<OperationId> =
            self.operations.unended().filter(|it| it.awaits.contains(&id)).map(|it| it.operation.id.clone()).collect();
        for worker in [channel.edge.caller, channel.edge.callee] {
            let Some(worker) = self.slots.get_mut(worker) else { continue };
            worker.channels.remove(&id);
            worker.dropped.remove(&id);
            let (key, leaves) = (worker.key.clone(), worker.leaving.is_some());
            self.touched.workers.insert(worker.id);
            self.touch_operation_of(&key);
            if leaves && let Some(operation) = self.operations.locks.get(&key) {
                concerned.insert(operation.clone());
            }
        }
        for operation in concerned {
            if let Some(op) = self.operations.get_mut(&operation) {
                op.awaits.remove(&id);
                op.receipt.channels_closed += 1;
                self.touched.operations.insert(operation);
            }
        }
        self.touch_routing_operations();
    }

    pub(super) fn mapped(&mut self, worker: WorkerId, id: ChannelId, turn: &mut Turn<'_>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(role) = channel.role_of(worker) else { return };
        if channel.stage == Stage::Attaching && channel.end(role) == End::Attached {
            *channel.end_mut(role) = End::Mapped;
            self.attend_channel(id, turn);
        }
    }

    pub(super) fn released(&mut self, worker: WorkerId, id: ChannelId, turn: &mut Turn<'_>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(role) = channel.role_of(worker) else { return };
        *channel.end_mut(role) = End::Released;
        let edge = channel.edge.clone();
        self.touched.workers.insert(edge.callee);
        if let Some(callee) = self.slots.get(edge.callee) {
            let key = callee.key.clone();
            self.touch_operation_of(&key);
        }
        self.attend_channel(id, turn);
    }

    /// Its writer changed a segment between `Mapped` and the seal. The other end was never given it.
    pub(super) fn channel_tampered(&mut self, id: ChannelId, writer: ChannelRole, what: &str, turn: &mut Turn<'_>) {
        let Some(channel) = self.channels.get(&id) else { return };
        let worker = channel.worker(writer);
        self.close_channel(id, turn);
        self.condemn(worker, format!("it changed its segment of channel {id}: {what}"), turn);
    }

    /// The engine could not make the channel, or could not hand out an end. Whoever did get one is told to let go.
    pub(super) fn channel_failed(&mut self, id: ChannelId, reason: &str, turn: &mut Turn<'_>) {
        let retry = self.config.retry_after;
        let Some(channel) = self.channels.get(&id) else { return };
        if channel.stage != Stage::Attaching {
            return;
        }
        let edge = channel.edge.clone();
        for worker in [edge.caller, edge.callee] {
            if self.slots.get(worker).is_some_and(|it| it.alive() && it.connected()) {
                turn.act(Action::SendClose { worker, channel: id });
            }
            if let Some(worker) = self.slots.get_mut(worker) {
                worker.channels.remove(&id);
                worker.dropped.remove(&id);
            }
        }
        self.channel_gone(id);
        turn.act(Action::ForgetChannel { channel: id });
        let text = format!("no channel from worker {} to {} for {}: {reason}", edge.caller, edge.callee, edge.service);
        let key = self.slots.get(edge.callee).map(|it| it.key.clone());
        turn.tell(EventKind::Channel, About { key: key.as_ref(), worker: Some(edge.callee), ..About::default() }, text);
        let Edge { caller, callee, service } = edge.clone();
        turn.timer(Timer::Connect { caller, callee, service }, retry);
        self.touched.workers.insert(callee);
        self.edges.insert(edge, EdgeState::Waiting);
        self.touch_routing_operations();
    }

    /// The channel is in the table, and its caller's tenant has one more.
    pub(super) fn channel_made(&mut self, id: ChannelId, channel: Channel) {
        if let Some(payer) = &channel.payer {
            self.tenants.channel_made(payer);
        }
        self.channels.insert(id, channel);
    }

    fn channel_gone(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.channels.remove(&id)?;
        if let Some(payer) = &channel.payer {
            self.tenants.channel_gone(payer);
        }
        Some(channel)
    }

    /// The caller's tenant has all the channels that it may have: this edge is looked at again after a while.
    pub(super) fn refuse_channel(&mut self, edge: Edge, payer: &TenantName, turn: &mut Turn<'_>) {
        let Edge { caller, callee, service } = edge.clone();
        if self.tenants.tells_of_refusal(payer) {
            let most = self.tenants.channels(payer);
            let text = format!(
                "no channel from worker {caller} to {callee} for {service}: the tenant {payer} may have channels = {most} and has them; \
                 calls wait. `mortise tenant set {payer} channels={}` raises it",
                most + 1
            );
            let key = self.slots.get(caller).map(|it| it.key.clone());
            turn.tell(EventKind::Channel, About { key: key.as_ref(), worker: Some(caller), ..About::default() }, text);
        }
        turn.timer(Timer::Connect { caller, callee, service }, self.config.backoff_most);
        self.edges.insert(edge, EdgeState::Waiting);
    }

    pub(super) fn connect_again(&mut self, edge: &Edge) {
        if self.edges.get(edge) == Some(&EdgeState::Waiting) {
            self.edges.remove(edge);
            self.touched.callers.insert(edge.caller);
        }
    }

    /// These two never get a channel again.
    pub(super) fn part(&mut self, edge: Edge) {
        self.edges.insert(edge, EdgeState::Parted);
    }

    pub(super) fn channel_timer(&mut self, timer: &Timer, id: ChannelId, turn: &mut Turn<'_>) {
        let Some(channel) = self.channels.get(&id) else { return };
        let (stage, caller, callee) = (channel.stage, channel.caller, channel.callee);
        let edge = channel.edge.clone();
        // A hand-over that failed because a call took too long must not cost the worker, and its state, its life.
        let stays = |it: &Worker| it.stays() && it.spec.handover.is_some();
        let spared = channel.withheld && callee != End::Released && self.slots.get(edge.callee).is_some_and(stays);
        match timer {
            Timer::CalleeReleased(_) | Timer::CallerReleased(_) if stage == Stage::Closing && spared => {
                let serve = self.slots.get(edge.callee).map(|it| it.spec.timeouts.drain).unwrap_or_default();
                turn.timer(timer.clone(), serve + self.config.caller_release_within);
            }
            Timer::Mapped(_) if stage == Stage::Attaching => {
                self.close_channel(id, turn);
                let Edge { caller, callee, service } = edge.clone();
                turn.timer(Timer::Connect { caller, callee, service }, self.config.retry_after);
                self.edges.insert(edge, EdgeState::Waiting);
            }
            Timer::CalleeReleased(_) if stage == Stage::Closing && callee != End::Released => {
                let reason = format!("it did not release channel {id} ({}) in time", edge.service);
                self.condemn(edge.callee, reason, turn);
            }
            Timer::CallerReleased(_) if stage == Stage::Closing && caller != End::Released => {
                let reason = format!("it did not release channel {id} ({}) in time", edge.service);
                self.condemn(edge.caller, reason, turn);
            }
            _ => {}
        }
    }

    /// The worker is dead: so are its ends, and what was known of edges with it.
    pub(super) fn forget_end(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        let key = worker.key.clone();
        let channels = worker.channels.clone();
        for channel in channels {
            if let Some(op) = self.operations.on_mut(&key) {
                op.awaits.insert(channel);
            }
            let Some(known) = self.channels.get_mut(&channel) else { continue };
            if let Some(role) = known.role_of(id) {
                *known.end_mut(role) = End::Released;
            }
            self.close_channel(channel, turn);
            self.touched.channels.insert(channel);
        }
        self.edges.retain(|edge, _| edge.caller != id && edge.callee != id);
    }
}
