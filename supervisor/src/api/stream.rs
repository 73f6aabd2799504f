//! What happens, line by line: lifecycle events and the workers' own output.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mortise_control::{ModuleName, TenantName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One line of a stream of the admin API.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Streamed<T> {
    /// Items that were lost between the line before and the line after, because the reader was too slow.
    Missed {
        /// How many, at most.
        missed: u64,
    },
    /// What is streamed.
    Item(T),
}

/// One lifecycle step, with its reason.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Ever growing, also over restarts of the supervisor.
    pub seq: u64,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// What kind of step.
    pub kind: EventKind,
    /// Whose module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantName>,
    /// Which module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub module: Option<ModuleName>,
    /// Which version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Which worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Which operation caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// What happened and why, for people.
    pub text: String,
}

/// The kinds of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The supervisor itself: started, stopping, degraded.
    Supervisor,
    /// An operation was accepted, took a step, ended.
    Operation,
    /// A package was installed or removed.
    Package,
    /// A worker changed its state.
    Worker,
    /// A service was published or withdrawn, or its route changed.
    Route,
    /// A channel was made, closed, or a peer lied on it.
    Channel,
    /// A resource was loaded or released.
    Resource,
}

/// One line of a worker's output.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When the supervisor read it.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Whose module.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// Which module.
    #[schema(value_type = String)]
    pub module: ModuleName,
    /// Which version.
    pub version: String,
    /// Which worker.
    pub worker: String,
    /// Where it came from.
    pub stream: LogStream,
    /// Level, for structured lines of the SDK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// The text, control characters escaped, at most 8 KiB.
    pub text: String,
    /// Fields of structured lines, the trace id among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Lines lost before this one because nobody read fast enough.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_before: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if gives a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A `tracing` event of the SDK.
    Event,
}
