//! What this host can enforce, as a list of promises by name: one list for `mortised`, which refuses to start without one that is
//! required unless `--allow-degraded` names it, and for `mortise doctor`.
//!
//! ```text
//!   probe(groups) ──▶ Report { findings } ──decide(allowed)──▶ Enforcement ──▶ spawn
//! ```

mod probe;
mod promise;
mod trial;

pub use probe::{Finding, Report, examine, probe};
pub use promise::{Enforcement, Promise, Promises, Refused, UnknownPromise};

#[cfg(test)]
mod tests;
