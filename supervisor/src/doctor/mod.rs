//! Everything that could be wrong with this host, each with what was found, what depends on it and what to do about it.
//!
//! The same examination serves `GET /v1/doctor` (as the supervisor sees the host) and `mortise doctor` without a
//! supervisor (as the caller sees it).

mod checks;
mod promises;
mod report;

pub use checks::{Places, examine};
pub use promises::probe;
pub use report::{Area, Check, KeptPromise, Report, Verdict};
