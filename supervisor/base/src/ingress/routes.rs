//! Which route answers a host and a path. Pure: the targets are whatever the caller has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mortise_control::ServiceName;
use mortise_control::routing::{Asked, Rule, TagSource, choose};
use semver::Version;

/// What answers where: the routes of one epoch, or the base's own handlers.
#[derive(Debug)]
pub(crate) struct RouteTable<R> {
    hosts: HashMap<Box<str>, Prefixes<R>>,
    any_host: Prefixes<R>,
}

/// The routes of one host by their prefix, without the `/` at its end (so the root is the empty text).
#[derive(Debug)]
struct Prefixes<R> {
    routes: HashMap<Box<str>, R>,
    longest: usize,
}

/// Who answers the requests of one host and prefix.
#[derive(Debug)]
pub(crate) struct Route<T> {
    /// The service.
    pub(crate) service: ServiceName,
    /// Who answers.
    pub(crate) targets: Vec<Weighted<T>>,
    /// What goes before the targets' shares.
    pub(crate) rules: Vec<Rule>,
    /// The tags that its requests get.
    pub(crate) tags: Vec<TagSource>,
    turn: AtomicU64,
}

/// A target and its share.
#[derive(Debug)]
pub(crate) struct Weighted<T> {
    pub(crate) target: T,
    pub(crate) weight: u32,
    pub(crate) version: Version,
    /// Its share among those of its version.
    pub(crate) version_weight: u32,
}

impl<R> Default for Prefixes<R> {
    fn default() -> Self {
        Self { routes: HashMap::new(), longest: 0 }
    }
}

impl<R> Default for RouteTable<R> {
    fn default() -> Self {
        Self { hosts: HashMap::new(), any_host: Prefixes::default() }
    }
}

impl<R> RouteTable<R> {
    /// Adds a route. The first one of a host and prefix stays: says whether it was this one.
    #[must_use]
    pub(crate) fn add(&mut self, host: Option<&str>, prefix: &str, route: R) -> Added {
        let prefixes = match host {
            Some(host) => self.hosts.entry(host.to_ascii_lowercase().into()).or_default(),
            None => &mut self.any_host,
        };
        let prefix = prefix.trim_end_matches('/');
        if prefixes.routes.contains_key(prefix) {
            return Added::AlreadyThere;
        }
        prefixes.longest = prefixes.longest.max(prefix.len());
        prefixes.routes.insert(prefix.into(), route);
        Added::Yes
    }

    /// The route with the longest prefix among those of the host, else among those of any host. `host` is in lower case
    /// and without port.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<&R> {
        let of_host = host.and_then(|host| self.hosts.get(host)).and_then(|it| it.find(path));
        of_host.or_else(|| self.any_host.find(path))
    }
}

/// What became of a route that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is in the table.
    Yes,
    /// Another has its host and prefix.
    AlreadyThere,
}

impl<R> Prefixes<R> {
    /// Looks up `path` and then ever shorter parts of it that end at a segment's border. Starts no longer than the longest prefix
    /// there is, so a path made of 30,000 slashes costs no more than another.
    fn find(&self, path: &str) -> Option<&R> {
        let mut part = match path.as_bytes().get(self.longest) {
            None => path,
            Some(b'/') => &path[..self.longest],
            // `longest` may lie within a segment (or a character), which is then no border.
            Some(_) => &path[..path.as_bytes()[..self.longest].iter().rposition(|it| *it == b'/')?],
        };
        loop {
            if let Some(route) = self.routes.get(part) {
                return Some(route);
            }
            part = &part[..part.rfind('/')?];
        }
    }
}

impl<T> Route<T> {
    pub(crate) fn new(service: ServiceName, targets: Vec<Weighted<T>>) -> Self {
        Self { service, targets, rules: Vec::new(), tags: Vec::new(), turn: AtomicU64::new(0) }
    }

    pub(crate) fn with_rules(self, rules: Vec<Rule>, tags: Vec<TagSource>) -> Self {
        Self { rules, tags, ..self }
    }

    /// Whether a request could be sent to anybody.
    pub(crate) fn is_answered(&self) -> bool {
        self.targets.iter().any(|it| it.weight > 0 || (it.version_weight > 0 && !self.rules.is_empty()))
    }

    /// A target among those that `may`; none if there is none or their weights are 0: of the version that a rule says, if one does,
    /// else by its share. Successive choices spread as evenly as the shares allow, without drawing lots. Where others have the
    /// same weight, it is the less busy one of two (Mitzenmacher, The power of two choices in randomized load balancing, 2001).
    pub(crate) fn choose(&self, asked: &Asked<'_>, may: impl Fn(&T) -> bool, busy: impl Fn(&T) -> u64) -> Option<&T> {
        // Multiples of the golden ratio are spread evenly over the circle, whatever the number of them.
        let turn = self.turn.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if !self.rules.is_empty() {
            let of = |it: &Weighted<T>, version: &Version| may(&it.target) && it.version == *version;
            let answers = |version: &Version| self.targets.iter().any(|it| of(it, version) && it.version_weight > 0);
            if let Some(version) = choose(&self.rules, asked, answers, || turn) {
                let shares = self.targets.iter().filter(|it| of(it, version)).map(|it| (&it.target, it.version_weight));
                return less_busy(mixed(turn), shares, busy);
            }
        }
        less_busy(turn, self.targets.iter().filter(|it| may(&it.target)).map(|it| (&it.target, it.weight)), busy)
    }
}

/// Bits that tell nothing of a choice that was made by the others.
const fn mixed(turn: u64) -> u64 {
    turn.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

fn less_busy<'a, T>(
    turn: u64,
    targets: impl Iterator<Item = (&'a T, u32)> + Clone,
    busy: impl Fn(&T) -> u64,
) -> Option<&'a T> {
    let (first, weight) = at(turn, targets.clone())?;
    let peers = targets.filter(|(it, share)| *share == weight && !std::ptr::eq(*it, first));
    match at(mixed(turn), peers) {
        Some((second, _)) if busy(second) < busy(first) => Some(second),
        Some(_) | None => Some(first),
    }
}

/// The target at a point of the circle that all shares make up.
fn at<'a, T>(point: u64, targets: impl Iterator<Item = (&'a T, u32)> + Clone) -> Option<(&'a T, u32)> {
    let total: u64 = targets.clone().map(|(_, weight)| u64::from(weight)).sum();
    let mut point = ((u128::from(point) * u128::from(total)) >> 64) as u64;
    for (target, weight) in targets {
        match point.checked_sub(u64::from(weight)) {
            None => return Some((target, weight)),
            Some(rest) => point = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTAGGED: Asked<'_> = Asked { tags: b"", http: None };

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn route(service: &str) -> Route<&'static str> {
        Route::new(name(service), vec![])
    }

    fn of_version<T>(target: T, weight: u32, major: u64) -> Weighted<T> {
        Weighted { target, weight, version: Version::new(major, 0, 0), version_weight: 1 }
    }

    fn idle<T>(_: &T) -> u64 {
        0
    }

    fn table(entries: &[(Option<&str>, &str, &str)]) -> RouteTable<Route<&'static str>> {
        let mut table = RouteTable::default();
        for (host, prefix, service) in entries {
            assert_eq!(table.add(*host, prefix, route(service)), Added::Yes);
        }
        table
    }

    fn found<'a>(table: &'a RouteTable<Route<&'static str>>, host: Option<&str>, path: &str) -> Option<&'a str> {
        table.find(host, path).map(|it| it.service.as_str())
    }

    #[test]
    fn the_longest_prefix_wins_and_only_at_a_segment_border() {
        let table = table(&[(None, "/", "root"), (None, "/a", "a"), (None, "/a/b/", "ab"), (None, "/a/bcd", "abcd")]);
        for (path, service) in [
            ("/", "root"),
            ("/a", "a"),
            ("/a/", "a"),
            ("/ab", "root"),
            ("/a/b", "ab"),
            ("/a/b/", "ab"),
            ("/a/b/c/d/e", "ab"),
            ("/a/bc", "a"),
            ("/a/bcd", "abcd"),
            ("/a/bcde", "a"),
            ("/a/bcd/e", "abcd"),
            ("/ä/ö", "root"),
            ("/a/öö", "a"),
            ("//a", "root"),
        ] {
            assert_eq!(found(&table, None, path), Some(service), "{path}");
        }
    }

    #[test]
    fn without_a_root_route_other_paths_have_none() {
        let table = table(&[(None, "/site", "site")]);
        assert_eq!(found(&table, None, "/"), None);
        assert_eq!(found(&table, None, "/sit"), None);
        assert_eq!(found(&table, None, "/sites"), None);
        assert_eq!(found(&table, None, "/site"), Some("site"));
        assert_eq!(found(&table, None, "*"), None);
        assert_eq!(found(&table, None, ""), None);
    }

    #[test]
    fn a_host_goes_before_any_host_even_with_a_shorter_prefix() {
        let table = table(&[(Some("A.example"), "/", "host"), (None, "/x/y", "any"), (Some("b.example"), "/b", "b")]);
        assert_eq!(found(&table, Some("a.example"), "/x/y"), Some("host"));
        assert_eq!(found(&table, Some("c.example"), "/x/y"), Some("any"));
        assert_eq!(found(&table, None, "/x/y"), Some("any"));
        assert_eq!(found(&table, Some("b.example"), "/x/y"), Some("any"), "what its own routes do not have");
        assert_eq!(found(&table, Some("b.example"), "/other"), None);
    }

    #[test]
    fn the_first_of_two_equal_routes_stays() {
        let mut table = table(&[(None, "/a", "first")]);
        assert_eq!(table.add(None, "/a/", route("second")), Added::AlreadyThere);
        assert_eq!(found(&table, None, "/a"), Some("first"));
    }

    #[test]
    fn shares_are_kept_and_spread() {
        let weighted = |target, weight| of_version(target, weight, 1);
        let route = Route::new(name("s"), vec![weighted("a", 90), weighted("b", 10), weighted("c", 0)]);
        let chosen: Vec<_> = (0..1000).filter_map(|_| route.choose(&UNTAGGED, |_| true, idle).copied()).collect();
        let b = chosen.iter().filter(|it| **it == "b").count();
        assert!((95..=105).contains(&b), "{b} of 1000");
        assert!(!chosen.contains(&"c"));
        for window in chosen.chunks(50) {
            let b = window.iter().filter(|it| **it == "b").count();
            assert!((2..=8).contains(&b), "{b} of 50");
        }
        assert_eq!(route.choose(&UNTAGGED, |it| *it != "a", idle), Some(&"b"));
        assert_eq!(route.choose(&UNTAGGED, |it| *it == "c", idle), None, "no share, no request");
        assert_eq!(route.choose(&UNTAGGED, |_| false, idle), None);
        let busy = |it: &&str| u64::from(*it == "a");
        let b = (0..1000).filter(|_| route.choose(&UNTAGGED, |_| true, busy) == Some(&"b")).count();
        assert!((95..=105).contains(&b), "a share is kept whoever is busy: {b} of 1000");
    }

    #[test]
    fn of_two_with_the_same_share_the_less_busy_one_is_chosen() {
        let weighted = |target| of_version(target, 1, 1);
        let route = Route::new(name("s"), ["a", "b", "c", "d"].map(weighted).into());
        let mut load = std::collections::BTreeMap::from([("a", 0_u64), ("b", 0), ("c", 0), ("d", 0)]);
        // "a" never finishes anything.
        for _ in 0..1000 {
            let chosen = *route.choose(&UNTAGGED, |_| true, |it| load[it]).unwrap();
            *load.get_mut(chosen).unwrap() += u64::from(chosen == "a");
        }
        assert!(load["a"] <= 2, "{load:?}");
        let even = Route::new(name("s"), ["a", "b"].map(weighted).into());
        let a = (0..1000).filter(|_| even.choose(&UNTAGGED, |_| true, idle) == Some(&"a")).count();
        assert!((450..=550).contains(&a), "{a} of 1000");
        assert_eq!(even.choose(&UNTAGGED, |_| true, |it| u64::from(*it == "a")), Some(&"b"));
    }

    #[test]
    fn the_longest_weights_do_not_overflow() {
        let most = |target| of_version(target, u32::MAX, 1);
        let route = Route::new(name("s"), (0..100).map(most).collect());
        let chosen: std::collections::HashSet<_> =
            (0..1000).filter_map(|_| route.choose(&UNTAGGED, |_| true, idle).copied()).collect();
        assert_eq!(chosen.len(), 100);
    }

    #[test]
    fn a_rule_chooses_the_version_and_the_less_busy_worker_of_it() {
        use mortise_control::routing::{Match, Rule, Share};
        let share = |major, weight| Share { version: Version::new(major, 0, 0), weight };
        let tags = vec![("lane".to_owned(), "canary".to_owned())];
        let lane = Rule { matches: Match { tags, http: None }, to: vec![share(2, 1)], sticky: None };
        let all = Rule { matches: Match::default(), to: vec![share(1, 90), share(2, 10)], sticky: None };
        let targets = vec![of_version("a", 1, 1), of_version("b", 0, 2), of_version("c", 0, 2)];
        let route = Route::new(name("s"), targets).with_rules(vec![lane, all], Vec::new());
        let canary = Asked { tags: b"lane=canary", http: None };
        let chosen: std::collections::BTreeSet<_> =
            (0..100).filter_map(|_| route.choose(&canary, |_| true, idle).copied()).collect();
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(route.choose(&canary, |_| true, |it| u64::from(*it == "b")), Some(&"c"));
        let second = (0..1000).filter(|_| route.choose(&UNTAGGED, |_| true, idle) != Some(&"a")).count();
        assert!((95..=105).contains(&second), "{second} of 1000");
        assert_eq!(route.choose(&canary, |it| *it == "a", idle), Some(&"a"), "nobody of the lane answers");
        let gone = Route::new(name("s"), vec![of_version("b", 0, 2)]);
        assert_eq!((gone.choose(&UNTAGGED, |_| true, idle), gone.is_answered()), (None, false));
    }
}
