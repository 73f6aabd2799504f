//! What an examination found, as plain data.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::host;

/// Everything that was examined, the worst not necessarily first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Whether Mortise can run here with all that it must promise: every required promise is kept, and no check is `bad`.
    pub sound: bool,
    /// What Mortise promises of every worker and what this host's kernel has to keep for it.
    pub promises: Vec<KeptPromise>,
    /// Each check, in the order of their areas.
    pub checks: Vec<Check>,
}

/// A promise, and whether this host keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptPromise {
    /// Its name, as `mortised --allow-degraded` takes it.
    pub name: String,
    /// Whether this host keeps it.
    pub kept: bool,
    /// Whether `mortised` refuses to start without it, unless the operator allows that.
    pub required: bool,
    /// Why, or by what.
    pub why: String,
    /// What an operator can do about it; empty when it is kept.
    pub remedy: String,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What it is called, the same in every report.
    pub name: String,
    /// What part of the host it concerns.
    pub area: Area,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What depends on it.
    pub matters: String,
    /// What to do about it; none where there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Parts of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The supervisor.
    Supervisor,
    /// The kernel and who we are to it.
    System,
    /// Folders and disks.
    Disk,
    /// Limits of this process and of the host.
    Limit,
    /// The network.
    Network,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works; something is weaker than it could be.
    Weak,
    /// It could not be found out.
    Unknown,
    /// Mortise cannot run like this, or breaks a promise.
    Bad,
}

impl Report {
    /// The report of these findings.
    #[must_use]
    pub fn new(promises: &host::Report, mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|it| it.area);
        let promises: Vec<KeptPromise> = promises.findings.iter().map(KeptPromise::from).collect();
        let mut report = Self { sound: false, promises, checks };
        report.judge();
        report
    }

    /// Adds what somebody else has found out.
    pub fn add(&mut self, check: Check) {
        self.checks.push(check);
        self.checks.sort_by_key(|it| it.area);
        self.judge();
    }

    fn judge(&mut self) {
        let kept = self.promises.iter().all(|it| it.kept || !it.required);
        self.sound = kept && self.checks.iter().all(|it| it.verdict != Verdict::Bad);
    }
}

impl From<&host::Finding> for KeptPromise {
    fn from(finding: &host::Finding) -> Self {
        Self {
            name: finding.promise.name().to_owned(),
            kept: finding.kept,
            required: finding.promise.is_required(),
            why: finding.why.clone(),
            remedy: finding.remedy.clone(),
        }
    }
}

impl Check {
    /// A thing as it should be.
    #[must_use]
    pub fn good(area: Area, name: &str, found: impl Into<String>, matters: &str) -> Self {
        let (name, matters) = (name.to_owned(), matters.to_owned());
        Self { name, area, verdict: Verdict::Good, found: found.into(), matters, remedy: None }
    }

    /// The same thing, not as it should be.
    #[must_use]
    pub fn but(mut self, verdict: Verdict, remedy: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.remedy = Some(remedy.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Finding, Promise};

    fn finding(promise: Promise, kept: bool) -> Finding {
        Finding { promise, kept, why: "because".into(), remedy: String::new() }
    }

    #[test]
    fn only_what_is_required_or_bad_makes_a_host_unsound() {
        let good = Check::good(Area::System, "kernel", "Linux", "everything");
        let sound = |findings, checks| Report::new(&host::Report { findings }, checks).sound;
        assert!(sound(vec![finding(Promise::IoWeight, false)], vec![good.clone().but(Verdict::Weak, "-")]));
        assert!(!sound(vec![finding(Promise::MemoryLimit, false)], vec![good.clone()]));
        assert!(!sound(vec![finding(Promise::MemoryLimit, true)], vec![good.but(Verdict::Bad, "-")]));
    }

    #[test]
    fn a_check_that_comes_later_counts() {
        let mut report = Report::new(&host::Report { findings: vec![] }, vec![]);
        assert!(report.sound);
        report.add(Check::good(Area::Supervisor, "supervisor", "hangs", "everything").but(Verdict::Bad, "-"));
        assert!(!report.sound);
    }
}
