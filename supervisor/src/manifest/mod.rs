//! module.toml: from text to a [`Manifest`] that holds together, or a [`Report`] of everything that is wrong with it.
//!
//! ```text
//! text ──toml──▶ tree with places ──structure (along the schema)──▶ ManifestFile ──TryFrom──▶ Manifest
//!                     │                        │                                     │
//!                     └──── syntax errors      └──── unknown keys, wrong types       └──── impossible values
//!                                      all with file, line, column, key, found, allowed ──▶ Report
//! ```

pub(crate) mod bounds;
mod check;
pub(crate) mod document;
mod file;
mod handover;
mod path;
pub(crate) mod quantity;
mod report;
mod schema;
mod spec;
mod structure;
mod types;
mod validate;

pub(crate) use bounds::SOURCE_MAX;
pub(crate) use check::Check;
pub use check::Problem;
pub use file::{
    ConfigurationValue, HealthFile, HttpFile, LimitsFile, ListenKind, ManifestFile, ProvidesFile, RequiresFile,
    ResourceFileEntry, RestartFile, RuntimeKind, TimeoutsFile,
};
pub use handover::Handover;
pub use path::{PackagePath, PathRefused};
pub(crate) use quantity::{bytes as read_bytes, show_bytes, show_duration};
pub(crate) use report::visible;
pub use report::{Finding, Report};
pub use schema::json_schema;
pub(crate) use schema::schema_of;
pub(crate) use structure::KeyPath;
pub use types::{
    Exec, Health, HttpRoute, Limits, Listen, Manifest, Program, Provided, Requires, ResourceFile, Restart,
    RestartPolicy, Runtime, Timeouts,
};

/// The name of the file in a module's folder and in its package.
pub const FILE_NAME: &str = "module.toml";

impl Manifest {
    /// Reads the text of a module.toml; `file` is how the report calls it.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn parse(text: &str, file: &str) -> Result<Self, Report> {
        document::read(text, file, &schema::json_schema(), |it: ManifestFile| Self::try_from(it))
    }

    /// Reads `module.toml` bytes, which need not be UTF-8.
    ///
    /// # Errors
    /// As [`Manifest::parse`].
    pub fn parse_bytes(bytes: &[u8], file: &str) -> Result<Self, Report> {
        Self::parse(document::utf8(bytes, file)?, file)
    }
}

#[cfg(test)]
mod tests;
