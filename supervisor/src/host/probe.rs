//! Asking the host.

use super::{Enforcement, Promise, Promises, Refused};
use crate::cgroup::Groups;

/// What was found about one promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which promise.
    pub promise: Promise,
    /// Whether this host keeps it.
    pub kept: bool,
    /// Why, or by what.
    pub why: String,
    /// What an operator can do about it; empty when it is kept.
    pub remedy: String,
}

/// What was found about all promises, in the order of [`Promise::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One per promise.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Promises that are not kept here.
    pub fn degraded(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|it| !it.kept)
    }

    /// What will be enforced, if that is enough.
    ///
    /// # Errors
    /// [`Refused`] names every required promise that is neither kept nor in `allowed`.
    pub fn decide(&self, allowed: &Promises) -> Result<Enforcement, Refused> {
        let missing = self.degraded().filter(|it| it.promise.is_required() && !allowed.contains(&it.promise));
        let missing: Vec<_> = missing.map(|it| (it.promise, it.why.clone(), it.remedy.clone())).collect();
        if !missing.is_empty() {
            return Err(Refused(missing));
        }
        Ok(Enforcement::new(self.findings.iter().filter(|it| it.kept).map(|it| it.promise).collect()))
    }
}

/// Finds out what this host can enforce. Tries what can be tried, in a child process where it would change the caller. Blocks for some
/// milliseconds. Without `groups` (why they are not there, in words), nothing that needs a cgroup is kept.
#[must_use]
pub fn probe(groups: Result<&Groups, &str>) -> Report {
    let _ = groups;
    unimplemented!()
}
