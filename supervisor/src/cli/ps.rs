//! `mortise ps`: a line for each worker, and one for each module that has none.

use jiff::Timestamp;
use mortise_control::{ModuleName, TenantName};
use semver::Version;
use serde::{Deserialize, Serialize};

use super::fault::Done;
use super::screen::{Screen, visible};
use super::session::Session;
use super::units;
use crate::api::{Desired, ModuleStatus, WorkerState, WorkerStatus};

/// A line of `mortise ps --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Whose.
    pub tenant: TenantName,
    /// Which module.
    pub module: ModuleName,
    /// The version of the worker, or the newest installed.
    pub version: Option<Version>,
    /// What the operator wants.
    pub desired: Desired,
    /// The worker; none when the module has none. Then all that follows is absent too.
    #[serde(flatten)]
    pub worker: Option<WorkerRow>,
    /// Whether it could have workers: a module that only holds resources has none.
    #[serde(skip, default)]
    only_resources: bool,
}

/// The worker's part of a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerRow {
    /// `slot.generation`.
    pub worker: String,
    /// Where it is in its life.
    pub state: WorkerState,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its pid as the host sees it.
    pub pid: Option<u32>,
    /// Bytes charged to its cgroup.
    pub memory_bytes: u64,
    /// Its limit.
    pub memory_limit_bytes: Option<u64>,
    /// CPU time, in microseconds.
    pub cpu_usec: u64,
    /// Its share, in cores.
    pub cpu_limit: Option<f64>,
    /// Processes and threads.
    pub pids: u64,
    /// Their limit.
    pub pids_limit: Option<u64>,
    /// How often this instance was restarted.
    pub restarts: u32,
    /// How often the kernel killed one of its processes for memory.
    pub oom_kills: u64,
    /// Since when it is in this state.
    pub since: Timestamp,
}

/// `mortise ps`.
pub async fn ps(session: &Session) -> Done {
    let modules: Vec<ModuleStatus> = session.client.get(&session.of_tenant("/v1/modules")).await?;
    let rows: Vec<Row> = modules.iter().flat_map(rows).collect();
    if session.screen.json {
        return session.screen.json(&rows);
    }
    if rows.is_empty() {
        return session.screen.line("no modules; `mortise install FILE|DIR` brings one in");
    }
    show(session.screen, &rows, Timestamp::now())
}

fn rows(module: &ModuleStatus) -> Vec<Row> {
    let row = |version, worker| Row {
        tenant: module.tenant.clone(),
        module: module.module.clone(),
        version,
        desired: module.desired,
        worker,
        only_resources: module.services.is_empty(),
    };
    if module.workers.is_empty() {
        let newest = module.installed.first().map(|it| it.version.clone());
        return vec![row(module.version.clone().or(newest), None)];
    }
    module.workers.iter().map(|it| row(Some(it.version.clone()), Some(worker(it)))).collect()
}

fn worker(it: &WorkerStatus) -> WorkerRow {
    WorkerRow {
        worker: it.worker.clone(),
        state: it.state,
        reason: it.reason.clone(),
        pid: it.pid,
        memory_bytes: it.memory_bytes,
        memory_limit_bytes: it.limits.memory_bytes,
        cpu_usec: it.cpu_usec,
        cpu_limit: it.limits.cpu,
        pids: it.pids,
        pids_limit: it.limits.pids,
        restarts: it.restarts,
        oom_kills: it.oom_kills,
        since: it.since,
    }
}

fn show(screen: Screen, rows: &[Row], now: Timestamp) -> Done {
    let mut table =
        screen.table(&["MODULE", "VERSION", "WORKER", "STATE", "MEMORY", "CPU", "PIDS", "RESTARTS", "SINCE", "REASON"]);
    for row in rows {
        let version = row.version.as_ref().map_or("-".to_owned(), Version::to_string);
        let module = row.module.to_string();
        let Some(it) = &row.worker else {
            let state = match row.desired {
                Desired::Installed => "installed",
                Desired::Running if row.only_resources => "running",
                Desired::Running => "waiting",
            };
            table.add_row([module, version, "-".into(), state.into()]);
            continue;
        };
        table.add_row([
            module.into(),
            version.into(),
            it.worker.clone().into(),
            screen.state_cell(it.state),
            units::of(units::bytes(it.memory_bytes), it.memory_limit_bytes.map(units::bytes)).into(),
            units::cpu(it.cpu_usec).into(),
            units::of(it.pids.to_string(), it.pids_limit.map(|it| it.to_string())).into(),
            it.restarts.to_string().into(),
            units::since(it.since, now).into(),
            comfy_table::Cell::new(visible(it.reason.as_deref().unwrap_or("-"))),
        ]);
    }
    screen.show(&table)
}
