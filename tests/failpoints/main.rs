//! Whatever step of whatever operation the supervisor dies at, or the kernel refuses: what becomes of it is what the table in
//! `docs/operations.md` says. The table is read from there, and each of its cells is a case.
//!
//! ```text
//!   docs/operations.md ── table.rs ──▶ Case ──▶ scene.rs: prepare, ask for the fault, submit, start again if it died, look
//! ```
//! `cargo xtask test --only failpoints` builds a `mortised` with the feature `failpoints` and runs them. With `MORTISE_FAULTS=tell` it
//! prints what it finds, as rows of the table, where there are none yet. `MORTISE_POINT=beside` is about points with that in their name alone.

mod asks;
mod group;
mod operations;
mod other_tenant;
mod scene;
mod shortages;
mod table;

use std::collections::BTreeSet;

use mortise_tests::as_root;
use operations::{OPERATIONS, Operation};
use scene::Scene;
use table::{After, Answer, Case, Fault};

/// Points that are passed at any time, whatever is done.
const ALWAYS: &[&str] = &["send:ping", "commit:meta", "committed:meta", "commit:worker", "committed:worker", "measure"];

/// What is looked for in the table under this name.
fn cases_of(name: &str) -> Vec<Case> {
    let wanted = std::env::var("MORTISE_POINT").unwrap_or_default();
    table::cases().into_iter().filter(|it| it.operation == name && it.point.contains(&wanted)).collect()
}

/// All faults of one operation, one after the other.
fn all_of(name: &str) {
    as_root!();
    let operation = OPERATIONS.iter().find(|it| it.name == name).expect("an operation");
    let mut scene = Scene::set();
    let states = scene.without_faults(operation);
    let cases = if tells() { to_be_found(&states.passed) } else { cases_of(name) };
    if !tells() {
        let listed: Vec<String> =
            table::cases().into_iter().filter(|it| it.operation == name).map(|it| it.point).collect();
        let listed: BTreeSet<&str> = listed.iter().map(String::as_str).chain(ALWAYS.iter().copied()).collect();
        let missing: Vec<_> = states.passed.iter().filter(|it| !listed.contains(it.as_str())).collect();
        assert!(missing.is_empty(), "{name} passes points of which docs/operations.md says nothing: {missing:?}");
    }
    let mut wrong = Vec::new();
    for case in &cases {
        match scene.run(operation, case, &states) {
            Ok(found) if tells() => {
                println!("| {name} | {} | `{}` | {} | {} |", case.fault, case.point, found.0, found.1)
            }
            Ok(found) if found == (case.answer, case.state) => {}
            Ok((answer, state)) => wrong.push(format!("{case}: found {answer}, {state}")),
            Err(why) => wrong.push(format!("{case}: {why}")),
        }
    }
    scene.end();
    assert!(wrong.is_empty(), "of {} cases:\n{}", cases.len(), wrong.join("\n"));
}

fn tells() -> bool {
    std::env::var_os("MORTISE_FAULTS").is_some_and(|it| it == "tell")
}

/// Every fault at every point that was passed.
fn to_be_found(passed: &BTreeSet<String>) -> Vec<Case> {
    let wanted = std::env::var("MORTISE_POINT").unwrap_or_default();
    let passed = passed.iter().filter(|it| !ALWAYS.contains(&it.as_str()) && it.contains(&wanted));
    passed.flat_map(|point| Fault::at(point).into_iter().map(|fault| Case::unknown(point, fault))).collect()
}

macro_rules! operations {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            all_of($name);
        })*

        #[test]
        fn the_table_speaks_of_every_operation_and_of_no_other() {
            let tested: BTreeSet<&str> = [$($name,)* "take-over", "upgrade"].into();
            let listed: BTreeSet<String> = table::cases().into_iter().map(|it| it.operation).collect();
            assert_eq!(listed.iter().map(String::as_str).collect::<BTreeSet<_>>(), tested);
            assert_eq!(OPERATIONS.len() + 2, tested.len());
        }
    };
}

operations! {
    installs: "install",
    uninstalls: "uninstall",
    starts: "start",
    starts_of_resources: "start (resource)",
    stops: "stop",
    stops_of_resources: "stop (resource)",
    restarts: "restart",
    swaps: "swap",
    swaps_that_keep: "swap --keep",
    swaps_to_what_is_never_ready: "swap (never ready)",
    swaps_that_hand_state_over: "swap (state)",
    swaps_to_what_runs_beside: "swap (from beside)",
    rollbacks: "rollback",
    rollbacks_that_keep: "rollback --keep",
    discards: "discard",
    starts_beside: "start beside",
    shares: "share",
    shadows: "shadow",
    discards_of_what_runs_beside: "discard (beside)",
    scales_up: "scale (more)",
    scales_down: "scale (less)",
    limits: "limits",
    groups_applied: "apply group",
    groups_applied_with_one_that_is_never_ready: "apply group (never ready)",
    groups_rolled_back: "roll back group",
    groups_rolled_back_to_what_is_kept: "roll back group (kept)",
    groups_removed: "remove group",
    routes_applied: "apply routes",
    routes_rolled_back: "roll back routes",
    swaps_by_steps: "swap by steps",
    swaps_by_steps_that_keep: "swap by steps --keep",
    swaps_by_steps_that_fail_a_gate: "swap by steps (a gate fails)",
    pauses: "pause swap",
    resumptions: "resume swap",
    aborts: "abort swap",
    tenants_added: "add tenant",
    tenants_set: "set tenant",
    tenants_removed: "remove tenant",
    exports: "export",
    imports: "import",
    unexports: "unexport",
    unimports: "unimport",
    publishes: "publish",
    unpublishes: "unpublish",
}

#[test]
fn every_point_is_in_the_table() {
    as_root!();
    let scene = Scene::set();
    let names = scene.points("names");
    let listed: BTreeSet<String> = table::cases().iter().map(|it| table::name_of(&it.point).to_owned()).collect();
    assert_eq!(names.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "each is in a case");
    assert_eq!(names, table::names(), "of each it is said what it is");
    scene.end();
}

/// The start of a supervisor on what an earlier one left, interrupted in its turn.
#[test]
fn take_overs() {
    apart("take-over", operations::RUNNING, |scene, operation, case| {
        let old = scene.states(operation);
        scene.kill();
        scene.succeed(case);
        let ended = scene.settles(operation, &old.0, &old.1);
        (Answer::None, ended)
    });
}

/// The upgrade in place, interrupted when the old program has left.
#[test]
fn upgrades() {
    apart("upgrade", operations::RUNNING, |scene, operation, case| {
        let old = scene.states(operation);
        scene.upgrade(case);
        let ended = scene.settles(operation, &old.0, &old.1);
        (Answer::None, ended)
    });
}

/// The cases of what is not asked for as an operation.
fn apart(
    name: &'static str,
    operation: Operation,
    run: impl Fn(&mut Scene, &Operation, &Case) -> (Answer, Result<After, String>),
) {
    as_root!();
    let mut scene = Scene::set();
    let mut wrong = Vec::new();
    for case in cases_of(name) {
        scene.prepare(&operation);
        let found = run(&mut scene, &operation, &case);
        if found != (case.answer, Ok(case.state)) {
            wrong.push(format!("{case}: found {found:?}"));
        }
    }
    scene.end();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
