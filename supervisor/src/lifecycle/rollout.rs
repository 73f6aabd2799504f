//! A swap by steps: the new version comes beside the one in charge, its share grows, and before each step ends it is judged.
//!
//! ```text
//!   start ─▶ ready ─▶ beside ─▶ share 5% ─▶ share 25% ─▶ … ─▶ commit ─▶ as any swap
//!                        └──────────┴─ a gate fails, abort ───┴─▶ roll-back
//! ```
//!
//! What is on disk is the share, whether it is paused, and the verdict. When a step begins, what has been measured and how long it
//! has lasted is known in memory only: a supervisor that comes later begins the step again.

use std::collections::BTreeMap;
use std::time::Duration;

use mortise_control::{ModuleName, TenantName, WorkerId};
use semver::Version;

use super::gates::{Case, Judgement, Measured, Reading, Readings, in_force, judge};
use super::journal::Purpose;
use super::operation::Stage;
use super::progress::Unrouted;
use super::refusals as refuse;
use super::requests::{Plan, Then};
use super::state::State;
use super::step::Step;
use super::turn::{About, Turn};
use super::{Action, ModuleKey, ModuleSpec, Mono, Runtime, Submitted, Timer};
use crate::api::{ApiError, Blame, ErrorCode, EventKind, Figure, Most, OperationId, Request, Rollout, Steering};
use crate::store::{BesideRecord, Change, ModuleRecord, OperationRecord};

/// From one look at the figures to the next.
const LOOK: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

/// The most steps.
const MOST_STEPS: usize = 32;

/// Where a rollout is, as far as this life of the supervisor knows.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The step that it is about.
    share: u32,
    /// What was measured when the step began; none: that has been asked for.
    begun: Option<Begun>,
    /// Every gate was passed after the step's time.
    passed: bool,
    /// The disk could not be written: nothing is tried before the next look.
    stalled: bool,
}

#[derive(Debug)]
struct Begun {
    over: Mono,
    readings: Readings,
    /// Restarts until then: of the new version's workers, and of those in charge.
    restarts: (u64, u64),
}

impl State {
    /// The swap by steps whose new version runs beside the one in charge.
    fn rolls_out(&self, id: &OperationId) -> Option<(&Rollout, &ModuleKey, BesideRecord)> {
        let op = self.operations.get(id)?;
        let (Request::Swap { rollout: Some(rollout), .. }, Some(key)) = (op.request(), &op.key) else { return None };
        let beside = self.modules.get(key)?.record.beside.clone().filter(|it| it.cohort == op.order)?;
        Some((rollout, key, beside))
    }

    /// The rule for a swap by steps between its coming beside and its commit.
    pub(super) fn operate_rollout(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        let Some((rollout, _, beside)) = self.rolls_out(id) else { return };
        let next = rollout.steps.iter().copied().find(|it| *it > beside.share);
        let Some(op) = self.operations.get(id) else { return };
        if op.rollout.stalled {
            return;
        }
        if op.verdict.is_some() {
            return self.commit_rollout(id, None, turn);
        }
        if let Some(error) = self.hopeless(key, beside.cohort) {
            return self.condemn_rollout(id, error, turn);
        }
        let begins = op.rollout.share != beside.share;
        let ends = beside.share == 0 || op.rollout.passed;
        if begins || beside.share == 0 {
            let last = op.unrouted;
            match self.unrouted(key, last) {
                Unrouted::Nobody => {}
                Unrouted::Base => return,
                Unrouted::Caller(caller) => {
                    if let Some(op) = self.operations.get_mut(id) {
                        op.unrouted = Some(caller);
                    }
                    return;
                }
            }
        }
        if begins {
            if let Some(op) = self.operations.get_mut(id) {
                op.rollout = Progress { share: beside.share, ..Progress::default() };
            }
            return self.measure(id, turn);
        }
        if !ends || beside.paused {
            return;
        }
        match next {
            Some(share) => {
                self.take_step(id, Step::Share(share), turn);
                self.commit_rollout(id, Some(BesideRecord { share, ..beside }), turn);
            }
            None if self.rollout_ready(id) => {
                self.take_step(id, Step::Commit, turn);
                self.commit_rollout(id, None, turn);
            }
            None => {}
        }
    }

    /// Puts the next share on disk, or the end of there being two: in charge, or gone if there is a verdict.
    fn commit_rollout(&mut self, id: &OperationId, next: Option<BesideRecord>, turn: &Turn<'_>) {
        let Some((_, key, beside)) = self.rolls_out(id) else { return };
        let key = key.clone();
        let Some(op) = self.operations.get(id) else { return };
        let kept = self.keeps_after(&key, op.request(), turn.now.wall);
        let takes_charge = next.is_none() && op.verdict.is_none();
        let Some(module) = self.modules.get(&key) else { return };
        let mut record = ModuleRecord { beside: next, ..module.record.clone() };
        if takes_charge {
            record = ModuleRecord { version: Some(beside.version), cohort: beside.cohort, kept, ..record };
        }
        let Some(op) = self.operations.get_mut(id) else { return };
        op.stage = Stage::Committing;
        let changes = [Change::PutModule(record.clone()), Change::PutOperation(Box::new(op.record()))];
        self.journal.stage(Purpose::Commit(id.clone(), record), changes);
    }

    /// A commit of a rollout is not on disk: it is tried again at the next look. False: it is no rollout's.
    pub(super) fn stall_rollout(&mut self, id: &OperationId, turn: &mut Turn<'_>) -> bool {
        if self.rolls_out(id).is_none() {
            return false;
        }
        let retry = self.config.retry_after;
        let Some(op) = self.operations.get_mut(id) else { return false };
        op.stage = Stage::Running;
        op.rollout.stalled = true;
        turn.timer(Timer::Look(id.clone()), retry);
        true
    }

    /// It is to end, for this reason.
    fn condemn_rollout(&mut self, id: &OperationId, mut error: ApiError, turn: &mut Turn<'_>) {
        let Some((_, key, beside)) = self.rolls_out(id) else { return };
        let key = key.clone();
        error.message = format!("{}, at step {} %", error.message, beside.share);
        let about = About { key: Some(&key), version: Some(&beside.version), operation: Some(id), ..About::default() };
        turn.tell(EventKind::Operation, about, format!("is rolled back: {}", error.message));
        if let Some(op) = self.operations.get_mut(id) {
            op.verdict = Some(error);
        }
        if let Some(module) = self.modules.get_mut(&key) {
            module.withheld = true;
        }
        self.touch_provider(&key);
        self.touched.operations.insert(id.clone());
    }

    /// Whether all workers of the new version are ready.
    fn rollout_ready(&self, id: &OperationId) -> bool {
        let Some((_, key, beside)) = self.rolls_out(id) else { return false };
        let Some(module) = self.modules.get(key) else { return false };
        let spec = module.versions.get(&beside.version).map(|it| &it.spec);
        spec.is_some_and(|it| self.cohort_ready(key, beside.cohort, module.wanted(it)))
    }

    /// Both versions' workers, those in charge last.
    fn of_rollout(&self, id: &OperationId) -> (Vec<WorkerId>, Vec<WorkerId>, (u64, u64)) {
        let Some((_, key, beside)) = self.rolls_out(id) else { return (Vec::new(), Vec::new(), (0, 0)) };
        let Some(module) = self.modules.get(key) else { return (Vec::new(), Vec::new(), (0, 0)) };
        let workers = || module.workers.iter().filter_map(|it| self.slots.get(*it));
        let of = |cohort| workers().filter(move |it| it.cohort == cohort && it.alive()).map(|it| it.id).collect();
        let restarts = |cohort| workers().filter(|it| it.cohort == cohort).map(|it| u64::from(it.restarts)).sum();
        let charge = module.record.cohort;
        (of(beside.cohort), of(charge), (restarts(beside.cohort), restarts(charge)))
    }

    fn measure(&self, id: &OperationId, turn: &mut Turn<'_>) {
        let (new, old, _) = self.of_rollout(id);
        turn.act(Action::Measure { operation: id.clone(), workers: new.into_iter().chain(old).collect() });
    }

    /// It is time to look at the figures.
    pub(super) fn look(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let Some((_, _, beside)) = self.rolls_out(id) else { return };
        let Some(op) = self.operations.get_mut(id) else { return };
        if std::mem::take(&mut op.rollout.stalled) {
            self.touched.operations.insert(id.clone());
        }
        // Without a share there is nothing to judge.
        if beside.share > 0 {
            self.measure(id, turn);
        }
    }

    /// The figures are there.
    pub(super) fn measured(&mut self, id: &OperationId, readings: &[(WorkerId, Reading)], turn: &mut Turn<'_>) {
        let Some((rollout, _, beside)) = self.rolls_out(id) else { return };
        let (pause, min_calls) = (Duration::from_millis(rollout.pause_ms), rollout.min_calls);
        let (new, old, restarts) = self.of_rollout(id);
        let now: Readings = readings.iter().cloned().collect();
        let Some(op) = self.operations.get_mut(id) else { return };
        // What is on its way to the disk may put it in charge, or be refused: what it comes to is looked at then.
        if op.stage == Stage::Committing {
            return turn.timer(Timer::Look(id.clone()), LOOK);
        }
        // What was asked about another step comes too late.
        if op.verdict.is_some() || op.rollout.share != beside.share {
            return;
        }
        let Some(begun) = &op.rollout.begun else {
            op.rollout.begun = Some(Begun { over: turn.now.mono + pause, readings: now, restarts });
            turn.timer(Timer::Look(id.clone()), pause.min(LOOK));
            self.touched.operations.insert(id.clone());
            return;
        };
        let of = |readings: &Readings, workers: &[WorkerId]| -> Readings {
            workers.iter().filter_map(|it| Some((*it, readings.get(it)?.clone()))).collect()
        };
        let since = |before: u64, now: u64| now.saturating_sub(before);
        let early = turn.now.mono < begun.over;
        let left = begun.over.since(turn.now.mono);
        let new = Measured::between(&of(&begun.readings, &new), &of(&now, &new), since(begun.restarts.0, restarts.0));
        let of_old = since(begun.restarts.1, restarts.1);
        let mut charge = Measured::between(&of(&begun.readings, &old), &of(&now, &old), of_old);
        if charge.calls < min_calls {
            charge = Measured::between(&BTreeMap::new(), &of(&now, &old), of_old);
        }
        let gates = self.gates_of(id);
        let version = |it: Option<&Version>| it.map_or_else(|| "the version before".to_owned(), ToString::to_string);
        let Some((_, key, _)) = self.rolls_out(id) else { return };
        let old = version(self.modules.get(key).and_then(|it| it.record.version.as_ref()));
        let name = beside.version.to_string();
        let case = Case { new: (&name, &new), old: (&old, &charge), min_calls, early };
        let judgement = judge(&gates, &case);
        let ready = self.rollout_ready(id);
        turn.timer(Timer::Look(id.clone()), if early { left.min(LOOK) } else { LOOK });
        match judgement {
            Judgement::Failed(text) => {
                let error = refuse::failed(Blame::Module, text).remedy(format!(
                    "`mortise logs` shows what {name} printed; `mortise operation {id}` what was measured."
                ));
                self.condemn_rollout(id, error, turn);
            }
            Judgement::Few if !early => self.say(id, &format!("waits for calls: {} of {min_calls}", new.calls), turn),
            Judgement::Passed(said) if !early && ready => {
                let said = format!("{} calls; {said}", new.calls);
                self.say(id, said.trim_end_matches("; "), turn);
                if let Some(op) = self.operations.get_mut(id) {
                    op.rollout.passed = true;
                }
                self.touched.operations.insert(id.clone());
            }
            Judgement::Few | Judgement::Passed(_) => {
                if let Some(op) = self.operations.get_mut(id) {
                    op.rollout.passed = false;
                }
            }
        }
    }

    /// What there is to say of the step that it is at.
    fn say(&mut self, id: &OperationId, said: &str, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get_mut(id) else { return };
        let Some(step) = op.operation.steps.last_mut().filter(|it| it.said.as_deref() != Some(said)) else { return };
        step.said = Some(said.to_owned());
        turn.act(Action::Progress(Box::new(op.operation.clone())));
        self.operations.unsaved.insert(id.clone());
    }

    fn gates_of(&self, id: &OperationId) -> Vec<crate::api::Gate> {
        let Some((rollout, key, _)) = self.rolls_out(id) else { return Vec::new() };
        let charge = self.modules.get(key).and_then(|it| it.current());
        in_force(charge.into_iter().flat_map(|it| &it.spec.gates).chain(&rollout.gates))
            .into_iter()
            .filter(|it| charge.is_none_or(|charge| can_judge(&charge.spec, it.figure)))
            .collect()
    }

    /// Whether such a rollout can be.
    pub(super) fn check_rollout(
        &self,
        key: &ModuleKey,
        rollout: &Rollout,
        specs: [&ModuleSpec; 2],
    ) -> Result<(), ApiError> {
        let invalid = |message: String| ApiError::new(ErrorCode::Invalid, Blame::Caller, message);
        if let Some(spec) = specs.into_iter().find(|it| matches!(it.runtime, Runtime::Base | Runtime::Resource { .. }))
        {
            return Err(refuse::cannot_run_beside(key, &spec.runtime));
        }
        let steps = &rollout.steps;
        let grows = steps.windows(2).all(|it| it[0] < it[1]);
        if steps.is_empty() || steps.len() > MOST_STEPS || !grows || steps[0] == 0 || steps.iter().any(|it| *it > 100) {
            return Err(invalid(format!("steps = {steps:?} are no shares that grow"))
                .remedy(format!("1 to {MOST_STEPS} numbers from 1 to 100, each more than the one before.")));
        }
        if Duration::from_millis(rollout.pause_ms) > LONGEST_PAUSE {
            return Err(invalid(format!("pause_ms = {} is too long", rollout.pause_ms))
                .remedy(format!("At most {} milliseconds (24 hours).", LONGEST_PAUSE.as_millis())));
        }
        let wanted = rollout.gates.iter().filter(|it| it.most != Most::Off);
        let blind = |figure: Figure| !specs.iter().all(|it| can_judge(it, figure));
        match wanted.map(|it| it.figure).find(|it| blind(*it)) {
            None => Ok(()),
            Some(figure) => Err(invalid(format!(
                "{key} is a program without the SDK: nobody counts its calls for {}",
                figure.name()
            ))
            .remedy("`restarts` and `memory` can judge it.")),
        }
    }

    /// What steers a swap that is under way: it does not wait for it, as other requests do.
    pub(super) fn plan_steer(&self, tenant: &TenantName, module: &ModuleName, to: Steering) -> Result<Plan, ApiError> {
        let key = ModuleKey { tenant: tenant.clone(), module: module.clone() };
        if self.modules.get(&key).is_none() {
            return Err(refuse::no_module(&key));
        }
        let Some(op) = self.operations.on(&key).filter(|it| it.stage == Stage::Running) else {
            return Err(refuse::nothing_to_steer(&key, self.operations.on(&key)));
        };
        let id = op.operation.id.clone();
        let beside = self.rolls_out(&id).map(|(_, _, beside)| beside).filter(|_| op.verdict.is_none());
        let starts = self.incoming(&key).is_some() && !matches!(op.request(), Request::Rollback { .. });
        let Some(record) = self.modules.get(&key).map(|it| it.record.clone()) else {
            return Err(refuse::no_module(&key));
        };
        let changes = match (to, beside) {
            (Steering::Pause | Steering::Resume, Some(beside)) => {
                let beside = Some(BesideRecord { paused: to == Steering::Pause, ..beside });
                vec![Change::PutModule(ModuleRecord { beside, ..record })]
            }
            (Steering::Pause | Steering::Resume, None) if starts => return Err(refuse::starts_yet(op)),
            (Steering::Abort, beside) if starts || beside.is_some() => {
                let at = beside.as_ref().map(|it| format!(" at step {} %", it.share)).unwrap_or_default();
                let verdict = ApiError::new(ErrorCode::Failed, Blame::Operator, format!("aborted{at}"));
                let operation = OperationRecord { verdict: Some(verdict), ..op.record() };
                let mut changes = vec![Change::PutOperation(Box::new(operation))];
                if beside.is_some() {
                    changes.push(Change::PutModule(ModuleRecord { beside: None, ..record }));
                }
                changes
            }
            _ => return Err(refuse::nothing_to_steer(&key, Some(op))),
        };
        Ok(Plan::of_tenant(changes, Then::Nothing))
    }

    /// What steers a module's swap is on its way to the disk. Until it is there, nothing else changes the module's record, and every form
    /// of the swap that is written has its verdict.
    pub(super) fn steers(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::PutModule(record) => {
                    if let Some(op) = self.operations.on_mut(&record.key) {
                        op.stage = Stage::Committing;
                    }
                }
                Change::PutOperation(record) => {
                    if let Some(op) = self.operations.get_mut(&record.operation.id) {
                        op.stage = Stage::Committing;
                        op.verdict.clone_from(&record.verdict);
                    }
                }
                _ => {}
            }
        }
    }

    /// What steers a module's swap is on disk, or is not and never was.
    pub(super) fn steered(&mut self, request: &Request, accepted: bool, turn: &mut Turn<'_>) {
        let Request::SteerSwap { tenant, module, to } = request else { return };
        let key = ModuleKey { tenant: tenant.clone(), module: module.clone() };
        let Some(op) = self.operations.on_mut(&key).filter(|it| it.stage == Stage::Committing) else { return };
        let id = op.operation.id.clone();
        op.stage = Stage::Running;
        if *to == Steering::Abort {
            match op.verdict.clone() {
                Some(verdict) if accepted => self.roll_back(&id, verdict, turn),
                Some(_) | None => {
                    op.verdict = None;
                    self.operations.unsaved.insert(id.clone());
                }
            }
        }
        self.touched.operations.insert(id.clone());
        self.release_held(&id, turn);
    }

    /// Requests that had to wait for a change of the operation to be on disk.
    pub(super) fn release_held(&mut self, id: &OperationId, turn: &mut Turn<'_>) {
        let held: Vec<Submitted> =
            self.operations.get_mut(id).map(|it| std::mem::take(&mut it.held)).unwrap_or_default();
        for submitted in held {
            self.request(submitted, turn);
        }
    }

    /// Holds what steers a swap back while a change of the swap is on its way to the disk.
    pub(super) fn hold(&mut self, submitted: Submitted) -> Option<Submitted> {
        let Request::SteerSwap { tenant, module, .. } = &submitted.request else { return Some(submitted) };
        let key = ModuleKey { tenant: tenant.clone(), module: module.clone() };
        match self.operations.on_mut(&key).filter(|it| it.stage == Stage::Committing) {
            Some(op) => op.held.push(submitted),
            None => return Some(submitted),
        }
        None
    }
}

/// Whether somebody counts what the figure needs.
fn can_judge(spec: &ModuleSpec, figure: Figure) -> bool {
    !figure.needs_calls() || matches!(spec.runtime, Runtime::Sdk)
}
