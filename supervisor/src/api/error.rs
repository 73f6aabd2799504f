//! The one error shape of the admin API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, who is to blame, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// Who can mend it.
    pub blame: Blame,
    /// For people: what was found, where, and what is allowed.
    pub message: String,
    /// What to do next, as one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The kinds of error, each with one HTTP status and one exit code of the CLI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request itself is wrong (400).
    Invalid,
    /// A package was refused: torn, altered, or its module.toml is wrong (422).
    PackageRefused,
    /// The caller may not do this (403).
    Denied,
    /// No such module, version, service, operation (404).
    NotFound,
    /// It collides with what is there or under way (409).
    Conflict,
    /// Larger than allowed (413).
    TooLarge,
    /// A quota is used up (429).
    Quota,
    /// The host cannot do it, or not now (503).
    Unavailable,
    /// The disk is full or fails (507).
    Storage,
    /// It took longer than its deadline (504).
    Deadline,
    /// The operation was carried out and did not succeed; the message says why (500 family: 502).
    Failed,
    /// A defect of the supervisor (500).
    Internal,
}

/// Who can mend an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// Who made the request.
    Caller,
    /// The module or its author.
    Module,
    /// Who operates this host.
    Operator,
    /// The host itself: kernel, disk, memory.
    Host,
    /// Mortise.
    Mortise,
}

impl ErrorCode {
    /// The HTTP status that carries it.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::PackageRefused => 422,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Quota => 429,
            Self::Unavailable => 503,
            Self::Storage => 507,
            Self::Deadline => 504,
            Self::Failed => 502,
            Self::Internal => 500,
        }
    }

    /// The exit code of `mortise` for it; 2 is a wrong command line, 3 an unreachable supervisor.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Invalid => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Denied => 7,
            Self::PackageRefused => 8,
            Self::TooLarge | Self::Quota => 9,
            Self::Unavailable | Self::Storage => 10,
            Self::Deadline => 11,
            Self::Internal => 70,
        }
    }
}

impl ApiError {
    /// An error without a remedy.
    #[must_use]
    pub fn new(code: ErrorCode, blame: Blame, message: impl Into<String>) -> Self {
        Self { code, blame, message: message.into(), remedy: None }
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
