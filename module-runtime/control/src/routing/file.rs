//! Routes as they are written, sent and kept: plain data. [`super::Routes::check`] makes them what is worked with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A tenant's routes, as in the file of `mortise route apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteFile {
    /// `[[tag]]`: tags that the base gives to HTTP requests.
    #[serde(default, rename = "tag", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagFile>,
    /// `[[route]]`: one for each service that has rules.
    #[serde(default, rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<ServiceFile>,
}

/// `[[tag]]`: a tag and where its value comes from. Of several with one name, the first that gives a value wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagFile {
    /// Its name.
    pub name: String,
    /// The header whose value it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The cookie whose value it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The value that it has where `match` matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Which requests get `value`; all without it.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<MatchFile>,
}

/// `[[route]]`: the rules of one service, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceFile {
    /// Which service.
    pub service: String,
    /// `[[route.rule]]`: the first that matches and has a version that answers decides.
    #[serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleFile>,
}

/// `[[route.rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// What it is for; everything without it.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<MatchFile>,
    /// Who answers.
    pub to: Vec<ShareFile>,
    /// Whether calls with the same key go to the same version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickyFile>,
}

/// `match = { … }`: all of it must be so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchFile {
    /// The caller's tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The caller's module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Tags and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tag: BTreeMap<String, String>,
    /// The host of an HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A prefix of its path, at a segment's border.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, String>,
    /// Cookies and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cookie: BTreeMap<String, String>,
}

/// `to = [{ version = "2.0.0", weight = 10 }]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareFile {
    /// Which version.
    pub version: String,
    /// Its share, relative to the others'; 1 without it.
    #[serde(default = "one")]
    pub weight: u32,
}

/// `sticky = { by = "tag:user" }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickyFile {
    /// `tag:NAME`, `header:NAME` or `cookie:NAME`.
    pub by: String,
}

const fn one() -> u32 {
    1
}
