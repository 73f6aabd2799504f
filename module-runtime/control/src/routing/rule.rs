//! Rules as they are worked with and told to workers. Made by [`super::Routes::check`].

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{ModuleName, ServiceName, TenantName};

/// The rules of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which service.
    pub service: ServiceName,
    /// In order, each with the callers that it is for.
    pub(super) rules: Vec<(Callers, Rule)>,
}

/// The callers that a rule is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Callers {
    pub(super) tenant: Option<TenantName>,
    pub(super) module: Option<ModuleName>,
}

impl Route {
    /// The rules that calls of a module may match.
    #[must_use]
    pub fn rules_of_calls(&self, tenant: &TenantName, module: &ModuleName) -> Vec<Rule> {
        let is_for = |it: &Callers| {
            it.tenant.as_ref().is_none_or(|it| it == tenant) && it.module.as_ref().is_none_or(|it| it == module)
        };
        let rules = self.rules.iter().filter(|(callers, rule)| is_for(callers) && rule.matches.http.is_none());
        rules.map(|(_, rule)| rule.clone()).collect()
    }

    /// The rules that HTTP requests may match: they have no caller.
    #[must_use]
    pub fn rules_of_requests(&self) -> Vec<Rule> {
        let rules = self.rules.iter().filter(|(callers, _)| *callers == Callers::default());
        rules.map(|(_, rule)| rule.clone()).collect()
    }

    /// The versions that its rules name.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.rules.iter().flat_map(|(_, rule)| &rule.to).map(|it| &it.version)
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it is for.
    pub matches: Match,
    /// Who answers.
    pub to: Vec<Share>,
    /// Calls with the same value of this go to the same version.
    #[serde(default)]
    pub sticky: Option<Key>,
}

/// What a call or request must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Tags with their values.
    #[serde(default)]
    pub tags: Vec<(String, String)>,
    /// What must be so of an HTTP request; a call that is none does not match.
    #[serde(default)]
    pub http: Option<HttpMatch>,
}

/// What must be so of an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpMatch {
    /// Its host, in lower case and without port.
    #[serde(default)]
    pub host: Option<String>,
    /// A prefix of its path, without `/` at its end.
    #[serde(default)]
    pub path: Option<String>,
    /// Headers, their names in lower case, and their values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Cookies and their values.
    #[serde(default)]
    pub cookies: Vec<(String, String)>,
}

/// A version and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which version.
    pub version: Version,
    /// Relative to the others'.
    pub weight: u32,
}

/// What tells who is to stay where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Key {
    /// A tag's value.
    Tag(String),
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
}

/// A tag that the base gives to requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagSource {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub value: TagValue,
}

/// Where a tag's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagValue {
    /// A header's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// This one, for requests that match.
    Fixed(String, HttpMatch),
}
