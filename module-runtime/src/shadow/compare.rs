//! The first difference of two values, as a path to it and what is there. Never a value: it may be a secret.

use std::cmp::Ordering;
use std::fmt::Write as _;

use mortise_control::shadow::{MOST_PATH, Piece};

use super::value::Value;

/// Where two values differ.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    /// Like `.words[3].suggestion`.
    pub(super) path: String,
    pub(super) charge: Piece,
    pub(super) beside: Piece,
}

/// The first difference, in the order of the fields of what the version in charge has answered; none: the values are equal.
pub(super) fn first_difference(charge: &Value, beside: &Value) -> Option<Found> {
    let mut path = Vec::new();
    let (charge, beside) = differ(charge, beside, &mut path)?;
    // It is found from the inside out.
    path.reverse();
    Some(Found { path: written(&path), charge, beside })
}

/// One step into a value.
enum Step {
    Field(&'static str),
    Index(usize),
    /// The entry of a map whose key has this place in the order of all keys. Keys are data: they are not shown.
    Entry(usize),
}

fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        // Writing to a text cannot fail.
        let _ = match step {
            Step::Field(name) => write!(text, ".{name}"),
            Step::Index(index) => write!(text, "[{index}]"),
            Step::Entry(index) => write!(text, "{{{index}}}"),
        };
    }
    if text.len() > MOST_PATH {
        let end = text.floor_char_boundary(MOST_PATH - '…'.len_utf8());
        text.truncate(end);
        text.push('…');
    }
    text
}

fn differ(charge: &Value, beside: &Value, path: &mut Vec<Step>) -> Option<(Piece, Piece)> {
    if charge == beside {
        return None;
    }
    let found = match (charge, beside) {
        (Value::List(charge), Value::List(beside)) => in_lists(charge, beside, path),
        (Value::Map(charge), Value::Map(beside)) => in_maps(charge, beside, path),
        (Value::Structure(charge), Value::Structure(beside)) => in_structures(charge, beside, path),
        (Value::Variant(index, name, charge), Value::Variant(other, _, beside)) if index == other => {
            let found = differ(charge, beside, path);
            path.push(Step::Field(name));
            found
        }
        _ => None,
    };
    Some(found.unwrap_or_else(|| (piece(charge), piece(beside))))
}

fn in_lists(charge: &[Value], beside: &[Value], path: &mut Vec<Step>) -> Option<(Piece, Piece)> {
    for at in 0..charge.len().max(beside.len()) {
        if let Some(found) = of_pair(charge.get(at), beside.get(at), path) {
            path.push(Step::Index(at));
            return Some(found);
        }
    }
    None
}

/// Maps are compared by key, whatever order they were written in.
fn in_maps(charge: &[(Value, Value)], beside: &[(Value, Value)], path: &mut Vec<Step>) -> Option<(Piece, Piece)> {
    let (mut left, mut right) = (charge.iter().peekable(), beside.iter().peekable());
    for at in 0.. {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.0.cmp(&right.0),
        };
        let one = if order == Ordering::Greater { None } else { left.next() };
        let other = if order == Ordering::Less { None } else { right.next() };
        if let Some(found) = of_pair(one.map(|it| &it.1), other.map(|it| &it.1), path) {
            path.push(Step::Entry(at));
            return Some(found);
        }
    }
    None
}

fn in_structures(
    charge: &[(&'static str, Value)],
    beside: &[(&'static str, Value)],
    path: &mut Vec<Step>,
) -> Option<(Piece, Piece)> {
    let of = |fields: &[(&'static str, Value)], name: &str| fields.iter().position(|it| it.0 == name);
    for (name, value) in charge {
        let other = of(beside, name).map(|it| &beside[it].1);
        if let Some(found) = of_pair(Some(value), other, path) {
            path.push(Step::Field(name));
            return Some(found);
        }
    }
    let (name, value) = beside.iter().find(|it| of(charge, it.0).is_none())?;
    path.push(Step::Field(name));
    Some((Piece::Absent, piece(value)))
}

fn of_pair(charge: Option<&Value>, beside: Option<&Value>, path: &mut Vec<Step>) -> Option<(Piece, Piece)> {
    match (charge, beside) {
        (Some(charge), Some(beside)) => differ(charge, beside, path),
        (None, None) => None,
        (charge, beside) => Some((charge.map_or(Piece::Absent, piece), beside.map_or(Piece::Absent, piece))),
    }
}

fn piece(value: &Value) -> Piece {
    match value {
        Value::Nothing => Piece::Nothing,
        Value::Truth(_) => Piece::Truth,
        Value::Whole(_) | Value::Large(_) | Value::Float(_) => Piece::Number,
        Value::Text(text) => Piece::Text(text.len() as u64),
        Value::Bytes(bytes) => Piece::Bytes(bytes.len() as u64),
        Value::List(values) => Piece::List(values.len() as u64),
        Value::Map(entries) => Piece::Map(entries.len() as u64),
        Value::Structure(fields) => Piece::Structure(fields.len() as u64),
        Value::Variant(index, ..) => Piece::Variant(*index),
    }
}

#[cfg(test)]
mod tests;
