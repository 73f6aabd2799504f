//! Whether a worker is well: it is asked, gets no new calls while it is not, and is killed when it is not so often enough.
//!
//! Who is unwell is left out of the routes only as far as others can do the work: at most half of a cohort, so never the last.

use std::collections::BTreeSet;

use mortise_control::WorkerId;

use super::state::State;
use super::turn::Turn;
use super::worker::Worker;
use super::workers::about;
use super::{Action, ModuleKey, Timer};
use crate::api::EventKind;

impl State {
    /// The worker has become ready, or was found ready: it is asked from now on.
    pub(super) fn begin_health(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        if let Some(health) = self.slots.get(id).and_then(|it| it.spec.health) {
            turn.timer(Timer::Ping(id), health.interval);
        }
    }

    pub(super) fn health_timer(&mut self, timer: &Timer, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        let Some(health) = worker.spec.health else { return };
        if !worker.stays() {
            return;
        }
        match timer {
            Timer::Pong { nonce, .. } if worker.ping == Some(*nonce) => {
                self.bad_ping(id, "did not answer a ping", turn);
            }
            Timer::Ping(_) => {
                turn.timer(Timer::Ping(id), health.interval);
                // Without a connection the reconnect deadline decides.
                if worker.connected() && worker.ping.is_none() {
                    let nonce = turn.draw.number();
                    worker.ping = Some(nonce);
                    turn.act(Action::SendPing { worker: id, nonce });
                    turn.timer(Timer::Pong { worker: id, nonce }, health.timeout);
                }
            }
            _ => {}
        }
    }

    pub(super) fn pong(&mut self, id: WorkerId, nonce: u64, healthy: bool, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.ping != Some(nonce) {
            return;
        }
        if healthy {
            worker.ping = None;
            worker.bad_pings = 0;
            self.becomes(id, None, turn);
            self.well_again(id, turn);
        } else {
            self.bad_ping(id, "said that it is not well", turn);
        }
    }

    fn bad_ping(&mut self, id: WorkerId, what: &'static str, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        let Some(health) = worker.spec.health else { return };
        worker.ping = None;
        worker.bad_pings = worker.bad_pings.saturating_add(1);
        let bad = worker.bad_pings;
        self.becomes(id, Some(what), turn);
        if bad >= health.failures.max(1) {
            self.condemn(id, format!("it is unhealthy: it {what}, the {bad}. bad answer in a row"), turn);
        }
    }

    /// Well, or not: its share of the calls follows.
    fn becomes(&mut self, id: WorkerId, unwell: Option<&'static str>, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.unwell.is_some() == unwell.is_some() {
            return;
        }
        worker.unwell = unwell;
        let key = worker.key.clone();
        let text = unwell.map_or_else(|| "is well again".to_owned(), |what| format!("is unwell: it {what}"));
        turn.tell(EventKind::Worker, about(worker), text);
        self.touched.http = true;
        self.touch_provider(&key);
    }

    /// Workers of a cohort that get no new calls.
    pub(super) fn left_out(&self, key: &ModuleKey, cohort: u64) -> BTreeSet<WorkerId> {
        let Some(module) = self.modules.get(key) else { return BTreeSet::new() };
        let workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
        let present: Vec<_> = workers.filter(|it| it.cohort == cohort && it.stays()).collect();
        let unwell = present.iter().filter(|it| it.unwell.is_some());
        unwell.take(present.len() / 2).map(|it| it.id).collect()
    }

    /// The share of the calls for which no route says who answers: none of them goes to a version beside the one in charge.
    pub(super) fn default_share(&self, worker: &Worker) -> u32 {
        match self.modules.get(&worker.key).is_some_and(|it| it.is_beside(worker.cohort)) {
            true => 0,
            false => self.share(worker),
        }
    }

    /// The share of the calls that a worker gets, of those that its version gets.
    pub(super) fn share(&self, worker: &Worker) -> u32 {
        let out = worker.unwell.is_some() && self.left_out(&worker.key, worker.cohort).contains(&worker.id);
        u32::from(!out)
    }
}
