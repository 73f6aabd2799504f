//! From what is written to what is worked with. Every fault is found, and says which field has which value and what to write instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use semver::Version;

use super::file::{MatchFile, RouteFile, RuleFile, ServiceFile, TagFile};
use super::rule::{Callers, HttpMatch, Key, Match, Route, Rule, Share, TagSource, TagValue};
use super::tags;
use crate::{ModuleName, ServiceName, TenantName};

const TAGS: usize = 16;
const ROUTES: usize = 256;
const RULES: usize = 32;
const SHARES: usize = 8;
const PAIRS: usize = 8;
const TEXT: usize = 128;
const WEIGHT: u32 = 1_000_000;
/// Faults that are told; the first are the ones to mend.
const FAULTS: usize = 20;

/// A tenant's routes, sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Tags that the base gives to requests.
    pub tags: Vec<TagSource>,
    /// By service.
    pub routes: BTreeMap<ServiceName, Route>,
}

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `route[0].rule[1].to[0].weight`.
    pub field: String,
    /// What is there.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}: {}", self.field, self.value, self.remedy)
    }
}

impl Routes {
    /// Checks a file.
    ///
    /// # Errors
    /// What is wrong with it, at most 20 faults, in the order of the file.
    pub fn check(file: &RouteFile) -> Result<Self, Vec<Fault>> {
        let mut checks = Checks::default();
        checks.count("tag", file.tags.len(), TAGS);
        checks.count("route", file.routes.len(), ROUTES);
        let mut routes = Self::default();
        for (n, tag) in file.tags.iter().take(TAGS).enumerate() {
            routes.tags.extend(checks.tag(&format!("tag[{n}]"), tag));
        }
        for (n, route) in file.routes.iter().take(ROUTES).enumerate() {
            let at = format!("route[{n}]");
            let Some(route) = checks.route(&at, route) else { continue };
            let service = route.service.clone();
            if routes.routes.insert(service.clone(), route).is_some() {
                checks.fault(format!("{at}.service"), service, "another route has it: put all its rules into one");
            }
        }
        if checks.faults.is_empty() { Ok(routes) } else { Err(checks.faults) }
    }
}

#[derive(Default)]
struct Checks {
    faults: Vec<Fault>,
}

impl Checks {
    fn fault(&mut self, field: impl Into<String>, value: impl fmt::Display, remedy: impl Into<String>) {
        if self.faults.len() < FAULTS {
            let value = value.to_string().chars().take(80).collect();
            self.faults.push(Fault { field: field.into(), value, remedy: remedy.into() });
        }
    }

    fn count(&mut self, field: &str, found: usize, most: usize) {
        if found > most {
            self.fault(field, format!("{found} entries"), format!("at most {most}"));
        }
    }

    fn tag(&mut self, at: &str, tag: &TagFile) -> Option<TagSource> {
        self.tag_name(&format!("{at}.name"), &tag.name);
        let value = match (&tag.header, &tag.cookie, &tag.value) {
            (Some(header), None, None) => TagValue::Header(self.header(&format!("{at}.header"), header)?),
            (None, Some(cookie), None) => TagValue::Cookie(self.token(&format!("{at}.cookie"), cookie)?),
            (None, None, Some(value)) => {
                self.tag_value(&format!("{at}.value"), &tag.name, value);
                let matches = tag.matches.clone().unwrap_or_default();
                if matches.tenant.is_some() || matches.module.is_some() || !matches.tag.is_empty() {
                    let remedy = "only host, path, header and cookie: a request has no caller, and no tags before it is given them";
                    self.fault(format!("{at}.match"), "tenant, module or tag", remedy);
                }
                let (_, it) = self.matches(&format!("{at}.match"), Some(&matches));
                TagValue::Fixed(value.clone(), it.http.unwrap_or_default())
            }
            _ => {
                self.fault(at, &tag.name, "give exactly one of header, cookie and value");
                return None;
            }
        };
        if tag.value.is_none() && tag.matches.is_some() {
            self.fault(format!("{at}.match"), &tag.name, "only together with value");
        }
        Some(TagSource { name: tag.name.clone(), value })
    }

    fn route(&mut self, at: &str, route: &ServiceFile) -> Option<Route> {
        let service = self.name(&format!("{at}.service"), &route.service, ServiceName::new);
        self.count(&format!("{at}.rule"), route.rules.len(), RULES);
        let rules = route.rules.iter().take(RULES).enumerate();
        let rules = rules.map(|(n, it)| self.rule(&format!("{at}.rule[{n}]"), it)).collect();
        Some(Route { service: service?, rules })
    }

    fn rule(&mut self, at: &str, rule: &RuleFile) -> (Callers, Rule) {
        let (callers, matches) = self.matches(&format!("{at}.match"), rule.matches.as_ref());
        let (mut to, mut seen) = (Vec::new(), BTreeSet::new());
        self.count(&format!("{at}.to"), rule.to.len(), SHARES);
        for (n, share) in rule.to.iter().take(SHARES).enumerate() {
            let at = format!("{at}.to[{n}]");
            if share.weight > WEIGHT {
                self.fault(format!("{at}.weight"), share.weight, format!("0 to {WEIGHT}"));
            }
            match Version::parse(&share.version) {
                Ok(version) if share.version.len() <= TEXT => {
                    if !seen.insert(version.clone()) {
                        self.fault(format!("{at}.version"), &version, "once in a rule");
                    }
                    to.push(Share { version, weight: share.weight });
                }
                _ => self.fault(format!("{at}.version"), &share.version, "a version in full, like 2.0.0"),
            }
        }
        if rule.to.iter().all(|it| it.weight == 0) {
            self.fault(format!("{at}.to"), rule.to.len(), "at least one version with a weight above 0");
        }
        let sticky = rule.sticky.as_ref().and_then(|it| self.key(&format!("{at}.sticky.by"), &it.by));
        if let (Some(Key::Header(_) | Key::Cookie(_)), Some(module)) = (&sticky, &callers.module) {
            let remedy = "calls of a module have no headers: stick by a tag";
            self.fault(format!("{at}.sticky.by"), format!("with match.module {module}"), remedy);
        }
        (callers, Rule { matches, to, sticky })
    }

    fn matches(&mut self, at: &str, file: Option<&MatchFile>) -> (Callers, Match) {
        let Some(file) = file else { return Default::default() };
        let tenant = file.tenant.as_ref().and_then(|it| self.name(&format!("{at}.tenant"), it, TenantName::new));
        let module = file.module.as_ref().and_then(|it| self.name(&format!("{at}.module"), it, ModuleName::new));
        for (field, pairs) in [("tag", &file.tag), ("header", &file.header), ("cookie", &file.cookie)] {
            self.count(&format!("{at}.{field}"), pairs.len(), PAIRS);
        }
        for (name, value) in file.tag.iter().take(PAIRS) {
            self.tag_name(&format!("{at}.tag"), name);
            self.tag_value(&format!("{at}.tag.{name}"), name, value);
        }
        let http = file.host.is_some() || file.path.is_some() || !file.header.is_empty() || !file.cookie.is_empty();
        if http && (tenant.is_some() || module.is_some()) {
            let remedy =
                "tenant and module are of calls; host, path, header and cookie of HTTP requests: write two rules";
            self.fault(at, "both", remedy);
        }
        let http = http.then(|| HttpMatch {
            host: file.host.as_ref().and_then(|it| self.host(&format!("{at}.host"), it)),
            path: file.path.as_ref().and_then(|it| self.path(&format!("{at}.path"), it)),
            headers: self.pairs(&format!("{at}.header"), &file.header, Self::header),
            cookies: self.pairs(&format!("{at}.cookie"), &file.cookie, Self::token),
        });
        let tags = file.tag.iter().take(PAIRS).map(|(name, value)| (name.clone(), value.clone())).collect();
        (Callers { tenant, module }, Match { tags, http })
    }

    fn pairs(
        &mut self,
        at: &str,
        pairs: &BTreeMap<String, String>,
        name: fn(&mut Self, &str, &str) -> Option<String>,
    ) -> Vec<(String, String)> {
        let mut sound = Vec::new();
        for (key, value) in pairs.iter().take(PAIRS) {
            let field = format!("{at}.{}", key.chars().take(TEXT).collect::<String>());
            if value.len() > TEXT || !value.bytes().all(|it| it == b' ' || it.is_ascii_graphic()) {
                self.fault(&field, value, format!("at most {TEXT} visible characters of ASCII"));
            }
            sound.extend(name(self, &field, key).map(|it| (it, value.clone())));
        }
        sound
    }

    fn key(&mut self, at: &str, by: &str) -> Option<Key> {
        match by.split_once(':') {
            Some(("tag", name)) => self.tag_name(at, name).then(|| Key::Tag(name.to_owned())),
            Some(("header", name)) => self.header(at, name).map(Key::Header),
            Some(("cookie", name)) => self.token(at, name).map(Key::Cookie),
            _ => {
                self.fault(at, by, "tag:NAME, header:NAME or cookie:NAME");
                None
            }
        }
    }

    fn tag_name(&mut self, at: &str, name: &str) -> bool {
        let sound = tags::is_name(name);
        if !sound {
            self.fault(at, name, "1 to 16 of a-z, 0-9 and '-'");
        }
        sound
    }

    fn tag_value(&mut self, at: &str, name: &str, value: &str) {
        if !tags::is_value(value) {
            self.fault(at, value, "1 to 24 visible characters of ASCII without ';', '=' and ','");
        } else if name.len() + 1 + value.len() > tags::MOST {
            self.fault(at, value, format!("shorter: all tags of a call have {} bytes, as name=value", tags::MOST));
        }
    }

    fn name<T>(&mut self, at: &str, text: &str, new: impl FnOnce(&str) -> Result<T, crate::InvalidName>) -> Option<T> {
        let name = new(text).ok();
        if name.is_none() {
            self.fault(at, text, "a name: 1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last");
        }
        name
    }

    fn host(&mut self, at: &str, text: &str) -> Option<String> {
        let sound = |it: u8| it.is_ascii_alphanumeric() || b"-.[:]".contains(&it);
        if (1..=253).contains(&text.len()) && text.bytes().all(sound) {
            return Some(text.trim_end_matches('.').to_ascii_lowercase());
        }
        self.fault(at, text, "a host like shop.example.org, without port");
        None
    }

    fn path(&mut self, at: &str, text: &str) -> Option<String> {
        if text.starts_with('/') && text.len() <= TEXT && text.bytes().all(|it| it.is_ascii_graphic()) {
            return Some(text.trim_end_matches('/').to_owned());
        }
        self.fault(at, text, format!("a path that begins with '/', at most {TEXT} characters of ASCII"));
        None
    }

    fn header(&mut self, at: &str, text: &str) -> Option<String> {
        self.token(at, text).map(|it| it.to_ascii_lowercase())
    }

    /// A token of RFC 9110.
    fn token(&mut self, at: &str, text: &str) -> Option<String> {
        let sound = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
        if (1..=64).contains(&text.len()) && text.bytes().all(sound) {
            return Some(text.to_owned());
        }
        self.fault(at, text, "1 to 64 letters, digits, '-' and '_'");
        None
    }
}
