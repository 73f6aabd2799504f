//! Reading single values: each method gives a value in any case and remembers what was wrong with the one it was given.

use std::str::FromStr;
use std::time::Duration;

use mortise_control::InvalidName;

use super::bounds;
use super::path::PackagePath;
use super::quantity::{bytes, duration, show_bytes, show_duration};
use super::structure::KeyPath;

/// One value that cannot be.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(super) key: KeyPath,
    pub(super) message: String,
    pub(super) allowed: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (allowed: {})", self.message, self.allowed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Check {
    pub problems: Vec<Problem>,
}

pub(super) const NAME_RULE: &str = "1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last";

impl Check {
    pub fn problem(&mut self, key: &KeyPath, message: impl Into<String>, allowed: impl Into<String>) {
        self.problems.push(Problem { key: key.clone(), message: message.into(), allowed: allowed.into() });
    }

    /// A value that is there but cannot be, shown as it is written.
    pub fn refuse(&mut self, key: &KeyPath, found: impl std::fmt::Debug, why: &str, allowed: impl Into<String>) {
        self.problem(key, format!("`{}` = {found:?} {why}", key.as_str()), allowed);
    }

    pub fn missing(&mut self, table: &KeyPath, key: &str, allowed: impl Into<String>) {
        let place = if table.as_str().is_empty() { String::new() } else { format!(" in `{}`", table.as_str()) };
        let message = format!("the key `{key}` is missing{place}");
        self.problems.push(Problem { key: table.key(key), message, allowed: allowed.into() });
    }

    pub fn name<T: FromStr<Err = InvalidName>>(&mut self, key: &KeyPath, text: &str) -> Option<T> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(InvalidName { found }) => {
                let hint = found.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
                let remedy = match hint.parse::<T>() {
                    Ok(_) => format!("{NAME_RULE}; {hint:?} would be one"),
                    Err(_) => NAME_RULE.to_owned(),
                };
                self.refuse(key, &found, "is not a name", remedy);
                None
            }
        }
    }

    pub fn integer(&mut self, key: &KeyPath, value: Option<i64>, default: u32, min: i64, max: i64) -> u32 {
        match value {
            None => default,
            Some(value) if (min..=max).contains(&value) => u32::try_from(value).unwrap_or(default),
            Some(value) => {
                self.refuse(key, value, "is out of range", format!("{min} to {max}"));
                default
            }
        }
    }

    pub fn bytes(&mut self, key: &KeyPath, value: Option<&str>, default: u64, min: u64) -> u64 {
        let Some(text) = value else { return default };
        let allowed = || {
            format!(
                "{} to {}, like \"64M\" (K, M, G, T are powers of 1024)",
                show_bytes(min),
                show_bytes(bounds::MEMORY_MAX)
            )
        };
        match bytes(text) {
            Some(amount) if (min..=bounds::MEMORY_MAX).contains(&amount) => return amount,
            Some(_) => self.refuse(key, text, "is out of range", allowed()),
            None => self.refuse(key, text, "is not an amount of bytes", allowed()),
        }
        default
    }

    pub fn duration(&mut self, key: &KeyPath, value: Option<&str>, default: Duration) -> Duration {
        let Some(text) = value else { return default };
        let (min, max) = (bounds::DURATION_MIN, bounds::DURATION_MAX);
        let allowed =
            || format!("{} to {}, like \"500ms\", \"5s\" or \"1m 30s\"", show_duration(min), show_duration(max));
        match duration(text) {
            Some(span) if (min..=max).contains(&span) => return span,
            Some(_) => self.refuse(key, text, "is out of range", allowed()),
            None if text.bytes().all(|b| b.is_ascii_digit()) => {
                self.refuse(key, text, "has no unit", allowed());
            }
            None => self.refuse(key, text, "is not a span of time", allowed()),
        }
        default
    }

    pub fn path(&mut self, key: &KeyPath, text: &str) -> Option<PackagePath> {
        PackagePath::new(text)
            .map_err(|why| {
                let message = format!("`{}` = {text:?} is not a path inside the package: {why}", key.as_str());
                self.problem(key, message, "a relative path of plain components, like \"bin/spell\"");
            })
            .ok()
    }

    /// Text that a program can be given: no NUL, not too long.
    pub fn text(&mut self, key: &KeyPath, text: &str) {
        if text.contains('\0') {
            self.refuse(key, text, "contains NUL", "text without NUL");
        } else if text.len() > bounds::TEXT_MAX {
            let message = format!("`{}` has {} bytes", key.as_str(), text.len());
            self.problem(key, message, format!("at most {} bytes", bounds::TEXT_MAX));
        }
    }

    pub fn count(&mut self, key: &KeyPath, count: usize) {
        if count > bounds::LIST_MAX {
            self.problem(
                key,
                format!("`{}` has {count} entries", key.as_str()),
                format!("at most {}", bounds::LIST_MAX),
            );
        }
    }

    /// The same thing twice: points at the second and names the first.
    pub fn twice(&mut self, key: &KeyPath, what: &str, found: &str, first: &KeyPath) {
        let message = format!("the {what} {found:?} is there twice: here and at `{}`", first.as_str());
        self.problem(key, message, format!("each {what} once"));
    }
}
