//! How a swap takes its time: shares that grow, and gates that have to be passed before each grows further.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::manifest::quantity;

/// A swap by steps. At each the new version has that share of what no route decides, for the pause at least, and is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// The shares in percent, each more than the one before, 1 to 100. `[100]` is blue/green: everything flips at once.
    pub steps: Vec<u32>,
    /// For how many milliseconds each step lasts at least.
    pub pause_ms: u64,
    /// Instead of those of module.toml that are about the same figure, like `error_rate=+1%`.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub gates: Vec<Gate>,
    /// Calls that the new version must have answered in a step before it is judged by them.
    #[serde(default = "min_calls")]
    pub min_calls: u64,
}

/// One wrong answer among so many is the 1 % that it may have more unless something else is said.
pub const fn min_calls() -> u64 {
    100
}

/// What is to become of a swap that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Steering {
    /// It stays at the step where it is.
    Pause,
    /// It goes on.
    Resume,
    /// What it has started ends; the version in charge stays.
    Abort,
}

/// A figure of the new version, and the most that it may be. Written `FIGURE=MOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gate {
    /// What is measured.
    pub figure: Figure,
    /// What is allowed.
    pub most: Most,
}

/// What a gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Figure {
    /// Calls and requests that ended in an error, of all; in millionths.
    ErrorRate,
    /// What 99 of 100 calls take at most, in nanoseconds.
    P99,
    /// CPU time per call, in nanoseconds.
    Cpu,
    /// Bytes charged to a worker.
    Memory,
    /// Workers that were started again.
    Restarts,
}

/// The most that a figure may be, in the figure's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// Anything: there is no gate.
    Off,
    /// That.
    Just(u64),
    /// So much more than the version in charge has.
    More(u64),
    /// So many thousandths of what the version in charge has.
    Times(u64),
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::ErrorRate, Self::P99, Self::Cpu, Self::Memory, Self::Restarts];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::P99 => "p99",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Restarts => "restarts",
        }
    }

    /// Whether it is of calls, which somebody has to count.
    #[must_use]
    pub const fn needs_calls(self) -> bool {
        match self {
            Self::ErrorRate | Self::P99 | Self::Cpu => true,
            Self::Memory | Self::Restarts => false,
        }
    }

    /// What may be written after its name.
    #[must_use]
    pub const fn allowed(self) -> &'static str {
        match self {
            Self::ErrorRate => {
                "a rate like \"1%\", more than before like \"+1%\", times as before like \"2x\", or \"off\""
            }
            Self::P99 | Self::Cpu => "a time like \"50ms\", times as before like \"2x\", or \"off\"",
            Self::Memory => "an amount like \"64M\", times as before like \"1.5x\", or \"off\"",
            Self::Restarts => "a number like \"0\", more than before like \"+1\", or \"off\"",
        }
    }

    fn amount(self, text: &str) -> Option<u64> {
        match self {
            Self::ErrorRate => decimal(text.strip_suffix('%')?, 4).filter(|it| *it <= 1_000_000),
            Self::P99 | Self::Cpu => quantity::duration(text).and_then(|it| u64::try_from(it.as_nanos()).ok()),
            Self::Memory => quantity::bytes(text),
            Self::Restarts => text.parse().ok(),
        }
    }

    /// An amount of it, for people.
    #[must_use]
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::ErrorRate => format!("{}.{:02} %", amount / 10_000, amount % 10_000 / 100),
            Self::P99 | Self::Cpu => match amount {
                0..1_000_000 => format!("{}.{:01} µs", amount / 1_000, amount % 1_000 / 100),
                1_000_000..1_000_000_000 => format!("{}.{:02} ms", amount / 1_000_000, amount % 1_000_000 / 10_000),
                _ => format!("{}.{:02} s", amount / 1_000_000_000, amount % 1_000_000_000 / 10_000_000),
            },
            Self::Memory => format!("{}.{:01} MiB", amount >> 20, ((amount & 0xf_ffff) * 10) >> 20),
            Self::Restarts => amount.to_string(),
        }
    }

    /// An amount as [`Self::amount`] reads it.
    fn write(self, amount: u64) -> String {
        match self {
            Self::ErrorRate => format!("{}%", thousandths(amount, 4)),
            Self::P99 | Self::Cpu => quantity::show_duration(std::time::Duration::from_nanos(amount)),
            Self::Memory => quantity::show_bytes(amount),
            Self::Restarts => amount.to_string(),
        }
    }

    /// Reads what is written after its name.
    ///
    /// # Errors
    /// What is allowed.
    pub fn gate(self, text: &str) -> Result<Gate, String> {
        let most = match text {
            "off" => Some(Most::Off),
            _ => match (text.strip_prefix('+'), text.strip_suffix('x')) {
                (Some(more), _) if matches!(self, Self::ErrorRate | Self::Restarts) => {
                    self.amount(more).map(Most::More)
                }
                (None, Some(times)) if self != Self::Restarts => decimal(times, 3).map(Most::Times),
                (Some(_), _) => None,
                (None, _) => self.amount(text).map(Most::Just),
            },
        };
        most.map(|most| Gate { figure: self, most })
            .ok_or_else(|| format!("{} = {text:?} is no gate: {}", self.name(), self.allowed()))
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, most) = text.split_once('=').ok_or_else(|| format!("{text:?} is no gate: write FIGURE=MOST"))?;
        let figure = Figure::ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| {
            format!("there is no figure {name:?} to judge by: error_rate, p99, cpu, memory or restarts")
        })?;
        figure.gate(most)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.figure.name())?;
        match self.most {
            Most::Off => f.write_str("off"),
            Most::Just(amount) => f.write_str(&self.figure.write(amount)),
            Most::More(amount) => write!(f, "+{}", self.figure.write(amount)),
            Most::Times(amount) => write!(f, "{}x", thousandths(amount, 3)),
        }
    }
}

impl TryFrom<String> for Gate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Gate> for String {
    fn from(gate: Gate) -> Self {
        gate.to_string()
    }
}

/// A decimal number in units of the last of `places` places.
fn decimal(text: &str, places: u32) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    let length = u32::try_from(fraction.len()).ok().filter(|it| *it <= places)?;
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let whole = whole.parse::<u64>().ok()?.checked_mul(10_u64.pow(places))?;
    whole.checked_add(fraction * 10_u64.pow(places - length))
}

/// Writes what [`decimal`] reads.
fn thousandths(amount: u64, places: u32) -> String {
    let unit = 10_u64.pow(places);
    let fraction = format!("{:0width$}", amount % unit, width = places as usize);
    match fraction.trim_end_matches('0') {
        "" => (amount / unit).to_string(),
        fraction => format!("{}.{fraction}", amount / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_read_and_written_alike() {
        for (text, most) in [
            ("error_rate=1%", Most::Just(10_000)),
            ("error_rate=+0.25%", Most::More(2_500)),
            ("error_rate=2x", Most::Times(2_000)),
            ("p99=50ms", Most::Just(50_000_000)),
            ("p99=1.5x", Most::Times(1_500)),
            ("cpu=200us", Most::Just(200_000)),
            ("memory=64M", Most::Just(64 << 20)),
            ("restarts=0", Most::Just(0)),
            ("restarts=+2", Most::More(2)),
            ("memory=off", Most::Off),
        ] {
            let gate: Gate = text.parse().unwrap();
            assert_eq!(gate.most, most, "{text}");
            assert_eq!(gate.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_gate_is_told_what_would_be_one() {
        for text in [
            "error_rate=1",
            "error_rate=101%",
            "p99=+5ms",
            "p99=5",
            "cpu=x",
            "memory=lots",
            "restarts=2x",
            "restarts=-1",
        ] {
            let said = text.parse::<Gate>().unwrap_err();
            assert!(said.contains("or \"off\""), "{said}");
        }
        assert!("errors=1%".parse::<Gate>().unwrap_err().contains("error_rate, p99, cpu, memory or restarts"));
        assert!("error_rate".parse::<Gate>().unwrap_err().contains("FIGURE=MOST"));
    }

    #[test]
    fn amounts_are_shown_for_people() {
        assert_eq!(Figure::ErrorRate.show(42_000), "4.20 %");
        assert_eq!(Figure::P99.show(1_234_567), "1.23 ms");
        assert_eq!(Figure::P99.show(12_340), "12.3 µs");
        assert_eq!(Figure::Memory.show((3 << 20) + (1 << 19)), "3.5 MiB");
    }
}
