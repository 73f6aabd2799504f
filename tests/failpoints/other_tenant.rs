//! The tenant `acme`, with a module that calls the service `unruly` of the tenant `default` if both let it.

use std::fs;
use std::path::Path;

use mortise_tests::eventually;
use serde_json::{Value, json};

use crate::operations::{Acme, PIDS, ROUTES};
use crate::scene::{Scene, artifacts, module};

/// What can be seen of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherTenant {
    /// Of each tenant its name, its limits, what it exports and what it imports.
    tenants: Vec<Value>,
    /// States of its workers.
    workers: Vec<Value>,
    /// The limit of processes that the kernel keeps for it.
    pids: String,
    /// Whether a worker of its own has a channel to `unruly`.
    pub reaches: bool,
}

impl OtherTenant {
    pub fn of(snapshot: &Value) -> Self {
        let tenants = snapshot["tenants"].as_array().cloned().unwrap_or_default();
        let shown = |it: &Value| json!([it["tenant"], it["limits"], it["exports"], it["imports"]]);
        let load = module(snapshot, "acme", "load");
        let workers: Vec<Value> = load["workers"].as_array().cloned().unwrap_or_default();
        let pids = workers.iter().find_map(|it| pids_of_tenant(it["pid"].as_u64()?)).unwrap_or_default();
        let channels = tenants.iter().find(|it| it["tenant"] == "acme").map(|it| it["used"]["channels"].as_u64());
        Self {
            tenants: tenants.iter().map(shown).collect(),
            workers: workers.iter().map(|it| it["state"].clone()).collect(),
            pids,
            reaches: channels.flatten() > Some(0),
        }
    }
}

/// What the kernel allows the tenant of a worker.
fn pids_of_tenant(worker: u64) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{worker}/cgroup")).ok()?;
    let path = |of: &str| {
        groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|it| it == of).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let root = Path::new("/sys/fs/cgroup");
    let group = path("pids").map(|it| root.join("pids").join(it)).or_else(|| path("").map(|it| root.join(it)))?;
    Some(fs::read_to_string(group.parent()?.join("pids.max")).ok()?.trim().to_owned())
}

impl Scene {
    /// Brings it about, whatever there is of it.
    pub fn prepare_other_tenant(&self, wanted: Option<Acme>) {
        let snapshot = self.snapshot();
        let tenant = |name: &str| {
            let tenants = snapshot["tenants"].as_array().cloned().unwrap_or_default();
            tenants.into_iter().find(|it| it["tenant"] == name).unwrap_or_default()
        };
        let (now, ours) = (tenant("acme"), tenant("default"));
        let runs = !module(&snapshot, "acme", "load").is_null();
        if runs && !wanted.is_some_and(|it| it.calls) {
            self.mortise(&["--tenant", "acme", "stop", "load"]);
            self.mortise(&["--tenant", "acme", "uninstall", "load"]);
        }
        let Some(wanted) = wanted else {
            if !now.is_null() {
                self.mortise(&["tenant", "rm", "acme"]);
            }
            return;
        };
        if now.is_null() {
            self.mortise(&["tenant", "add", "acme"]);
        }
        self.mortise(&["tenant", "set", "acme", &format!("pids={PIDS}")]);
        let exported = ours["exports"]["unruly"].as_array().is_some_and(|it| it.contains(&json!("acme")));
        match (exported, wanted.exported) {
            (false, true) => drop(self.mortise(&["tenant", "export", "unruly", "acme"])),
            (true, false) => drop(self.mortise(&["tenant", "unexport", "unruly", "acme"])),
            _ => {}
        }
        match (now["imports"]["unruly"] == "default", wanted.imported) {
            (false, true) => drop(self.mortise(&["--tenant", "acme", "tenant", "import", "unruly", "default"])),
            (true, false) => drop(self.mortise(&["--tenant", "acme", "tenant", "unimport", "unruly"])),
            _ => {}
        }
        if wanted.routed {
            self.apply_for("acme", ROUTES[0], 0);
        }
        if wanted.calls && !runs {
            let package = artifacts().packages.join("load").display().to_string();
            self.mortise(&["--tenant", "acme", "install", &package]);
            self.mortise(&["--tenant", "acme", "start", "load"]);
        }
        let is_so =
            || OtherTenant::of(&self.snapshot()).reaches == (wanted.calls && wanted.exported && wanted.imported);
        assert!(eventually(is_so), "{}", self.snapshot()["tenants"]);
    }
}
