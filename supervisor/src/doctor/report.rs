//! What an examination found, as plain data.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything that was examined, the worst not necessarily first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Whether Mortise can run here at all: no check is `bad`.
    pub sound: bool,
    /// Each check, in the order of their areas.
    pub checks: Vec<Check>,
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
    /// The kernel and who we are to it.
    System,
    /// What keeps workers apart and inside their limits: Mortise's promises.
    Promise,
    /// Folders and disks.
    Disk,
    /// Limits of this process.
    Limit,
    /// The network.
    Network,
    /// The supervisor.
    Supervisor,
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
    /// The report of these checks.
    #[must_use]
    pub fn new(mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|it| it.area);
        Self { sound: checks.iter().all(|it| it.verdict != Verdict::Bad), checks }
    }
}

impl Check {
    /// A thing as it should be.
    pub(super) fn good(area: Area, name: &str, found: impl Into<String>, matters: &str) -> Self {
        let (name, matters) = (name.to_owned(), matters.to_owned());
        Self { name, area, verdict: Verdict::Good, found: found.into(), matters, remedy: None }
    }

    /// The same thing, not as it should be.
    pub(super) fn but(mut self, verdict: Verdict, remedy: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.remedy = Some(remedy.into());
        self
    }
}
