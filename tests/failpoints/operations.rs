//! The operations, and what they begin with.

use serde_json::{Value, json};

use crate::table::Answer;

/// What is to be there before an operation: of the module `unruly`, in the versions 1.0.0, 2.0.0 and 3.0.0, which is never ready.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Which versions are installed.
    pub installed: &'static [&'static str],
    /// Which runs.
    pub running: Option<&'static str>,
    /// Which is kept frozen.
    pub kept: Option<&'static str>,
    /// Which runs beside it.
    pub beside: Option<&'static str>,
    /// The files of routes that were applied, one after the other.
    pub routes: &'static [&'static str],
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
    /// How it ends when nothing is in its way.
    pub ends: Answer,
}

/// Two files of routes, and the one without any.
const ROUTES: [&str; 2] = [
    r#"{"route": [{"service": "unruly", "rule": [{"match": {"module": "load"}, "to": [{"version": "1.0.0"}]}]}]}"#,
    r#"{"route": [{"service": "unruly", "rule": [{"to": [{"version": "1.0.0"}, {"version": "2.0.0"}]}]}]}"#,
];
const NO_ROUTES: &str = "{}";

const STOPPED: Before = Before {
    installed: &["1.0.0"],
    running: None,
    kept: None,
    beside: None,
    routes: &[NO_ROUTES],
    instances: 1,
    published: true,
    resource: false,
};
const RUNS: Before = Before { running: Some("1.0.0"), ..STOPPED };
const BOTH: Before = Before { installed: &["1.0.0", "2.0.0"], ..RUNS };
const KEEPS: Before = Before { running: Some("2.0.0"), kept: Some("1.0.0"), ..BOTH };
const BESIDE: Before = Before { beside: Some("2.0.0"), ..BOTH };

/// None, on a module that runs.
pub const RUNNING: Operation = Operation { name: "", request: None, ..of("", RUNS, "") };

const fn of(name: &'static str, before: Before, request: &'static str) -> Operation {
    Operation { name, before, request: Some(request), module: "unruly", ends: Answer::Done }
}

/// One worker more.
pub const MORE: Operation = of("scale (more)", RUNS, r#"{"kind": "scale", "instances": 2}"#);

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    Operation { request: None, ..of("install", STOPPED, "") },
    of("uninstall", Before { running: None, ..BOTH }, r#"{"kind": "uninstall", "version": "2.0.0"}"#),
    of("start", STOPPED, r#"{"kind": "start", "version": "1.0.0"}"#),
    Operation { module: "dictionary", ..of("start (resource)", STOPPED, r#"{"kind": "start"}"#) },
    Operation {
        module: "dictionary",
        ..of("stop (resource)", Before { resource: true, ..STOPPED }, r#"{"kind": "stop"}"#)
    },
    of("stop", RUNS, r#"{"kind": "stop"}"#),
    of("restart", RUNS, r#"{"kind": "restart"}"#),
    of("swap", BOTH, r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 0}"#),
    of("swap --keep", BOTH, r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 3600000}"#),
    Operation {
        ends: Answer::Failed,
        ..of(
            "swap (never ready)",
            Before { installed: &["1.0.0", "3.0.0"], ..RUNS },
            r#"{"kind": "swap", "version": "3.0.0", "keep_ms": 0}"#,
        )
    },
    of("swap (from beside)", BESIDE, r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 0}"#),
    of("rollback", KEEPS, r#"{"kind": "rollback"}"#),
    of("discard", KEEPS, r#"{"kind": "discard"}"#),
    of("start --beside", BOTH, r#"{"kind": "start-beside", "version": "2.0.0"}"#),
    of("share", BESIDE, r#"{"kind": "share", "percent": 30}"#),
    of("discard (beside)", BESIDE, r#"{"kind": "discard"}"#),
    MORE,
    of("scale (less)", Before { instances: 2, ..RUNS }, r#"{"kind": "scale", "instances": 1}"#),
    of("apply routes", Before { routes: &[ROUTES[0]], ..BESIDE }, r#"{"kind": "apply-routes"}"#),
    of("roll back routes", Before { routes: &ROUTES, ..BESIDE }, r#"{"kind": "rollback-routes"}"#),
    of("publish", Before { published: false, ..RUNS }, r#"{"kind": "publish"}"#),
    of("unpublish", RUNS, r#"{"kind": "unpublish"}"#),
];

/// A file of routes as the API takes it.
pub fn routes(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

impl Operation {
    /// What is sent, under this id; none: a package.
    pub fn body(&self, id: &str) -> Option<String> {
        let mut body: Value = serde_json::from_str(self.request?).expect("JSON");
        body["tenant"] = json!("default");
        match body["kind"].as_str() {
            Some("apply-routes") => body["routes"] = routes(ROUTES[1]),
            Some("rollback-routes") => {}
            _ => body["module"] = json!(self.module),
        }
        body["id"] = json!(id);
        Some(body.to_string())
    }
}
