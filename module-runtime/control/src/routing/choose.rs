//! Which version answers a call or request.

use semver::Version;

use super::rule::{HttpMatch, Key, Rule, TagSource, TagValue};
use super::tags;

/// What is known of a call or request.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its tags, as text of [`tags`].
    pub tags: &'a [u8],
    /// Its head, if it is an HTTP request.
    pub http: Option<&'a dyn HttpHead>,
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked({:?}, http: {})", String::from_utf8_lossy(self.tags), self.http.is_some())
    }
}

/// The head of an HTTP request, as far as rules look at it.
pub trait HttpHead: Sync {
    /// The host, in lower case and without port.
    fn host(&self) -> Option<&str>;
    /// The path.
    fn path(&self) -> &str;
    /// The first value of a header, by its name in lower case.
    fn header(&self, name: &str) -> Option<&str>;
    /// A cookie's value.
    fn cookie(&self, name: &str) -> Option<&str> {
        cookie(self.header("cookie")?, name)
    }
}

/// A cookie in the value of a `Cookie` header (RFC 6265, 4.2.1).
#[must_use]
pub fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = header.split(';').filter_map(|it| it.trim().split_once('='));
    pairs.find(|(it, _)| *it == name).map(|(_, value)| value)
}

/// The version that answers, by the first rule that matches and names a version that does; none: no rule decides, so the version in
/// charge answers. `lot` is drawn where shares decide.
pub fn choose<'r>(
    rules: &'r [Rule],
    asked: &Asked<'_>,
    answers: impl Fn(&Version) -> bool,
    lot: impl FnOnce() -> u64,
) -> Option<&'r Version> {
    let candidates = |rule: &'r Rule| rule.to.iter().filter(|it| it.weight > 0 && answers(&it.version));
    let rule = rules.iter().find(|it| it.is_for(asked) && candidates(it).next().is_some())?;
    match rule.sticky.as_ref().and_then(|it| it.value(asked)) {
        Some(key) => {
            // Weighted rendezvous hashing (Schindelhauer and Schomaker, Weighted distributed hash tables, 2005): a change of one share
            // moves as few keys as that share has changed by, and every caller finds the same version without asking anybody.
            let scored = candidates(rule).map(|it| (score(key, &it.version, it.weight), &it.version));
            scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, version)| version)
        }
        None => {
            let total: u64 = candidates(rule).map(|it| u64::from(it.weight)).sum();
            let mut point = ((u128::from(lot()) * u128::from(total)) >> 64) as u64;
            candidates(rule).find_map(|it| match point.checked_sub(u64::from(it.weight)) {
                None => Some(&it.version),
                Some(rest) => {
                    point = rest;
                    None
                }
            })
        }
    }
}

/// The tags that a request gets.
#[must_use]
pub fn tags_of(sources: &[TagSource], head: &dyn HttpHead) -> Vec<u8> {
    let mut found = Vec::new();
    for source in sources {
        let value = match &source.value {
            TagValue::Header(name) => head.header(name),
            TagValue::Cookie(name) => head.cookie(name),
            TagValue::Fixed(value, matches) => matches.is_for(head).then_some(value.as_str()),
        };
        if let Some(value) = value {
            tags::add(&mut found, &source.name, value);
        }
    }
    found
}

impl Rule {
    fn is_for(&self, asked: &Asked<'_>) -> bool {
        let tags = self.matches.tags.iter().all(|(name, value)| tags::get(asked.tags, name) == Some(value));
        tags && self.matches.http.as_ref().is_none_or(|it| asked.http.is_some_and(|head| it.is_for(head)))
    }
}

impl HttpMatch {
    fn is_for(&self, head: &dyn HttpHead) -> bool {
        let below = |prefix: &String| {
            head.path().strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.host.as_ref().is_none_or(|it| head.host() == Some(it))
            && self.path.as_ref().is_none_or(below)
            && self.headers.iter().all(|(name, value)| head.header(name) == Some(value))
            && self.cookies.iter().all(|(name, value)| head.cookie(name) == Some(value))
    }
}

impl Key {
    fn value<'a>(&self, asked: &Asked<'a>) -> Option<&'a str> {
        match self {
            Self::Tag(name) => tags::get(asked.tags, name),
            Self::Header(name) => asked.http?.header(name),
            Self::Cookie(name) => asked.http?.cookie(name),
        }
    }
}

fn score(key: &str, version: &Version, weight: u32) -> f64 {
    let mut hash = Hash::default();
    hash.bytes(key.as_bytes());
    for number in [version.major, version.minor, version.patch] {
        hash.bytes(&number.to_le_bytes());
    }
    hash.bytes(version.pre.as_bytes());
    // Strictly between 0 and 1, so that its logarithm is finite and not 0.
    let unit = ((hash.mixed() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / unit.ln()
}

/// FNV-1a, and the last steps of SplitMix64, without which the high bits of short keys hardly differ. The same on every worker: it is
/// part of what stickiness means.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // The border between two pieces is part of them.
        self.0 = (self.0 ^ 0xff).wrapping_mul(0x0100_0000_01b3);
    }

    fn mixed(&self) -> u64 {
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}
