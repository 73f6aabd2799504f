//! What workers say they hold when they connect again: the table of channels is rebuilt from what both peers of a channel say,
//! and what only one says is closed.

use mortise_control::{ChannelId, ChannelReport, ChannelRole, WorkerId};

use super::Action;
use super::channel::{Channel, Edge, EdgeState, End, Stage};
use super::state::State;
use super::turn::Turn;
use super::worker::Link;

impl State {
    /// What a worker says it holds, beside what is known of it.
    pub(super) fn reconcile(&mut self, id: WorkerId, reports: &[ChannelReport], turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let mut unknown: Vec<ChannelReport> = Vec::new();
        let known: Vec<ChannelId> = worker.channels.iter().copied().collect();
        for report in reports {
            let fits = self.channels.get(&report.channel).is_some_and(|it| {
                it.worker(report.role) == id
                    && it.edge.service == report.service
                    && it.end(report.role) != End::Released
            });
            if !fits {
                unknown.push(report.clone());
            }
        }
        for channel in known {
            let Some(it) = self.channels.get_mut(&channel) else { continue };
            let Some(role) = it.role_of(id) else { continue };
            let held = reports.iter().any(|it| it.channel == channel && it.role == role);
            if !held || it.stage == Stage::Attaching {
                *it.end_mut(role) = End::Released;
                if it.stage == Stage::Attaching && held {
                    turn.act(Action::SendClose { worker: id, channel });
                }
            } else if it.stage == Stage::Closing {
                turn.act(Action::SendClose { worker: id, channel });
            }
            self.touched.channels.insert(channel);
        }
        for report in unknown {
            if report.role == ChannelRole::Caller {
                self.want(id, report.service.clone());
            }
            if let Some(worker) = self.slots.get_mut(id) {
                worker.reported.insert(report.channel, report);
            }
        }
        self.peer_heard(id, turn);
    }

    /// This worker has said hello, or is gone: reports that waited for it are decided, its own first.
    pub(super) fn peer_heard(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        self.decide_reports(id, turn);
        let waiting: Vec<WorkerId> =
            self.slots.workers().filter(|it| it.reported.values().any(|it| it.peer == id)).map(|it| it.id).collect();
        for reporter in waiting {
            self.decide_reports(reporter, turn);
        }
    }

    fn decide_reports(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let reports: Vec<ChannelReport> = worker.reported.values().cloned().collect();
        for report in reports {
            let peer = self.slots.get(report.peer).filter(|it| it.alive() && it.condemned.is_none());
            let answer = peer.and_then(|it| it.reported.get(&report.channel));
            if answer.is_some_and(|it| it.peer == id && it.role != report.role && it.service == report.service)
                && !self.channels.contains_key(&report.channel)
            {
                self.rebuild(id, &report);
            } else if peer.is_none_or(|it| it.link != Link::Unheard) {
                self.reject(id, &report, turn);
            }
        }
    }

    /// Both ends have reported it.
    fn rebuild(&mut self, id: WorkerId, report: &ChannelReport) {
        let (caller, callee) = match report.role {
            ChannelRole::Caller => (id, report.peer),
            ChannelRole::Callee => (report.peer, id),
        };
        let edge = Edge { caller, callee, service: report.service.clone() };
        for worker in [caller, callee] {
            if let Some(worker) = self.slots.get_mut(worker) {
                worker.reported.remove(&report.channel);
                worker.channels.insert(report.channel);
                self.touched.modules.insert(worker.key.clone());
            }
            self.touched.callers.insert(worker);
            self.touched.workers.insert(worker);
        }
        self.edges.entry(edge.clone()).or_insert(EdgeState::Channel(report.channel));
        let payer = self.payer(caller);
        let (caller, callee) = (End::Mapped, End::Mapped);
        self.channel_made(report.channel, Channel { edge, stage: Stage::Open, caller, callee, payer, withheld: false });
        self.touched.channels.insert(report.channel);
    }

    /// Nobody else knows of it: its one end is closed.
    fn reject(&mut self, id: WorkerId, report: &ChannelReport, turn: &mut Turn<'_>) {
        if let Some(worker) = self.slots.get_mut(id) {
            worker.reported.remove(&report.channel);
            self.touched.modules.insert(worker.key.clone());
        }
        self.touched.callers.insert(id);
        self.touched.workers.insert(id);
        if self.channels.contains_key(&report.channel) {
            turn.act(Action::SendClose { worker: id, channel: report.channel });
            return;
        }
        let (caller, callee, edge) = match report.role {
            ChannelRole::Caller => (End::Mapped, End::Released, (id, report.peer)),
            ChannelRole::Callee => (End::Released, End::Mapped, (report.peer, id)),
        };
        let edge = Edge { caller: edge.0, callee: edge.1, service: report.service.clone() };
        if let Some(worker) = self.slots.get_mut(id) {
            worker.channels.insert(report.channel);
        }
        self.channel_made(
            report.channel,
            Channel { edge, stage: Stage::Open, caller, callee, payer: None, withheld: false },
        );
        self.close_channel(report.channel, turn);
    }
}
