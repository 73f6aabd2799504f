//! Whether a worker is well: it is asked, and killed when it is not so often enough.

use mortise_control::WorkerId;

use super::state::State;
use super::turn::Turn;
use super::{Action, Timer};

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
            self.well_again(id, turn);
        } else {
            self.bad_ping(id, "said that it is not well", turn);
        }
    }

    fn bad_ping(&mut self, id: WorkerId, what: &str, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        let Some(health) = worker.spec.health else { return };
        worker.ping = None;
        worker.bad_pings = worker.bad_pings.saturating_add(1);
        let bad = worker.bad_pings;
        if bad >= health.failures.max(1) {
            self.condemn(id, format!("it is unhealthy: it {what}, the {bad}. bad answer in a row"), turn);
        }
    }
}
