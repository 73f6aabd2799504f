//! The operations, and what they begin with.

use serde_json::{Value, json};

use crate::table::Answer;

/// What is to be there before an operation: of the module `unruly`, in the versions 1.0.0, 2.0.0, 3.0.0, which is never ready, and 4.0.0
/// and 5.0.0, which hand their state over, and of `load`, which calls it.
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
    /// A swap by steps to 2.0.0 that is at 30 % for an hour, and whether it is paused.
    pub rolls_out: Option<Paused>,
    /// The tenant `acme`, if it is declared.
    pub acme: Option<Acme>,
    /// The group `shop` of `unruly` and `load`, as it was applied, one after the other.
    pub group: &'static [Applied],
}

/// A group of `unruly` and `load`, both in this version, and for how long what was there before is kept.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    pub version: &'static str,
    pub keep: &'static str,
}

/// Whether a swap by steps is paused.
pub type Paused = bool;

/// Another tenant.
#[derive(Clone, Copy, Debug)]
pub struct Acme {
    /// Whether a module `load` of its own runs.
    pub calls: bool,
    /// Whether it may call `unruly`, by the word of the tenant `default`, and by its own.
    pub exported: bool,
    pub imported: bool,
    /// Whether it has routes.
    pub routed: bool,
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
pub const ROUTES: [&str; 2] = [
    r#"{"route": [{"service": "unruly", "rule": [{"match": {"module": "load"}, "to": [{"version": "1.0.0"}]}]}]}"#,
    r#"{"route": [{"service": "unruly", "rule": [{"to": [{"version": "1.0.0"}, {"version": "2.0.0"}]}]}]}"#,
];
const NO_ROUTES: &str = "{}";

/// By steps; by steps and the version that goes is kept; one whose gate lets nobody pass. None of them waits for calls.
const BY_STEPS: &str = r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 0,
    "rollout": {"steps": [30, 60], "pause_ms": 0, "min_calls": 0, "gates": ["error_rate=off"]}}"#;
const BY_STEPS_AND_KEEP: &str = r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 3600000,
    "rollout": {"steps": [30], "pause_ms": 0, "min_calls": 0, "gates": ["error_rate=off"]}}"#;
const BY_STEPS_AND_FAIL: &str = r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 0,
    "rollout": {"steps": [30], "pause_ms": 0, "min_calls": 0, "gates": ["error_rate=off", "memory=1K"]}}"#;
/// Both modules of the group change.
const APPLY: &str =
    r#"{"kind": "apply-group", "group": "shop", "modules": {"unruly": "2.0.0", "load": "2.0.0"}, "keep_ms": 0}"#;
/// The one that is under way when it is to be steered.
pub const UNDER_WAY: &str = r#"{"kind": "swap", "tenant": "default", "module": "unruly", "version": "2.0.0", "keep_ms": 0,
    "rollout": {"steps": [30], "pause_ms": 3600000, "min_calls": 0, "gates": ["error_rate=off"]}}"#;

const STOPPED: Before = Before {
    installed: &["1.0.0"],
    running: None,
    kept: None,
    beside: None,
    routes: &[NO_ROUTES],
    instances: 1,
    published: true,
    resource: false,
    rolls_out: None,
    acme: None,
    group: &[],
};
const RUNS: Before = Before { running: Some("1.0.0"), ..STOPPED };
const BOTH: Before = Before { installed: &["1.0.0", "2.0.0"], ..RUNS };
const KEEPS: Before = Before { running: Some("2.0.0"), kept: Some("1.0.0"), ..BOTH };
const BESIDE: Before = Before { beside: Some("2.0.0"), ..BOTH };
const ROLLS_OUT: Before = Before { rolls_out: Some(false), ..BOTH };
const FIRST: Applied = Applied { version: "1.0.0", keep: "0s" };
const SECOND: Applied = Applied { version: "2.0.0", keep: "0s" };
const DECLARED: Before = Before { group: &[FIRST], ..BOTH };
const CHANGED: Before = Before { group: &[FIRST, SECOND], ..BOTH };
const CHANGED_AND_KEPT: Before = Before { group: &[FIRST, Applied { keep: "1h", ..SECOND }], ..BOTH };
const STRANGER: Acme = Acme { calls: true, exported: false, imported: false, routed: false };

const fn with(acme: Acme) -> Before {
    Before { acme: Some(acme), ..RUNS }
}

/// What the tenant `acme` may have.
pub const PIDS: u32 = 40;

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
    of(
        "swap (state)",
        Before { installed: &["1.0.0", "4.0.0", "5.0.0"], running: Some("4.0.0"), ..STOPPED },
        r#"{"kind": "swap", "version": "5.0.0", "keep_ms": 0}"#,
    ),
    of("swap (from beside)", BESIDE, r#"{"kind": "swap", "version": "2.0.0", "keep_ms": 0}"#),
    of("rollback", KEEPS, r#"{"kind": "rollback"}"#),
    of("rollback --keep", KEEPS, r#"{"kind": "rollback", "keep_ms": 3600000}"#),
    of("discard", KEEPS, r#"{"kind": "discard"}"#),
    of("start beside", BOTH, r#"{"kind": "start-beside", "version": "2.0.0"}"#),
    of("share", BESIDE, r#"{"kind": "share", "percent": 30}"#),
    of("shadow", BESIDE, r#"{"kind": "shadow", "percent": 30}"#),
    of("discard (beside)", BESIDE, r#"{"kind": "discard"}"#),
    MORE,
    of("scale (less)", Before { instances: 2, ..RUNS }, r#"{"kind": "scale", "instances": 1}"#),
    of("apply routes", Before { routes: &[ROUTES[0]], ..BESIDE }, r#"{"kind": "apply-routes"}"#),
    of("roll back routes", Before { routes: &ROUTES, ..BESIDE }, r#"{"kind": "rollback-routes"}"#),
    of("swap by steps", BOTH, BY_STEPS),
    of("swap by steps --keep", BOTH, BY_STEPS_AND_KEEP),
    Operation { ends: Answer::Failed, ..of("swap by steps (a gate fails)", BOTH, BY_STEPS_AND_FAIL) },
    of("pause swap", ROLLS_OUT, r#"{"kind": "steer-swap", "to": "pause"}"#),
    of("resume swap", Before { rolls_out: Some(true), ..BOTH }, r#"{"kind": "steer-swap", "to": "resume"}"#),
    of("abort swap", ROLLS_OUT, r#"{"kind": "steer-swap", "to": "abort"}"#),
    of("add tenant", RUNS, r#"{"kind": "add-tenant", "tenant": "acme", "limits": {"pids": 50}}"#),
    of("set tenant", with(STRANGER), r#"{"kind": "set-tenant", "tenant": "acme", "limits": {"pids": 60}}"#),
    of(
        "remove tenant",
        with(Acme { calls: false, exported: true, imported: true, routed: true }),
        r#"{"kind": "remove-tenant", "tenant": "acme"}"#,
    ),
    of("export", with(Acme { imported: true, ..STRANGER }), r#"{"kind": "export", "service": "unruly", "to": "acme"}"#),
    of(
        "import",
        with(Acme { exported: true, ..STRANGER }),
        r#"{"kind": "import", "tenant": "acme", "service": "unruly", "from": "default"}"#,
    ),
    of(
        "unexport",
        with(Acme { exported: true, imported: true, ..STRANGER }),
        r#"{"kind": "unexport", "service": "unruly", "to": "acme"}"#,
    ),
    of(
        "unimport",
        with(Acme { exported: true, imported: true, ..STRANGER }),
        r#"{"kind": "unimport", "tenant": "acme", "service": "unruly"}"#,
    ),
    of("limits", RUNS, r#"{"kind": "set-limits", "limits": {"pids": 30}}"#),
    of("apply group", DECLARED, APPLY),
    Operation {
        ends: Answer::Failed,
        ..of(
            "apply group (never ready)",
            Before { installed: &["1.0.0", "3.0.0"], ..DECLARED },
            r#"{"kind": "apply-group", "group": "shop", "modules": {"unruly": "3.0.0", "load": "2.0.0"}, "keep_ms": 0}"#,
        )
    },
    of("roll back group", CHANGED, r#"{"kind": "rollback-group", "group": "shop", "keep_ms": 0}"#),
    of("roll back group (kept)", CHANGED_AND_KEPT, r#"{"kind": "rollback-group", "group": "shop", "keep_ms": 0}"#),
    of("remove group", DECLARED, r#"{"kind": "remove-group", "group": "shop"}"#),
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
        if body["tenant"].is_null() {
            body["tenant"] = json!("default");
        }
        match body["kind"].as_str() {
            Some("apply-routes") => body["routes"] = routes(ROUTES[1]),
            // Those that are about no module ignore it.
            _ => body["module"] = json!(self.module),
        }
        body["id"] = json!(id);
        Some(body.to_string())
    }
}
