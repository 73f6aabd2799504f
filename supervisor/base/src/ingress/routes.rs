//! Which route answers a host and a path. Pure: the targets are whatever the caller has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mortise_control::ServiceName;

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
    turn: AtomicU64,
}

/// A target and its share.
#[derive(Debug)]
pub(crate) struct Weighted<T> {
    pub(crate) target: T,
    pub(crate) weight: u32,
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
        Self { service, targets, turn: AtomicU64::new(0) }
    }

    /// A target by its share among those that `may`; none if there is none or their weights are 0. Successive choices spread
    /// as evenly as the shares allow, without drawing lots. Where others have the same weight, it is the less busy one of two
    /// (Mitzenmacher, The power of two choices in randomized load balancing, 2001).
    pub(crate) fn choose(&self, may: impl Fn(&T) -> bool, busy: impl Fn(&T) -> u64) -> Option<&T> {
        // Multiples of the golden ratio are spread evenly over the circle, whatever the number of them.
        let turn = self.turn.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = at(turn, self.targets.iter().filter(|it| may(&it.target)))?;
        let peer = |it: &&Weighted<T>| may(&it.target) && it.weight == first.weight && !std::ptr::eq(*it, first);
        // Bits that tell nothing of the first choice.
        let second = at(turn.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93), self.targets.iter().filter(peer));
        match second {
            Some(second) if busy(&second.target) < busy(&first.target) => Some(&second.target),
            Some(_) | None => Some(&first.target),
        }
    }
}

/// The target at a point of the circle that all shares make up.
fn at<'a, T>(point: u64, targets: impl Iterator<Item = &'a Weighted<T>> + Clone) -> Option<&'a Weighted<T>> {
    let total: u64 = targets.clone().map(|it| u64::from(it.weight)).sum();
    let mut point = ((u128::from(point) * u128::from(total)) >> 64) as u64;
    for it in targets {
        match point.checked_sub(u64::from(it.weight)) {
            None => return Some(it),
            Some(rest) => point = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn route(service: &str) -> Route<&'static str> {
        Route::new(name(service), vec![])
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
        let weighted = |target, weight| Weighted { target, weight };
        let route = Route::new(name("s"), vec![weighted("a", 90), weighted("b", 10), weighted("c", 0)]);
        let chosen: Vec<_> = (0..1000).filter_map(|_| route.choose(|_| true, idle).copied()).collect();
        let b = chosen.iter().filter(|it| **it == "b").count();
        assert!((95..=105).contains(&b), "{b} of 1000");
        assert!(!chosen.contains(&"c"));
        for window in chosen.chunks(50) {
            let b = window.iter().filter(|it| **it == "b").count();
            assert!((2..=8).contains(&b), "{b} of 50");
        }
        assert_eq!(route.choose(|it| *it != "a", idle), Some(&"b"));
        assert_eq!(route.choose(|it| *it == "c", idle), None, "no share, no request");
        assert_eq!(route.choose(|_| false, idle), None);
        let busy = |it: &&str| u64::from(*it == "a");
        let b = (0..1000).filter(|_| route.choose(|_| true, busy) == Some(&"b")).count();
        assert!((95..=105).contains(&b), "a share is kept whoever is busy: {b} of 1000");
    }

    #[test]
    fn of_two_with_the_same_share_the_less_busy_one_is_chosen() {
        let weighted = |target| Weighted { target, weight: 1 };
        let route = Route::new(name("s"), ["a", "b", "c", "d"].map(weighted).into());
        let mut load = std::collections::BTreeMap::from([("a", 0_u64), ("b", 0), ("c", 0), ("d", 0)]);
        // "a" never finishes anything.
        for _ in 0..1000 {
            let chosen = *route.choose(|_| true, |it| load[it]).unwrap();
            *load.get_mut(chosen).unwrap() += u64::from(chosen == "a");
        }
        assert!(load["a"] <= 2, "{load:?}");
        let even = Route::new(name("s"), ["a", "b"].map(weighted).into());
        let a = (0..1000).filter(|_| even.choose(|_| true, idle) == Some(&"a")).count();
        assert!((450..=550).contains(&a), "{a} of 1000");
        assert_eq!(even.choose(|_| true, |it| u64::from(*it == "a")), Some(&"b"));
    }

    #[test]
    fn the_longest_weights_do_not_overflow() {
        let most = |target| Weighted { target, weight: u32::MAX };
        let route = Route::new(name("s"), (0..100).map(most).collect());
        let chosen: std::collections::HashSet<_> =
            (0..1000).filter_map(|_| route.choose(|_| true, idle).copied()).collect();
        assert_eq!(chosen.len(), 100);
    }
}
