//! Limits that an operator says instead of a module.toml: laid upon the workers that run, and upon those that come.

use std::collections::BTreeSet;

use mortise_control::{ModuleName, TenantName, WorkerId};

use super::refusals as refuse;
use super::requests::{Plan, Then};
use super::state::State;
use super::step::Step;
use super::turn::Turn;
use super::worker::{Life, Worker};
use super::{Action, ModuleKey, Runtime};
use crate::api::{ApiError, Blame, ErrorCode, LimitsStatus, ModuleLimit, ModuleLimits, OperationId, Request};
use crate::manifest::{bounds, show_bytes};
use crate::store::{Change, ModuleRecord};

/// What holds for a worker whose module.toml says `own`.
pub(super) fn effective(own: &LimitsStatus, said: &ModuleLimits) -> LimitsStatus {
    LimitsStatus {
        memory_bytes: said.memory_bytes.or(own.memory_bytes),
        cpu: said.cpu_milli.map(|it| f64::from(it) / 1_000.0).or(own.cpu),
        pids: said.pids.map(u64::from).or(own.pids),
    }
}

impl Worker {
    /// What holds for it.
    pub(super) fn limits(&self) -> LimitsStatus {
        effective(&self.spec.limits, &self.said)
    }
}

impl State {
    /// The workers of a module of which there may be something on the host.
    pub fn workers_of(&self, tenant: &TenantName, module: &ModuleName) -> Vec<WorkerId> {
        let key = ModuleKey { tenant: tenant.clone(), module: module.clone() };
        let workers = self.modules.get(&key).into_iter().flat_map(|it| &it.workers);
        workers.filter_map(|it| self.slots.get(*it)).filter(|it| it.alive()).map(|it| it.id).collect()
    }

    /// Without consent no limit is laid upon a worker that uses more than it already: `used` says what each of them does.
    pub(super) fn plan_set_limits(
        &self,
        (tenant, module): (&TenantName, &ModuleName),
        (limits, lift): (&ModuleLimits, &BTreeSet<ModuleLimit>),
        force: bool,
        used: &[(WorkerId, u64)],
    ) -> Result<Plan, ApiError> {
        let (key, module) = self.idle_module(tenant, module)?;
        let shown = module.shown_version().ok_or_else(|| refuse::no_module(&key))?;
        if matches!(shown.spec.runtime, Runtime::Resource { .. }) {
            return Err(refuse::no_workers(&key));
        }
        if limits.is_empty() && lift.is_empty() {
            return Err(ApiError::new(ErrorCode::Invalid, Blame::Caller, "no limit is named")
                .remedy(format!("`mortise limits {} memory=64M` says one.", key.module)));
        }
        checked(limits)?;
        let said = module.record.limits.changed(limits, lift.iter().copied());
        if !force {
            let workers = module.workers.iter().filter_map(|it| self.slots.get(*it));
            let over = workers.filter_map(|it| overrun(it, &said, used));
            let (over, most): (Vec<String>, Vec<u64>) = over.unzip();
            if let Some(limit) = most.first() {
                return Err(uses_more(&key, *limit, &over));
            }
        }
        let record = ModuleRecord { limits: said, ..module.record.clone() };
        Ok(Plan::new(key, vec![Change::PutModule(record)], Then::Work))
    }

    /// What was said holds for every worker of the module.
    pub(super) fn spread_limits(&mut self, key: &ModuleKey) {
        let Some(module) = self.modules.get(key) else { return };
        for worker in &module.workers {
            if let Some(worker) = self.slots.get_mut(*worker) {
                worker.said = module.record.limits;
            }
        }
    }

    /// Done when the kernel keeps every worker within them.
    pub(super) fn operate_limits(&mut self, id: &OperationId, key: &ModuleKey, turn: &mut Turn<'_>) {
        self.take_step(id, Step::Enforce, turn);
        let Some(module) = self.modules.get(key) else { return };
        let workers = || module.workers.iter().filter_map(|it| self.slots.get(*it));
        // It is being started with those of before.
        if workers().any(|it| it.life == Life::Spawning) {
            return;
        }
        let workers = workers().filter(|it| it.alive()).map(|it| (it.id, it.digest.clone())).collect();
        let limits = module.record.limits;
        let Some(op) = self.operations.get_mut(id) else { return };
        if !op.ordered {
            op.ordered = true;
            turn.act(Action::SetLimits { operation: id.clone(), limits, workers });
        }
    }

    /// The kernel was told. `refused` says of which workers it does not keep them, and why.
    pub(super) fn limits_set(&mut self, id: &OperationId, refused: Vec<(WorkerId, String)>, turn: &mut Turn<'_>) {
        let Some(op) = self.operations.get(id) else { return };
        let Request::SetLimits { force, .. } = *op.request() else { return };
        let subject = op.subject();
        let mut left = Vec::new();
        for (worker, reason) in refused {
            if !self.slots.get(worker).is_some_and(Worker::alive) {
                continue;
            }
            if force {
                self.condemn(worker, format!("it does not fit into its new limits: {reason}"), turn);
            } else {
                left.push(format!("worker {worker}: {reason}"));
            }
        }
        let result = match left.is_empty() {
            true => Ok(()),
            false => {
                let message = format!(
                    "the limits of {subject} hold for workers that are started from now on, and not for those that run: {}",
                    left.join("; ")
                );
                Err(ApiError::new(ErrorCode::Failed, Blame::Host, message)
                    .remedy("`mortise restart` starts them anew, `--force` ends those that do not fit."))
            }
        };
        self.end_operation(id, result, turn);
    }
}

/// That a worker uses more memory than it may have from now on, and no less than it might have before.
fn overrun(worker: &Worker, said: &ModuleLimits, used: &[(WorkerId, u64)]) -> Option<(String, u64)> {
    let limit = effective(&worker.spec.limits, said).memory_bytes?;
    let shrinks = worker.limits().memory_bytes.is_none_or(|it| limit < it);
    let (_, used) = used.iter().find(|(it, _)| *it == worker.id).filter(|(_, used)| shrinks && *used > limit)?;
    Some((format!("worker {} uses {}", worker.id, show_bytes(*used)), limit))
}

fn uses_more(key: &ModuleKey, limit: u64, workers: &[String]) -> ApiError {
    let limit = show_bytes(limit);
    let message = format!("{key} uses more memory than {limit}: {}", workers.join(", "));
    ApiError::new(ErrorCode::Conflict, Blame::Caller, message).remedy(format!(
        "`--force` does it all the same: the kernel takes back file cache, and a worker that does not fit into {limit} then is killed and \
         started again. Calls that it has begun fail."
    ))
}

fn checked(limits: &ModuleLimits) -> Result<(), ApiError> {
    let ModuleLimits { memory_bytes, memory_high_bytes, swap_bytes, cpu_milli, cpu_weight, pids, io_weight } = *limits;
    let milli = |cores: f64| (cores * 1_000.0) as u64;
    let whole = i64::unsigned_abs;
    let fields = [
        ("memory_bytes", memory_bytes, bounds::MEMORY_MIN, bounds::MEMORY_MAX),
        ("memory_high_bytes", memory_high_bytes, bounds::MEMORY_MIN, bounds::MEMORY_MAX),
        ("swap_bytes", swap_bytes, 0, bounds::MEMORY_MAX),
        ("cpu_milli", cpu_milli.map(u64::from), milli(bounds::CPU_MIN), milli(bounds::CPU_MAX)),
        ("cpu_weight", cpu_weight.map(u64::from), whole(bounds::WEIGHT_MIN), whole(bounds::WEIGHT_MAX)),
        ("pids", pids.map(u64::from), whole(bounds::PIDS_MIN), whole(bounds::PIDS_MAX)),
        ("io_weight", io_weight.map(u64::from), whole(bounds::WEIGHT_MIN), whole(bounds::WEIGHT_MAX)),
    ];
    for (field, value, least, most) in fields {
        if let Some(value) = value.filter(|it| !(least..=most).contains(it)) {
            let message = format!("{field} = {value} cannot be a limit of a worker");
            return Err(ApiError::new(ErrorCode::Invalid, Blame::Caller, message).remedy(format!("{least} to {most}.")));
        }
    }
    Ok(())
}
