//! The life of a worker: what the performers report of it, and what comes next.

use std::time::Duration;

use jiff::Timestamp;
use mortise_control::WorkerId;

use super::state::State;
use super::turn::{About, Turn};
use super::worker::{Frost, LeaveStage, Leaving, Life, Link, Outcome, Why, Worker};
use super::{Action, Exit, ExitStatus, Remains, StartFault, Timer};
use crate::api::EventKind;
use crate::store::EndKind;

impl State {
    /// The rule for a worker: the next thing in its life.
    pub(super) fn advance(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let leaving = worker.leaving.is_some();
        match &worker.life {
            Life::Waiting | Life::Backoff | Life::Recording | Life::Settled(_) if leaving => self.vacate(id),
            Life::Waiting => {
                if let Ok(resources) = self.resources_for(&worker.key, worker.maps())
                    && let Some(worker) = self.slots.get_mut(id)
                {
                    worker.pinned = resources;
                    worker.reason = None;
                    worker.life = Life::Recording;
                    self.touched.slots.insert(id.slot);
                }
            }
            Life::Recording => {
                let saved = self.slots.slot(id.slot).is_some_and(|it| it.saved == it.record(id.slot));
                let start = worker.spec.timeouts.start;
                if saved && let Some(worker) = self.slots.get_mut(id) {
                    worker.life = Life::Spawning;
                    worker.since = turn.now.wall;
                    turn.act(Action::Spawn(Box::new(worker.order())));
                    turn.timer(Timer::Ready(id), start);
                }
            }
            Life::Backoff | Life::Settled(_) | Life::Spawning | Life::Adopting | Life::Removing(_) => {}
            Life::Running => self.advance_running(id, turn),
        }
    }

    fn advance_running(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.condemned.is_some() {
            if !worker.killed {
                worker.killed = true;
                turn.act(Action::Kill { worker: id });
            }
            return;
        }
        self.welcome(id, turn);
        if self.advance_frost(id, turn) {
            self.advance_leaving(id, turn);
        }
    }

    pub(super) fn spawn_done(&mut self, id: WorkerId, pid: u32, start_time: u64, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.life != Life::Spawning {
            return;
        }
        worker.life = Life::Running;
        worker.process = Some((pid, start_time));
        turn.tell(EventKind::Worker, about(worker), format!("started as process {pid}"));
        self.touched.slots.insert(id.slot);
        self.runs_now(id);
    }

    pub(super) fn spawn_failed(&mut self, id: WorkerId, reason: &str, fault: StartFault, turn: &mut Turn<'_>) {
        if self.slots.get(id).is_some_and(|it| it.life == Life::Spawning) {
            let Some(worker) = self.slots.get(id) else { return };
            let outcome = match (self.outcome(worker, false), fault) {
                (Outcome::Fail { .. }, StartFault::Shortage) => Outcome::Short,
                (outcome, _) => outcome,
            };
            self.end_worker(id, format!("it could not be started: {reason}"), outcome, turn);
        }
    }

    pub(super) fn adopted(&mut self, id: WorkerId, started: Timestamp, turn: &mut Turn<'_>) {
        let within = self.config.reconnect_within;
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.life != Life::Adopting {
            return;
        }
        worker.life = Life::Running;
        // It has not changed its state for us to see; what it does from now on is told as it happens.
        worker.since = started;
        let frozen = worker.frost != Frost::None;
        if frozen && worker.is_kept() {
            // An earlier supervisor may have died before it was.
            worker.frost = Frost::Freezing;
            turn.act(Action::Freeze { worker: id });
        }
        if !worker.heard() && !frozen {
            turn.timer(Timer::Reconnect(id), within);
        }
        if !worker.ready && !frozen {
            turn.timer(Timer::Ready(id), worker.spec.timeouts.start);
        }
        self.runs_now(id);
    }

    /// It may have said hello, and more, before its process was reported.
    fn runs_now(&mut self, id: WorkerId) {
        let Some(worker) = self.slots.get(id) else { return };
        let key = worker.key.clone();
        self.touched.workers.insert(id);
        self.touched.callers.insert(id);
        self.touch_module(&key);
        self.touch_provider(&key);
    }

    pub(super) fn lost(&mut self, id: WorkerId, exit: &Exit, turn: &mut Turn<'_>) {
        if self.slots.get(id).is_some_and(|it| it.life == Life::Adopting) {
            self.exited(id, exit, turn);
        }
    }

    pub(super) fn exited(&mut self, id: WorkerId, exit: &Exit, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if !worker.alive() {
            return;
        }
        worker.oom_kills = worker.oom_kills.saturating_add(exit.oom_kills);
        let clean = exit.status == ExitStatus::Code(0) && worker.condemned.is_none();
        let reason = reason(worker, exit);
        let Some(worker) = self.slots.get(id) else { return };
        let outcome = match self.outcome(worker, clean) {
            Outcome::Fail { .. } if exit.status == ExitStatus::Swept => Outcome::Again,
            outcome => outcome,
        };
        self.end_worker(id, reason, outcome, turn);
    }

    fn end_worker(&mut self, id: WorkerId, reason: String, outcome: Outcome, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let superseded = self.modules.get(&worker.key).is_some_and(|it| worker.cohort < it.record.cohort);
        let Some(worker) = self.slots.get_mut(id) else { return };
        turn.tell(EventKind::Worker, about(worker), format!("ended: {reason}"));
        worker.life = Life::Removing(outcome.clone());
        worker.since = turn.now.wall;
        worker.link = Link::Unheard;
        worker.ready = false;
        worker.frost = Frost::None;
        worker.reported.clear();
        let users = std::mem::take(&mut worker.http_users);
        worker.reason = Some(reason.clone());
        let (key, cohort) = (worker.key.clone(), worker.cohort);
        turn.act(Action::RemoveGroup { worker: id });
        self.recovering.remove(&id);
        self.forget_end(id, turn);
        self.peer_heard(id, turn);
        self.touched.slots.insert(id.slot);
        self.touched.http = true;
        self.touched.workers.extend(users.keys());
        self.touch_routing_operations();
        if !matches!(outcome, Outcome::Vacate | Outcome::Again) && !superseded {
            self.trouble(&key, cohort, &format!("worker {id} ended: {reason}"));
        }
        self.touch_module(&key);
        self.touch_provider(&key);
    }

    pub(super) fn group_gone(&mut self, id: WorkerId, remains: Remains, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get(id) else { return };
        let Life::Removing(outcome) = worker.life.clone() else { return };
        let key = worker.key.clone();
        if let Some(op) = self.operations.on_mut(&key) {
            op.receipt.workers += 1;
            op.receipt.cgroups_removed += remains.cgroups_removed;
            op.receipt.descriptors_closed += remains.descriptors_closed;
            op.receipt.memory_bytes += remains.memory_bytes;
        }
        let Some(worker) = self.slots.get_mut(id) else { return };
        worker.busy = None;
        let leaving = worker.leaving.is_some();
        match outcome {
            _ if leaving => self.vacate(id),
            Outcome::Vacate => self.vacate(id),
            Outcome::Again => self.respawn(id, turn),
            Outcome::Exit => self.settle_worker(id, EndKind::Exited, turn),
            Outcome::Short => {
                // The pause grows, and the last failure before the limit is never reached by this alone.
                let most = worker.spec.crash_limit.map_or(u32::MAX, |it| it.saturating_sub(1));
                worker.failures = worker.failures.saturating_add(1).min(most);
                self.back_off(id, turn);
            }
            Outcome::Fail { again } => {
                worker.failures = worker.failures.saturating_add(1);
                let limit = worker.spec.crash_limit;
                if !again || limit.is_some_and(|it| worker.failures >= it) {
                    self.settle_worker(id, EndKind::Failed, turn);
                } else {
                    self.back_off(id, turn);
                }
            }
        }
        self.touched.slots.insert(id.slot);
        self.touch_module(&key);
    }

    fn settle_worker(&mut self, id: WorkerId, kind: EndKind, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        worker.life = Life::Settled(kind);
        worker.since = turn.now.wall;
        worker.process = None;
        let reason = worker.reason.get_or_insert_default();
        if kind == EndKind::Failed && worker.failures > 1 {
            *reason = format!("failed {} times in a row, the last time: {reason}", worker.failures);
        }
        let text = match kind {
            EndKind::Failed => format!("failed, and is not tried again: {reason}"),
            EndKind::Exited => "exited, as its module.toml allows".to_owned(),
        };
        turn.tell(EventKind::Worker, about(worker), text);
    }

    /// The pause grows with each failure; a part of it is left to chance, so that workers that failed together are not
    /// started together.
    fn back_off(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        let super::Backoff { first, most, .. } = worker.spec.backoff;
        let doubled = 1_u32.checked_shl(worker.failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = first.saturating_mul(doubled).min(most);
        let half = u64::try_from(pause.as_nanos() / 2).unwrap_or(u64::MAX);
        let pause = pause.saturating_sub(Duration::from_nanos(turn.draw.number() % (half + 1)));
        worker.life = Life::Backoff;
        worker.since = turn.now.wall;
        worker.process = None;
        turn.timer(Timer::Backoff(id), pause);
        let failures = worker.failures;
        turn.tell(EventKind::Worker, about(worker), format!("is tried again in {pause:.1?} (failure {failures})"));
    }

    pub(super) fn group_busy(&mut self, id: WorkerId, processes: u32, reason: &str, turn: &mut Turn<'_>) {
        let retry = self.config.retry_after;
        let Some(worker) = self.slots.get_mut(id) else { return };
        if !matches!(worker.life, Life::Removing(_)) {
            return;
        }
        let text = format!("its group could not be removed yet ({processes} processes): {reason}");
        if worker.busy.as_ref() != Some(&text) {
            turn.tell(EventKind::Worker, about(worker), text.clone());
            worker.busy = Some(text);
        }
        turn.timer(Timer::Remove(id), retry);
    }

    pub(super) fn disconnected(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        let within = self.config.reconnect_within;
        let Some(worker) = self.slots.get_mut(id) else { return };
        if !matches!(worker.link, Link::Connected | Link::Greeted { .. }) || !worker.alive() {
            return;
        }
        worker.link = Link::Broken;
        let key = worker.key.clone();
        turn.timer(Timer::Reconnect(id), within);
        self.touched.workers.insert(id);
        self.touch_operation_of(&key);
        self.touch_routing_operations();
    }

    /// The worker is to be killed. The first reason stands.
    pub(super) fn condemn(&mut self, id: WorkerId, reason: impl Into<String>, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        if worker.condemned.is_some() || !worker.alive() {
            return;
        }
        let reason = reason.into();
        turn.tell(EventKind::Worker, about(worker), format!("is killed: {reason}"));
        worker.condemned = Some(reason);
        let (key, channels) = (worker.key.clone(), worker.channels.clone());
        self.touched.workers.insert(id);
        self.touched.channels.extend(channels);
        self.touched.http = true;
        self.touch_routing_operations();
        self.touch_module(&key);
        self.touch_provider(&key);
    }

    /// Timers about one worker.
    pub(super) fn worker_timer(&mut self, timer: &Timer, id: WorkerId, turn: &mut Turn<'_>) {
        let Some(worker) = self.slots.get_mut(id) else { return };
        let timeouts = worker.spec.timeouts;
        let stage = worker.leaving.as_ref().map(|it| it.stage);
        match timer {
            Timer::Ready(_) if worker.alive() && !worker.ready && stage.is_none() => {
                self.condemn(id, format!("it was not ready within {:?}", timeouts.start), turn);
            }
            Timer::Reconnect(_) if worker.is_frozen() => {}
            Timer::Reconnect(_) if worker.alive() && !matches!(worker.link, Link::Connected | Link::Greeted { .. }) => {
                let within = self.config.reconnect_within;
                self.condemn(id, format!("it did not connect to its control socket within {within:?}"), turn);
            }
            Timer::Flip(_) => {
                if let Some(leaving) = &mut worker.leaving {
                    leaving.flip_over = true;
                    let key = worker.key.clone();
                    self.touch_provider(&key);
                }
            }
            Timer::HttpDrain(_) if stage == Some(LeaveStage::Withdrawing) => self.http_over(id),
            Timer::Drain(_) if stage == Some(LeaveStage::Draining) => {
                self.condemn(id, format!("it did not drain within {:?}", timeouts.drain), turn);
            }
            Timer::Stop(_) if stage == Some(LeaveStage::Terminating) => {
                self.condemn(id, format!("it did not end within {:?} of SIGTERM", timeouts.stop), turn);
            }
            Timer::Backoff(_) if worker.life == Life::Backoff => self.respawn(id, turn),
            Timer::Stable(_) if worker.stays() && worker.failures > 0 => {
                worker.failures = 0;
                self.touched.slots.insert(id.slot);
            }
            Timer::Remove(_) if matches!(worker.life, Life::Removing(_)) => {
                turn.act(Action::RemoveGroup { worker: id });
            }
            Timer::Ping(_) | Timer::Pong { .. } => self.health_timer(timer, id, turn),
            _ => {}
        }
    }

    /// A worker that had been told to drain by an earlier supervisor is of no use: it goes, and another comes.
    pub(super) fn replace_drained(&mut self, id: WorkerId, turn: &mut Turn<'_>) {
        self.leave(id, Why::Stopped, turn);
        if let Some(worker) = self.slots.get_mut(id)
            && let Some(Leaving { stage, .. }) = &mut worker.leaving
            && *stage == LeaveStage::Withdrawing
        {
            *stage = LeaveStage::Draining;
            turn.timer(Timer::Drain(id), worker.spec.timeouts.drain);
        }
    }
}

pub(super) fn about(worker: &Worker) -> About<'_> {
    About { key: Some(&worker.key), version: Some(&worker.spec.version), worker: Some(worker.id), operation: None }
}

/// Why a worker ended, with the end of its output.
fn reason(worker: &Worker, exit: &Exit) -> String {
    let status = match exit.status {
        ExitStatus::Code(code) => format!("exit status {code}"),
        ExitStatus::Signal(signal) => format!("killed by signal {signal}"),
        ExitStatus::Unknown => "it ended while nobody was watching".to_owned(),
        ExitStatus::Swept => "it is gone with its group: the host or its unit was stopped".to_owned(),
    };
    let mut text = match (&worker.condemned, &worker.reason, exit.oom_kills) {
        (Some(reason), _, _) => reason.clone(),
        (None, _, kills) if kills > 0 => match worker.limits().memory_bytes {
            Some(limit) => format!("out of memory: the kernel killed it at its limit of {limit} bytes ({status})"),
            None => format!("out of memory: the kernel killed it ({status})"),
        },
        (None, Some(said), _) if !worker.ready => format!("{said} ({status})"),
        (None, _, _) => status,
    };
    if worker.leaving.is_none() && !exit.last_lines.is_empty() {
        text.push_str("; its last output: ");
        text.push_str(&exit.last_lines.join(" | "));
    }
    text
}
