//! The two tables in `docs/operations.md`: of the points, and of what becomes of an operation.

use std::collections::BTreeSet;
use std::fmt;

const PAGE: &str = include_str!("../../docs/operations.md");

/// What is asked for at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies there.
    Kill,
    /// The kernel answers so.
    Error(i32),
}

const ERRORS: &[(&str, i32)] =
    &[("EIO", 5), ("EAGAIN", 11), ("ENOMEM", 12), ("EBUSY", 16), ("EMFILE", 24), ("ENOSPC", 28)];

/// The rows of the table whose heading begins so, each with so many cells.
fn rows<const CELLS: usize>(heading: &str) -> impl Iterator<Item = [&'static str; CELLS]> {
    let rows = PAGE.lines().skip_while(move |it| !it.starts_with(heading)).skip(2);
    rows.take_while(|it| it.starts_with('|')).map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{cells:?} are not {CELLS} cells"))
    })
}

/// Each point, and the number of the error that it is asked for, if any can be there.
fn points() -> impl Iterator<Item = (&'static str, Option<i32>)> {
    let number = |name: &str| ERRORS.iter().find(|it| it.0 == name).unwrap_or_else(|| panic!("{name:?} is no error")).1;
    rows("| point |")
        .map(move |[point, _, error]: [_; 3]| (point.trim_matches('`'), (error != "–").then(|| number(error))))
}

/// The name of a case's point, the last if it has several, without what is behind it.
pub fn name_of(point: &str) -> &str {
    let last = point.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// The points of which the page says what they are.
pub fn names() -> BTreeSet<String> {
    points().map(|it| it.0.to_owned()).collect()
}

impl Fault {
    /// Those that can be asked for at a point.
    pub fn at(point: &str) -> Vec<Self> {
        Self::error_at(point).into_iter().chain([Self::Kill]).collect()
    }

    fn error_at(point: &str) -> Option<Self> {
        let name = name_of(point);
        let known =
            points().find(|it| it.0 == name).unwrap_or_else(|| panic!("the page does not say what {name:?} is"));
        known.1.map(Self::Error)
    }

    /// What is asked for at each of the points of a case, in their order: the errors of those before the last, and this at the last.
    pub fn asked(self, point: &str) -> impl Iterator<Item = (&str, Self)> {
        let last = point.rsplit('/').next().unwrap_or_default();
        let before = point.split('/').filter(move |it| *it != last);
        let error = |point| Self::error_at(point).unwrap_or_else(|| panic!("{point} has no error"));
        before.map(move |it| (it, error(it))).chain([(last, self)])
    }

    fn parse(text: &str, point: &str) -> Self {
        match text {
            "kill" => Self::Kill,
            "error" => Self::error_at(point).unwrap_or_else(|| panic!("{point} has no error")),
            other => panic!("{other:?} is no fault"),
        }
    }

    /// As it is asked for.
    pub fn word(self) -> String {
        match self {
            Self::Kill => "kill".into(),
            Self::Error(number) => number.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Error(_) => "error",
        })
    }
}

/// What is answered to who asks for the operation by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is no such operation.
    Unknown,
    /// It is refused: 507.
    Storage,
    Done,
    Failed,
    /// It is no operation.
    None,
}

const ANSWERS: &[(&str, Answer)] = &[
    ("unknown", Answer::Unknown),
    ("storage", Answer::Storage),
    ("done", Answer::Done),
    ("failed", Answer::Failed),
    ("–", Answer::None),
];

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ANSWERS.iter().find(|it| it.1 == *self).map_or("", |it| it.0))
    }
}

/// What the module is in afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// As it was before the operation.
    Old,
    /// As the operation makes it.
    New,
    /// The one or the other, but with no workers kept frozen.
    OldUnkept,
    NewUnkept,
}

const STATES: &[(&str, After)] = &[
    ("old", After::Old),
    ("new", After::New),
    ("old, nothing kept", After::OldUnkept),
    ("new, nothing kept", After::NewUnkept),
];

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STATES.iter().find(|it| it.1 == *self).map_or("", |it| it.0))
    }
}

/// One fault at one point of one operation.
#[derive(Clone, Debug)]
pub struct Case {
    pub operation: String,
    pub fault: Fault,
    pub point: String,
    pub answer: Answer,
    pub state: After,
}

impl Case {
    /// One of which nothing is known yet.
    pub fn unknown(point: &str, fault: Fault) -> Self {
        Self { operation: String::new(), fault, point: point.into(), answer: Answer::None, state: After::Old }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, fault, point, answer, state } = self;
        write!(f, "{operation}, {fault} at {point} ({answer}, {state})")
    }
}

/// All cases: a row has one or more operations and one or more points.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for [operations, fault, points, answer, state] in rows("| operation | fault |") {
        let answer = ANSWERS.iter().find(|it| it.0 == answer).unwrap_or_else(|| panic!("{answer:?} is no answer")).1;
        let state = STATES.iter().find(|it| it.0 == state).unwrap_or_else(|| panic!("{state:?} is no state")).1;
        for operation in operations.split(',').map(|it| it.trim().to_owned()) {
            for point in points.split_whitespace().map(|it| it.trim_matches('`').to_owned()) {
                let fault = Fault::parse(fault, &point);
                cases.push(Case { operation: operation.clone(), fault, point, answer, state });
            }
        }
    }
    cases
}
