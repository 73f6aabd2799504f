//! The way out of a worker: callers and bases leave it, it drains, it gets SIGTERM, it is killed. Each stage has a deadline.

use mortise_control::{ChannelRole, WorkerId};

use super::channel::End;
use super::state::State;
use super::turn::Turn;
use super::worker::{LeaveStage, Why};
use super::{Action, Timer};

impl State {
    /// The rule for a running worker on its way out.
    pub(super) fn advance_leaving(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let Some(leaving) = &worker.leaving else { return };
        // One of an earlier supervisor's that has not been heard yet may be serving: it is let drain like any other.
        if leaving.stage != LeaveStage::Withdrawing || self.recovering.contains(&id) {
            return;
        }
        if !worker.ready {
            self.terminate(id, turn);
        } else if !self.is_called(id) && self.http_idle(id) {
            if leaving.why == Why::Kept {
                let channels = worker.channels.clone();
                self.enter(id, LeaveStage::Kept, turn);
                self.touched.workers.insert(id);
                self.touched.channels.extend(channels);
                return;
            }
            let drain = worker.spec.timeouts.drain;
            self.enter(id, LeaveStage::Draining, turn);
            turn.timer(Timer::Drain(id), drain);
            self.send_drain(id, turn);
        }
    }

    /// Whether it still has to serve a channel.
    pub(super) fn is_called(&self, id: WorkerId) -> bool {
        let Some(worker) = self.slots.get(id) else { return false };
        let known = worker.channels.iter().filter_map(|it| self.channels.get(it));
        known.into_iter().any(|it| it.edge.callee == id && it.callee != End::Released)
            || worker.reported.values().any(|it| it.role == ChannelRole::Callee)
    }

    pub(super) fn send_drain(&self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let within_ms = u64::try_from(worker.spec.timeouts.drain.as_millis()).unwrap_or(u64::MAX);
        turn.act(Action::SendDrain { worker: id, within_ms });
    }

    /// The worker says that it has drained. Unasked, that changes nothing.
    pub(super) fn drained(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let stage = self.slots.get(id).and_then(|it| it.leaving.as_ref()).map(|it| it.stage);
        if stage == Some(LeaveStage::Draining) {
            self.terminate(id, turn);
        }
    }

    fn terminate(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let stop = worker.spec.timeouts.stop;
        self.enter(id, LeaveStage::Terminating, turn);
        turn.act(Action::Terminate { worker: id });
        turn.timer(Timer::Stop(id), stop);
    }

    fn enter(&mut self, id: WorkerId, stage: LeaveStage, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        worker.since = turn.now.wall;
        if let Some(leaving) = &mut worker.leaving {
            leaving.stage = stage;
        }
        let key = worker.key.clone();
        self.touched.callers.insert(id);
        self.touch_operation_of(&key);
        // One that makes no calls any more is not waited for.
        self.touch_routing_operations();
    }
}
