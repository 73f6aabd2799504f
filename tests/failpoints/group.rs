//! The group `shop` of `unruly` and of `load`, which calls it.

use std::fs;

use serde_json::{Value, json};

use crate::operations::Applied;
use crate::scene::{Scene, module, without_frozen, workers};

/// The version of `load` that runs where there is no group.
pub const ALONE: &str = "1.0.0";

/// What can be seen of the group, and of `load`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its modules, each with the version that is wanted and the one that a rollback goes back to.
    declared: Vec<Value>,
    /// The version of `load` that is in charge.
    load: Value,
    /// Version and state of each worker of it.
    workers: Vec<String>,
}

impl Group {
    pub fn of(snapshot: &Value) -> Self {
        let groups = snapshot["groups"].as_array().cloned().unwrap_or_default();
        let modules = groups.iter().flat_map(|it| it["modules"].as_array().cloned().unwrap_or_default());
        let load = module(snapshot, "default", "load");
        Self {
            declared: modules.map(|it| json!([it["module"], it["version"], it["earlier"]])).collect(),
            workers: workers(&load),
            load: load["version"].clone(),
        }
    }

    /// The same with no workers kept frozen.
    pub fn unkept(&self) -> Self {
        Self { workers: without_frozen(&self.workers), ..self.clone() }
    }
}

impl Scene {
    /// Forgets the group, and has `load` run as it does without one.
    pub fn without_group(&self) {
        let snapshot = self.snapshot();
        if snapshot["groups"].as_array().is_some_and(|it| !it.is_empty()) {
            self.mortise(&["group", "rm", "shop"]);
        }
        let now = Group::of(&snapshot);
        if now.workers != now.unkept().workers {
            self.mortise(&["discard", "load"]);
        }
        if now.load != ALONE {
            self.mortise(&["swap", &format!("load@{ALONE}"), "--keep", "0s"]);
        }
    }

    /// Has both modules run in a version.
    pub fn apply_group(&self, Applied { version, keep }: &Applied) {
        let file = self.file("group.toml");
        let declared = format!("group = \"shop\"\n[modules]\nunruly = \"{version}\"\nload = \"{version}\"\n");
        fs::write(&file, declared).expect("a file");
        self.mortise(&["group", "apply", &file.display().to_string(), "--keep", keep]);
    }
}
