//! State goes from the version in charge to the one that is to replace it, between its being ready and the commit.
//!
//! ```text
//!   ready ─▶ hold ──nobody calls the old worker──▶ export ──sealed──▶ import ─▶ commit ─▶ as any swap
//!              └────────── late, refused, dead ──────┴──────────────────┴─▶ roll-back: the old worker is called again
//! ```
//!
//! From `hold` on no call reaches the old worker, so nothing that it does after its export can be lost: calls wait, within their
//! deadlines. How far it is is known in memory only: a supervisor that comes later rolls back what is not committed.

use std::collections::BTreeSet;
use std::time::Duration;

use mortise_control::{ExportedState, WorkerId};

use super::channel::{Channel, End};
use super::module::Module;
use super::operation::Stage;
use super::refusals as refuse;
use super::spec::Handover;
use super::state::State;
use super::step::Step;
use super::turn::Turn;
use super::worker::Worker;
use super::{Action, ModuleKey, Mono, Timer};
use crate::api::{ApiError, Blame, OperationId, Request};
use crate::manifest::{show_bytes, show_duration};

/// Where a hand-over is.
#[derive(Debug)]
pub(super) struct Handing {
    /// What the messages about it are known by.
    id: u64,
    from: WorkerId,
    to: WorkerId,
    terms: Terms,
    at: At,
    /// When each stage began.
    began: Vec<Mono>,
    /// Whose connection broke.
    broken: BTreeSet<WorkerId>,
}

/// What holds for it: what the older version declares, within what the newer one does.
#[derive(Clone, Copy, Debug)]
struct Terms {
    version: u32,
    max_bytes: u64,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Holding,
    Exporting,
    Sealing(ExportedState),
    Importing(ExportedState),
    Imported,
}

impl Terms {
    fn between(from: &Handover, to: &Handover) -> Self {
        let (max_bytes, timeout) = (from.max_bytes.min(to.max_bytes), from.timeout.min(to.timeout));
        Self { version: from.version, max_bytes, timeout }
    }
}

impl Handing {
    fn come_to(&mut self, at: At, now: Mono) {
        self.at = at;
        self.began.push(now);
    }

    /// What was handed over, and how long calls have waited for it.
    fn said(&self, state: ExportedState) -> String {
        let span = |a: usize, b: usize| match (self.began.get(a), self.began.get(b)) {
            (Some(a), Some(b)) => Duration::from_nanos(b.0.saturating_sub(a.0)),
            _ => Duration::ZERO,
        };
        format!(
            "{} bytes of version {}; calls were held back for {:.1?}: {:.1?} for those in flight, {:.1?} for the export, {:.1?} for the import",
            state.len,
            state.version,
            span(0, 4),
            span(0, 1),
            span(1, 3),
            span(3, 4),
        )
    }
}

impl State {
    /// The rule for a swap that is ready and not committed. True: nothing is in the way of its commit.
    pub(super) fn hand_over(&mut self, id: &OperationId, key: &ModuleKey, cohort: u64, turn: &mut Turn<'_>) -> bool {
        let Some(terms) = self.terms(id, key) else { return true };
        let advanced = match self.operations.get(id).is_some_and(|it| it.handover.is_some()) {
            false => self.hold_calls(id, key, cohort, terms, turn),
            true => self.check_pair(id),
        };
        if let Err(error) = advanced {
            self.roll_back(id, error, turn);
            return false;
        }
        let Some(handing) = self.operations.get(id).and_then(|it| it.handover.as_ref()) else { return false };
        match handing.at {
            At::Holding if !self.is_called(handing.from) => {
                self.take_step(id, Step::Export, turn);
                let now = turn.now.mono;
                let Some(op) = self.operations.get_mut(id) else { return false };
                let Some(handing) = op.handover.as_mut() else { return false };
                handing.come_to(At::Exporting, now);
                let (handover, worker, max_bytes) = (handing.id, handing.from, handing.terms.max_bytes);
                turn.act(Action::ExportState { operation: id.clone(), handover, worker, max_bytes });
                false
            }
            At::Holding | At::Exporting | At::Sealing(_) | At::Importing(_) => false,
            At::Imported => true,
        }
    }

    /// What is to be handed over; none: this swap goes without.
    fn terms(&self, id: &OperationId, key: &ModuleKey) -> Option<Terms> {
        let Request::Swap { version, rollout: None, without_state: false, .. } = self.operations.get(id)?.request()
        else {
            return None;
        };
        let module = self.modules.get(key)?;
        let (from, to) =
            (module.current()?.spec.handover.as_ref()?, module.versions.get(version)?.spec.handover.as_ref()?);
        Some(Terms::between(from, to))
    }

    /// Calls are held back from now on.
    fn hold_calls(
        &mut self,
        id: &OperationId,
        key: &ModuleKey,
        cohort: u64,
        terms: Terms,
        turn: &mut Turn<'_>,
    ) -> Result<(), ApiError> {
        let Some(module) = self.modules.get(key) else { return Ok(()) };
        let (Some(from), Some(to)) = (self.only(module, module.record.cohort), self.only(module, cohort)) else {
            return Err(refuse::nobody_hands_over(key, "there is not one worker of each version"));
        };
        if !from.stays() {
            return Err(refuse::nobody_hands_over(key, &format!("worker {} is not ready", from.id)));
        }
        if !from.connected() || !to.connected() {
            return Ok(()); // it connects again, or ends
        }
        // Such a channel is left alone for as long as it takes, so there is to be one of them at most.
        let withheld = |it: &Channel| it.withheld && it.callee != End::Released;
        if from.channels.iter().filter_map(|it| self.channels.get(it)).any(withheld) {
            let why = format!("calls that worker {} had begun before an earlier hand-over have not ended", from.id);
            return Err(refuse::nobody_hands_over(key, &why));
        }
        let (from, to) = (from.id, to.id);
        let handing = Handing {
            id: turn.draw.number(),
            from,
            to,
            terms,
            at: At::Holding,
            began: vec![turn.now.mono],
            broken: BTreeSet::new(),
        };
        self.take_step(id, Step::Hold, turn);
        turn.timer(Timer::Handover(id.clone()), terms.timeout);
        if let Some(op) = self.operations.get_mut(id) {
            op.handover = Some(handing);
        }
        self.touch_provider(key);
        Ok(())
    }

    /// The worker of a cohort, if it has one.
    fn only(&self, module: &Module, cohort: u64) -> Option<&Worker> {
        let mut workers = module.workers.iter().filter_map(|it| self.slots.get(*it)).filter(|it| it.cohort == cohort);
        workers.next().filter(|_| workers.next().is_none())
    }

    /// Both must stay as they are until the commit. One whose connection is broken may have ended, and then it is soon known how; if it
    /// connects again, something that was said may be lost.
    fn check_pair(&mut self, id: &OperationId) -> Result<(), ApiError> {
        let Some(handing) = self.operations.get_mut(id).and_then(|it| it.handover.as_mut()) else { return Ok(()) };
        for worker in [handing.from, handing.to] {
            let what = match self.slots.get(worker) {
                Some(it) if !it.stays() => match it.reason.as_ref().or(it.condemned.as_ref()) {
                    Some(reason) => format!("ended: {reason}"),
                    None => "is not ready any more".to_owned(),
                },
                Some(it) if !it.connected() => {
                    handing.broken.insert(worker);
                    continue;
                }
                Some(_) if handing.broken.contains(&worker) => "lost its control connection".to_owned(),
                Some(_) => continue,
                None => "is gone".to_owned(),
            };
            return Err(refuse::failed(Blame::Module, format!("while state was handed over, worker {worker} {what}")));
        }
        Ok(())
    }

    /// Whether calls of this worker's services wait: it hands over, or has handed over, its state.
    pub(super) fn is_withheld(&self, worker: &Worker) -> bool {
        let Some(op) = self.operations.on(&worker.key).filter(|it| worker.cohort < it.order) else { return false };
        op.handover.is_some() || self.has_handed_over(&worker.key)
    }

    /// Whether the state of a module is its new worker's, for good: the old one must not be called again.
    pub(super) fn has_handed_over(&self, key: &ModuleKey) -> bool {
        let Some(op) = self.operations.on(key) else { return false };
        op.has_taken(Step::Import) && self.modules.get(key).is_some_and(|it| it.record.cohort == op.order)
    }

    /// The hand-over that a message of this worker may be about.
    fn handing(&mut self, worker: WorkerId, handover: u64) -> Option<(OperationId, &mut Handing)> {
        let key = self.slots.get(worker)?.key.clone();
        let op = self.operations.on_mut(&key).filter(|it| it.stage == Stage::Running)?;
        let id = op.operation.id.clone();
        let handing = op.handover.as_mut().filter(|it| it.id == handover)?;
        Some((id, handing))
    }

    /// The old worker has written its state, it says.
    pub(super) fn state_exported(
        &mut self,
        worker: WorkerId,
        handover: u64,
        outcome: Result<ExportedState, String>,
        turn: &mut Turn<'_>,
    ) {
        let Some((id, handing)) = self.handing(worker, handover) else { return };
        if handing.from != worker || handing.at != At::Exporting {
            return;
        }
        let Terms { version, max_bytes, .. } = handing.terms;
        let fault = match outcome {
            Err(why) => format!("worker {worker} exports no state: {why}"),
            Ok(it) if it.version != version => {
                format!(
                    "worker {worker} exports state of version {}, and its module.toml says handover.version = {version}",
                    it.version
                )
            }
            Ok(it) if it.len > max_bytes => {
                let most = show_bytes(max_bytes);
                format!(
                    "worker {worker} says that it exports {} bytes of state, and handover.max_bytes is {most}",
                    it.len
                )
            }
            Ok(exported) => {
                handing.come_to(At::Sealing(exported), turn.now.mono);
                return turn.act(Action::SealState { operation: id, handover, len: exported.len });
            }
        };
        self.roll_back(&id, refuse::failed(Blame::Module, fault), turn);
    }

    /// What was exported can be changed by nobody any more, or it is of no use.
    pub(super) fn state_sealed(
        &mut self,
        id: &OperationId,
        handover: u64,
        result: Result<(), String>,
        turn: &mut Turn<'_>,
    ) {
        let Some(op) = self.operations.get_mut(id).filter(|it| it.stage == Stage::Running) else { return };
        let Some(handing) = op.handover.as_mut().filter(|it| it.id == handover) else { return };
        match (result, handing.at) {
            (Err(why), At::Exporting | At::Sealing(_)) => {
                let error = format!("the state of worker {} cannot be handed over: {why}", handing.from);
                self.roll_back(id, refuse::failed(Blame::Module, error), turn);
            }
            (Ok(()), At::Sealing(state)) => {
                handing.come_to(At::Importing(state), turn.now.mono);
                let worker = handing.to;
                self.take_step(id, Step::Import, turn);
                turn.act(Action::ImportState { handover, worker, state });
            }
            (Ok(()), _) | (Err(_), At::Holding | At::Importing(_) | At::Imported) => {}
        }
    }

    /// The new worker has taken the state, it says.
    pub(super) fn state_imported(
        &mut self,
        worker: WorkerId,
        handover: u64,
        outcome: Result<(), String>,
        turn: &mut Turn<'_>,
    ) {
        let Some((id, handing)) = self.handing(worker, handover) else { return };
        let At::Importing(state) = handing.at else { return };
        if handing.to != worker {
            return;
        }
        if let Err(why) = outcome {
            let error = format!("worker {worker} refuses the state of version {}: {why}", state.version);
            return self.roll_back(&id, refuse::failed(Blame::Module, error), turn);
        }
        handing.come_to(At::Imported, turn.now.mono);
        let said = handing.said(state);
        if let Some(step) = self.operations.get_mut(&id).and_then(|it| it.operation.steps.last_mut()) {
            step.said = Some(said);
        }
        self.touched.operations.insert(id);
    }

    /// Calls have waited long enough.
    pub(super) fn handover_late(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get(id).filter(|it| it.stage == Stage::Running) else { return };
        let Some(handing) = &op.handover else { return };
        let what = match handing.at {
            At::Holding => format!("calls that worker {} had begun did not end", handing.from),
            At::Exporting => format!("worker {} did not export its state", handing.from),
            At::Sealing(_) => format!("the state of worker {} was not sealed", handing.from),
            At::Importing(_) => format!("worker {} did not import the state", handing.to),
            At::Imported => return,
        };
        let within = show_duration(handing.terms.timeout);
        let error = refuse::failed(Blame::Module, format!("{what} within handover.timeout = {within}"));
        self.roll_back(id, error, turn);
    }

    /// The swap is rolled back: the old worker is called again.
    pub(super) fn end_handover(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        let (Some(handing), Some(key)) = (op.handover.take(), op.key.clone()) else { return };
        if handing.at != At::Holding {
            turn.act(Action::ForgetState { handover: handing.id });
        }
        self.touch_provider(&key);
    }

    /// Whether a swap can do without losing state, or is told to.
    pub(super) fn check_handover(&self, module: &Module, request: &Request) -> Result<(), ApiError> {
        let Request::Swap { version, rollout, without_state: false, .. } = request else { return Ok(()) };
        let (Some(current), Some(next)) = (module.current(), module.versions.get(version)) else { return Ok(()) };
        let Some(from) = current.spec.handover.as_ref().filter(|_| current.spec.version != *version) else {
            return Ok(());
        };
        let key = &module.record.key;
        let refuse = |why: String| Err(refuse::no_handover(key, version, &why));
        let (now, most) = (&current.spec.version, module.wanted(&current.spec).max(module.wanted(&next.spec)));
        match &next.spec.handover {
            None => refuse(format!("{now} hands its state over, and {version} has no [handover]")),
            Some(to) if !to.accepts.contains(&from.version) => refuse(format!(
                "{now} exports state of version {}, and {version} accepts {}",
                from.version,
                refuse::list(&to.accepts)
            )),
            Some(_) if rollout.is_some() => {
                refuse("state goes to one version all at once, and a swap by steps has two that answer".to_owned())
            }
            Some(_) if module.record.beside.is_some() => {
                refuse(format!("{version} runs beside {now} and has state of its own"))
            }
            Some(_) if most > 1 => refuse(format!("it runs {most} instances, whose state is not one")),
            Some(_) => Ok(()),
        }
    }

    /// Whether a swap to this version hands state over.
    pub(super) fn would_hand_over(module: &Module, version: &semver::Version) -> bool {
        let (current, next) = (module.current(), module.versions.get(version));
        current.is_some_and(|it| it.spec.handover.is_some() && it.spec.version != *version)
            && next.is_some_and(|it| it.spec.handover.is_some())
    }
}
