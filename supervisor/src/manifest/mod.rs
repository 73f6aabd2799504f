//! module.toml: from text to a [`Manifest`] that holds together, or a [`Report`] of everything that is wrong with it.
//!
//! ```text
//! text ──toml──▶ tree with places ──structure (along the schema)──▶ ManifestFile ──TryFrom──▶ Manifest
//!                     │                        │                                     │
//!                     └──── syntax errors      └──── unknown keys, wrong types       └──── impossible values
//!                                      all with file, line, column, key, found, allowed ──▶ Report
//! ```

mod bounds;
mod check;
mod file;
mod path;
mod quantity;
mod report;
mod schema;
mod spec;
mod structure;
mod types;
mod validate;

pub(crate) use bounds::SOURCE_MAX;
pub use check::Problem;
pub use file::{
    ConfigurationValue, HealthFile, HttpFile, LimitsFile, ListenKind, ManifestFile, ProvidesFile, RequiresFile,
    ResourceFileEntry, RestartFile, RuntimeKind, TimeoutsFile,
};
pub use path::{PackagePath, PathRefused};
pub(crate) use report::visible;
pub use report::{Finding, Report};
pub use schema::json_schema;
pub use types::{
    Exec, Health, HttpRoute, Limits, Listen, Manifest, Program, Provided, Requires, ResourceFile, Restart,
    RestartPolicy, Runtime, Timeouts,
};

use serde::Deserialize as _;
use toml::de::{DeTable, Deserializer};

use report::Fault;
use structure::{Walk, span_of};

/// The name of the file in a module's folder and in its package.
pub const FILE_NAME: &str = "module.toml";

impl Manifest {
    /// Reads the text of a module.toml; `file` is how the report calls it.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn parse(text: &str, file: &str) -> Result<Self, Report> {
        let report = |faults| Report::new(file, text, faults);
        if text.len() > bounds::SOURCE_MAX {
            let message = format!("the file has {} bytes", text.len());
            let allowed = format!("at most {}", bounds::SOURCE_MAX);
            return Err(report(vec![Fault { key: String::new(), span: 0..0, message, allowed }]));
        }
        let (tree, syntax) = DeTable::parse_recoverable(text);
        if !syntax.is_empty() {
            return Err(report(syntax.iter().map(syntax_fault).collect()));
        }
        let schema = schema::internal();
        let mut walk = Walk::new(&schema);
        let mut sound = tree.clone();
        walk.file(sound.get_mut());
        let mut faults = walk.faults;
        let meant =
            ManifestFile::deserialize(Deserializer::from(sound)).map_err(|error| report(vec![syntax_fault(&error)]))?;
        match Self::try_from(meant) {
            Ok(manifest) if faults.is_empty() => return Ok(manifest),
            Ok(_) => {}
            Err(problems) => {
                for problem in problems {
                    // What has the wrong shape was taken out, and would be said to be missing.
                    let said = faults.iter().any(|it| covers(&it.key, problem.key.as_str()));
                    if !said {
                        faults.push(locate(&tree, problem));
                    }
                }
            }
        }
        Err(report(faults))
    }

    /// Reads `module.toml` bytes, which need not be UTF-8.
    ///
    /// # Errors
    /// As [`Manifest::parse`].
    pub fn parse_bytes(bytes: &[u8], file: &str) -> Result<Self, Report> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text, file),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let message = format!("the byte {:#04x} is not UTF-8", bytes[error.valid_up_to()]);
                let span = good.len()..good.len() + 1;
                Err(Report::new(
                    file,
                    &good,
                    vec![Fault { key: String::new(), span, message, allowed: "UTF-8 text".into() }],
                ))
            }
        }
    }
}

fn covers(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn locate(tree: &toml::Spanned<DeTable<'_>>, problem: Problem) -> Fault {
    let span = span_of(tree, &problem.key);
    Fault { key: problem.key.as_str().to_owned(), span, message: problem.message, allowed: problem.allowed }
}

fn syntax_fault(error: &toml::de::Error) -> Fault {
    let mut lines = error.message().lines();
    let message = lines.next().unwrap_or("it is not TOML").to_owned();
    let allowed = lines.next().map_or_else(|| "TOML, see https://toml.io".to_owned(), str::to_owned);
    Fault { key: String::new(), span: error.span().unwrap_or(0..0), message, allowed }
}

#[cfg(test)]
mod tests;
