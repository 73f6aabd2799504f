//! What `docs/operations.md` says of operations: every kind and every step of each is in its two tables.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Value, json};
use utoipa::PartialSchema;

use crate::api::{Request, Steering};
use crate::lifecycle::operation::verb;
use crate::lifecycle::step::Step;

const PAGE: &str = include_str!("../../../../docs/operations.md");

/// What the page calls an operation.
fn name(request: &Request) -> &'static str {
    match request {
        Request::Swap { rollout: Some(_), .. } => "swap by steps",
        _ => verb(request),
    }
}

/// The cells of a table of the page.
fn rows(heading: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let rows = PAGE.lines().skip_while(move |it| !it.starts_with(heading)).skip(2);
    rows.take_while(|it| it.starts_with('|')).map(|it| it.trim_matches('|').split('|').map(str::trim).collect())
}

/// What is between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Operation and step of each row of the table of steps; without a step: its acceptance is all of it.
static STEPS: LazyLock<BTreeSet<(&str, &str)>> = LazyLock::new(|| {
    let mut steps = BTreeSet::new();
    for row in rows("| operation | step |").filter(|it| !it[0].starts_with("all")) {
        for operation in row[0].split(',').map(str::trim) {
            steps.insert((operation, "accept"));
            steps.extend(quoted(row[1]).map(|step| (operation, step)));
        }
    }
    steps
});

/// Kind of operation and point of each cell of the table of faults: what begins otherwise is of the same kind.
static FAULTS: LazyLock<BTreeSet<(&str, &str)>> = LazyLock::new(|| {
    let mut faults = BTreeSet::new();
    for row in rows("| operation | fault |") {
        let kind = row[0].split(" (").next().unwrap_or_default().trim_end_matches(" --keep");
        // Of two, the second is the one that it is about.
        faults.extend(quoted(row[2]).map(|it| (kind, it.rsplit('/').next().unwrap_or_default())));
    }
    faults
});

/// As the page has it.
fn without_number(step: &str) -> &str {
    if step.starts_with("share ") { "share N%" } else { step }
}

/// An operation has come to a step of which the page says what becomes of it there.
pub(super) fn check(request: &Request, step: &str) {
    let cell = (name(request), without_number(step));
    assert!(STEPS.contains(&cell), "docs/operations.md does not say what becomes of {cell:?} when the supervisor dies");
}

/// The values that a `kind`, or a word of its own, may have.
fn words(schema: &Value, words: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let of = |it: &Value| it.as_str().map(str::to_owned);
            words.extend(fields.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(of));
            fields.values().for_each(|it| self::words(it, words));
        }
        Value::Array(values) => values.iter().for_each(|it| self::words(it, words)),
        _ => {}
    }
}

fn words_of<T: PartialSchema>() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    words(&serde_json::to_value(T::schema()).unwrap(), &mut found);
    found
}

/// One request of each kind, as the API takes it.
fn requests() -> Vec<Request> {
    let kinds = words_of::<Request>();
    assert!(kinds.contains("install") && kinds.contains("steer-swap"), "{kinds:?}");
    let request = |kind: &String, to: &String| -> Request {
        // Every field that one of them has; `to` is a tenant's name as well.
        let fields = json!({
            "kind": kind, "tenant": "acme", "module": "site", "version": "1.0.0", "digest": "", "percent": 1,
            "instances": 1, "service": "site", "to": to, "from": "other", "routes": {},
            "group": "all", "modules": {},
        });
        serde_json::from_value(fields).unwrap_or_else(|error| panic!("{kind} needs another field here: {error}"))
    };
    let steering = words_of::<Steering>();
    let mut requests: Vec<Request> =
        kinds.iter().flat_map(|kind| steering.iter().map(move |to| request(kind, to))).collect();
    let by_steps = json!({
        "kind": "swap", "tenant": "acme", "module": "site", "version": "1.0.0", "rollout": {"steps": [100], "pause_ms": 0},
    });
    requests.push(serde_json::from_value(by_steps).unwrap());
    requests
}

#[test]
fn every_kind_of_operation_is_in_both_tables() {
    for request in requests() {
        let name = name(&request);
        assert!(STEPS.contains(&(name, "accept")), "docs/operations.md, steps: {name}");
        assert!(FAULTS.iter().any(|it| it.0 == name), "docs/operations.md, faults: {name}");
    }
}

#[test]
fn every_step_is_in_the_table_of_steps_and_no_other() {
    let known: BTreeSet<String> = Step::NAMED
        .iter()
        .map(|it| it.name().into_owned())
        .chain([without_number(&Step::Share(5).name()).into()])
        .collect();
    let listed: BTreeSet<String> = STEPS.iter().map(|it| it.1.to_owned()).collect();
    assert_eq!(known, listed);
}

#[test]
fn every_step_of_an_operation_is_a_point_of_its_faults() {
    let names: BTreeSet<&str> = requests().iter().map(name).collect();
    let mut missing = Vec::new();
    for (operation, step) in STEPS.iter() {
        assert!(names.contains(operation), "docs/operations.md, steps: there is no operation {operation:?}");
        let point = format!("step:{}", step.replace(' ', "-").replace("N%", ""));
        let is_it = |it: &str| if step.starts_with("share ") { it.starts_with(&point) } else { it == point };
        if !FAULTS.iter().any(|it| it.0 == *operation && is_it(it.1)) {
            missing.push(format!("{operation}: `{point}`"));
        }
    }
    assert!(missing.is_empty(), "docs/operations.md, faults, has no rows of these: {missing:#?}");
}
