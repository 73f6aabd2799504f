//! `LIMIT=VALUE`, as `mortise limits` and `mortise tenant` take it.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::fault::Fault;
use super::units;
use crate::manifest::read_bytes;

/// The limits of one kind of thing, by name.
pub trait Limit: Copy + Ord + 'static {
    /// What each is called, and what it is written in.
    const NAMES: &'static [(&'static str, Self, Unit)];
    /// A name that is none of them: what it is not.
    const NO_LIMIT: &'static str;
    /// An amount, in words.
    const AMOUNT: &'static str;
    /// One that is written as it should be.
    const LIKE: &'static str;
    /// The word that takes a limit away, and what it does.
    const LIFTED: (&'static str, &'static str);

    /// What it is called.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, it, _)| *it == self).map_or("", |(name, ..)| *name)
    }
}

/// What a limit is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `64M`.
    Bytes,
    /// `0.5`: in thousandths.
    Cores,
    /// `20`.
    Number,
}

/// One limit, said or lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitChange<L> {
    limit: L,
    /// None: it is lifted.
    pub value: Option<u64>,
}

impl<L: Limit> FromStr for LimitChange<L> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("write LIMIT=VALUE, like {}", L::LIKE))?;
        let (_, limit, unit) = *L::NAMES.iter().find(|(it, ..)| *it == name).ok_or_else(|| {
            let names: Vec<_> = L::NAMES.iter().map(|(it, ..)| *it).collect();
            format!("{name:?} is {}; there are {}", L::NO_LIMIT, names.join(", "))
        })?;
        let (word, lifts) = L::LIFTED;
        if value == word {
            return Ok(Self { limit, value: None });
        }
        let read = match unit {
            Unit::Bytes => read_bytes(value).ok_or(L::AMOUNT),
            Unit::Cores => units::milli(value).ok_or("a number of cores like 0.5 or 2, to a thousandth"),
            Unit::Number => value.parse::<u32>().map(u64::from).map_err(|_| "a whole number"),
        };
        match read {
            Ok(value) => Ok(Self { limit, value: Some(value) }),
            Err(allowed) => Err(format!("{name} = {value:?} is not {allowed}; `{word}` {lifts}")),
        }
    }
}

/// Those that are lifted; the others are set, each at most once.
pub fn gather<L: Limit>(changes: &[LimitChange<L>], mut set: impl FnMut(L, u64)) -> Result<BTreeSet<L>, Fault> {
    let (mut lift, mut named) = (BTreeSet::new(), BTreeSet::new());
    for LimitChange { limit, value } in changes {
        if !named.insert(*limit) {
            return Err(Fault::command_line(format!("{} is said twice", limit.name())));
        }
        match value {
            Some(value) => set(*limit, *value),
            None => drop(lift.insert(*limit)),
        }
    }
    Ok(lift)
}
