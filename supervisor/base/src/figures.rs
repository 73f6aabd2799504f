//! What the base counts.

use std::fmt::Debug;
use std::time::Duration;

/// Where the ingress counts its requests: the worker's figures page, through the SDK.
pub(crate) trait Figures: Debug + Send + Sync {
    /// A request begins.
    fn begun(&self);
    /// A request that began has ended.
    fn ended(&self, outcome: Outcome, after: Duration);
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With an answer below 500.
    Answered,
    /// With another, or in the middle of one.
    Failed,
}
