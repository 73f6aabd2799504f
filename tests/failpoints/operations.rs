//! The operations, and what they begin with.

use serde_json::{Value, json};

/// What is to be there before an operation: of the module `unruly`, in the versions 1.0.0 and 2.0.0.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Which versions are installed.
    pub installed: &'static [&'static str],
    /// Which runs.
    pub running: Option<&'static str>,
    /// Which is kept frozen.
    pub kept: Option<&'static str>,
    pub instances: u32,
    pub published: bool,
    /// Whether the module `dictionary`, which is a resource, runs.
    pub resource: bool,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub name: &'static str,
    pub before: Before,
    /// Its request without tenant and module; none: a package is sent.
    pub request: Option<&'static str>,
    pub module: &'static str,
}

const STOPPED: Before =
    Before { installed: &["1.0.0"], running: None, kept: None, instances: 1, published: true, resource: false };
const RUNS: Before = Before { running: Some("1.0.0"), ..STOPPED };
const BOTH: Before = Before { installed: &["1.0.0", "2.0.0"], ..RUNS };
const KEEPS: Before = Before { running: Some("2.0.0"), kept: Some("1.0.0"), ..BOTH };

/// None, on a module that runs.
pub const RUNNING: Operation = Operation { name: "", before: RUNS, request: None, module: "unruly" };

const fn of(name: &'static str, before: Before, request: &'static str) -> Operation {
    Operation { name, before, request: Some(request), module: "unruly" }
}

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    Operation { name: "install", before: STOPPED, request: None, module: "unruly" },
    of("uninstall", Before { running: None, ..BOTH }, r#"{"kind": "uninstall", "version": "2.0.0"}"#),
    of("start", STOPPED, r#"{"kind": "start", "version": "1.0.0"}"#),
    Operation { module: "dictionary", ..of("start (resource)", STOPPED, r#"{"kind": "start"}"#) },
    Operation {
        module: "dictionary",
        ..of("stop (resource)", Before { resource: true, ..STOPPED }, r#"{"kind": "stop"}"#)
    },
    of("stop", RUNS, r#"{"kind": "stop"}"#),
    of("swap", BOTH, r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 0}"#),
    of("rollback", KEEPS, r#"{"kind": "rollback"}"#),
    of("discard", KEEPS, r#"{"kind": "discard"}"#),
    of("scale (more)", RUNS, r#"{"kind": "scale", "instances": 2}"#),
    of("publish", Before { published: false, ..RUNS }, r#"{"kind": "publish"}"#),
    of("unpublish", RUNS, r#"{"kind": "unpublish"}"#),
];

impl Operation {
    /// What is sent, under this id; none: a package.
    pub fn body(&self, id: &str) -> Option<String> {
        let mut body: Value = serde_json::from_str(self.request?).expect("JSON");
        body["tenant"] = json!("default");
        body["module"] = json!(self.module);
        body["id"] = json!(id);
        Some(body.to_string())
    }
}
