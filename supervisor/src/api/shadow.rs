//! What came of sending calls to a version beside as well.

use mortise_control::ServiceName;
use semver::Version;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the version beside answers what the version in charge answers, as the callers tell it: their allegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowReport {
    /// The version in charge.
    #[schema(value_type = Option<String>)]
    pub version: Option<Version>,
    /// The version beside it.
    #[schema(value_type = String)]
    pub beside: Version,
    /// How many percent of the calls are sent to both; 0: no more are.
    pub percent: u32,
    /// By service and name. Only methods that were called, and only idempotent ones.
    pub methods: Vec<ShadowMethod>,
}

/// One method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowMethod {
    /// Its service.
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// Its name.
    pub method: String,
    /// Calls that both versions answered, or that failed in the version beside alone: equal, different and failed together.
    pub compared: u64,
    /// Answers that were the same.
    pub equal: u64,
    /// Answers that were not.
    pub different: u64,
    /// Calls that the version beside did not answer: it panicked, ended, was too late.
    pub failed: u64,
    /// Calls that were not sent to it after all, as it had no room, or whose own answer did not come: nothing can be said of them.
    pub skipped: u64,
    /// What the compared calls took in the version in charge.
    pub charge: Percentiles,
    /// What they took in the version beside, where it answered.
    pub beside: Percentiles,
    /// Some of those that were different or failed.
    pub examples: Vec<ShadowExample>,
}

/// Times in nanoseconds, within buckets of powers of two; none: there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Percentiles {
    /// Half of them took less.
    pub p50_ns: Option<u64>,
    /// 99 of 100 took less.
    pub p99_ns: Option<u64>,
}

/// A call that was answered otherwise. Values are not shown: they may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowExample {
    /// The first field that differs, like `.words[3].suggestion`; empty: the answer as a whole. `{2}` is the third entry of a map by order of its keys, which
    /// may be secrets as well.
    pub path: String,
    /// What the version in charge has there, like `text of 5 bytes`.
    pub charge: String,
    /// What the version beside has there.
    pub beside: String,
    /// The length of the answer of the version in charge, in bytes.
    pub charge_bytes: u64,
    /// The length of the other.
    pub beside_bytes: u64,
    /// What the version in charge took.
    pub charge_ns: u64,
    /// What the version beside took.
    pub beside_ns: u64,
}
