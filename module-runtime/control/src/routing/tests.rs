use std::collections::BTreeMap;

use proptest::prelude::*;
use semver::Version;

use super::*;
use crate::{ModuleName, ServiceName, TenantName};

fn version(major: u64) -> Version {
    Version::new(major, 0, 0)
}

fn to(shares: &[(u64, u32)]) -> Vec<Share> {
    shares.iter().map(|(major, weight)| Share { version: version(*major), weight: *weight }).collect()
}

fn rule(tag: Option<(&str, &str)>, shares: &[(u64, u32)]) -> Rule {
    let tags = tag.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Rule { matches: Match { tags, http: None }, to: to(shares), sticky: None }
}

fn call(tags: &str) -> Asked<'_> {
    Asked { tags: tags.as_bytes(), http: None }
}

fn major(found: Option<&Version>) -> Option<u64> {
    found.map(|it| it.major)
}

struct Head(&'static str, &'static str, Vec<(&'static str, &'static str)>);

impl HttpHead for Head {
    fn host(&self) -> Option<&str> {
        Some(self.0)
    }
    fn path(&self) -> &str {
        self.1
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.2.iter().find(|it| it.0 == name).map(|it| it.1)
    }
}

fn file(text: &str) -> RouteFile {
    toml::from_str(text).unwrap()
}

const SHOP: &str = r#"
    [[tag]]
    name = "lane"
    header = "X-Lane"
    [[tag]]
    name = "lane"
    cookie = "lane"
    [[tag]]
    name = "lane"
    value = "canary"
    match = { host = "Beta.example.org", path = "/shop/" }

    [[route]]
    service = "cart"
    [[route.rule]]
    match = { tag = { lane = "canary" } }
    to = [{ version = "2.0.0" }]
    [[route.rule]]
    match = { module = "site" }
    to = [{ version = "1.0.0", weight = 90 }, { version = "2.0.0", weight = 10 }]
    sticky = { by = "tag:user" }
    [[route.rule]]
    match = { header = { x-beta = "1" } }
    to = [{ version = "2.0.0" }]
"#;

#[test]
fn a_file_becomes_rules_for_calls_and_for_requests() {
    let routes = Routes::check(&file(SHOP)).unwrap();
    let route = &routes.routes[&ServiceName::new("cart").unwrap()];
    let tenant = TenantName::new("default").unwrap();
    let rules = |module: &str| route.rules_of_calls(&tenant, &ModuleName::new(module).unwrap());
    assert_eq!((rules("site").len(), rules("other").len(), route.rules_of_requests().len()), (2, 1, 2));
    let head = |host, path, headers| tags_of(&routes.tags, &Head(host, path, headers));
    assert_eq!(head("a", "/", vec![("x-lane", "x")]), b"lane=x");
    assert_eq!(head("a", "/", vec![("cookie", "a=b; lane=y;c=d")]), b"lane=y");
    assert_eq!(head("a", "/", vec![("x-lane", "x"), ("cookie", "lane=y")]), b"lane=x");
    assert_eq!(head("beta.example.org", "/shop/cart", vec![]), b"lane=canary");
    assert_eq!(head("beta.example.org", "/shopping", vec![]), b"");
    for bad in ["a;b=c", "", "a b", "ü", &"x".repeat(25)] {
        let bad: &'static str = bad.to_owned().leak();
        assert_eq!(head("a", "/", vec![("x-lane", bad)]), b"", "{bad}");
    }
    let again: RouteFile = toml::from_str(&toml::to_string(&file(SHOP)).unwrap()).unwrap();
    assert_eq!(again, file(SHOP));
}

#[test]
fn a_request_matches_by_header_and_a_call_does_not() {
    let routes = Routes::check(&file(SHOP)).unwrap();
    let rules = routes.routes.values().next().unwrap().rules_of_requests();
    let beta = Head("a", "/", vec![("x-beta", "1")]);
    let asked = Asked { tags: b"", http: Some(&beta) };
    assert_eq!(major(choose(&rules, &asked, |_| true, || 0)), Some(2));
    assert_eq!(choose(&rules, &call(""), |_| true, || 0), None);
}

#[test]
fn every_fault_names_field_value_and_remedy() {
    let wrong = [
        ("route[0].service", "Cart", "[[route]]\nservice = \"Cart\""),
        ("route[1].service", "a", "[[route]]\nservice = \"a\"\n[[route]]\nservice = \"a\""),
        ("route[0].rule[0].to", "0", "[[route]]\nservice = \"a\"\n[[route.rule]]\nto = []"),
        ("to[0].version", "two", "[[route]]\nservice = \"a\"\n[[route.rule]]\nto = [{version = \"two\"}]"),
        (
            "to[1].version",
            "2.0.0",
            "[[route]]\nservice = \"a\"\n[[route.rule]]\nto = [{version = \"2.0.0\"}, {version = \"2.0.0\"}]",
        ),
        (
            "to[0].weight",
            "1000001",
            "[[route]]\nservice = \"a\"\n[[route.rule]]\nto = [{version = \"2.0.0\", weight = 1000001}]",
        ),
        ("rule[0].to", "1", "[[route]]\nservice = \"a\"\n[[route.rule]]\nto = [{version = \"2.0.0\", weight = 0}]"),
        (
            "sticky.by",
            "user",
            "[[route]]\nservice = \"a\"\n[[route.rule]]\nto = [{version = \"2.0.0\"}]\nsticky = {by = \"user\"}",
        ),
        (
            "match.tag",
            "Lane",
            "[[route]]\nservice = \"a\"\n[[route.rule]]\nmatch = {tag = {Lane = \"x\"}}\nto = [{version = \"2.0.0\"}]",
        ),
        (
            "match.path",
            "shop",
            "[[route]]\nservice = \"a\"\n[[route.rule]]\nmatch = {path = \"shop\"}\nto = [{version = \"2.0.0\"}]",
        ),
        (
            "match",
            "both",
            "[[route]]\nservice = \"a\"\n[[route.rule]]\nmatch = {path = \"/\", module = \"m\"}\nto = [{version = \"2.0.0\"}]",
        ),
        ("tag[0]", "lane", "[[tag]]\nname = \"lane\""),
        ("tag[0].value", "a=b", "[[tag]]\nname = \"lane\"\nvalue = \"a=b\""),
        ("tag[0].match", "lane", "[[tag]]\nname = \"lane\"\nheader = \"x\"\nmatch = {path = \"/\"}"),
        ("tag[0].header", "x lane", "[[tag]]\nname = \"lane\"\nheader = \"x lane\""),
    ];
    for (field, value, text) in wrong {
        let faults = Routes::check(&file(text)).unwrap_err();
        let told = faults.iter().any(|it| it.field.ends_with(field) && it.value == value && !it.remedy.is_empty());
        assert!(told, "{text}: {faults:?}");
    }
    assert!(toml::from_str::<RouteFile>("[[route]]\nservice = \"a\"\nrules = []").is_err(), "an unknown field");
}

#[test]
fn the_first_rule_that_matches_and_is_answered_decides() {
    let rules = [rule(Some(("lane", "a")), &[(2, 1)]), rule(Some(("lane", "a")), &[(3, 1)]), rule(None, &[(1, 1)])];
    let chosen = |tags, there: &[u64]| major(choose(&rules, &call(tags), |it| there.contains(&it.major), || 7));
    assert_eq!(chosen("lane=a", &[1, 2, 3]), Some(2));
    assert_eq!(chosen("user=1;lane=a", &[1, 3]), Some(3));
    assert_eq!(chosen("lane=a", &[1]), Some(1));
    assert_eq!(chosen("lane=ab", &[1, 2, 3]), Some(1));
    assert_eq!(chosen("", &[2, 3]), None, "no rule: the version in charge");
    assert_eq!(choose(&[], &call("lane=a"), |_| true, || 7), None);
}

#[test]
fn a_tag_is_found_whole_only() {
    assert_eq!(tags::read("lane=canary;user=17").as_deref(), Ok(&b"lane=canary;user=17"[..]));
    for (wrong, why) in [
        ("", "not NAME=VALUE"),
        ("lane", "not NAME=VALUE"),
        ("lane=a;", "not NAME=VALUE"),
        ("Lane=a", "a tag's name"),
        ("=a", "a tag's name"),
        ("lane=", "a tag's value"),
        ("lane=a b", "a tag's value"),
        ("lane=\u{e4}", "a tag's value"),
        ("lane=a=b", "a tag's value"),
        ("lane=a;lane=b", "each tag once"),
        ("lane=abcdefghijk;user=abcdefgh", "does not fit"),
    ] {
        let error = tags::read(wrong).unwrap_err();
        assert!(error.contains(why), "{wrong:?}: {error}");
    }
    assert_eq!(tags::get(b"a=1;lane=x", "lane"), Some("x"));
    assert_eq!(tags::get(b"xlane=x", "lane"), None);
    assert_eq!(tags::get(b"lane", "lane"), None);
    assert_eq!(tags::get(b"canary", "lane"), None);
    let mut all = Vec::new();
    tags::add(&mut all, "lane", "canary");
    tags::add(&mut all, "lane", "other");
    tags::add(&mut all, "user", "123456789012");
    tags::add(&mut all, "u", "1234567890");
    assert_eq!(all, b"lane=canary;u=1234567890", "what does not fit is left out");
}

/// Spread evenly over all lots.
fn lots(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |it| (u64::MAX / count) * it)
}

proptest! {
    #[test]
    fn shares_are_as_their_weights(weights in prop::collection::vec(0..1000_u32, 1..8), absent in any::<u8>()) {
        let shares: Vec<_> = weights.iter().enumerate().map(|(n, it)| (n as u64, *it)).collect();
        let rules = [rule(None, &shares)];
        let there = |it: &Version| absent & (1 << it.major) == 0;
        let total: u32 = shares.iter().filter(|it| there(&version(it.0))).map(|it| it.1).sum();
        let mut counts = BTreeMap::<u64, u64>::new();
        for lot in lots(10_000) {
            match major(choose(&rules, &call(""), there, || lot)) {
                Some(it) => *counts.entry(it).or_default() += 1,
                None => prop_assert_eq!(total, 0),
            }
        }
        for (n, weight) in shares.iter().filter(|it| total > 0 && there(&version(it.0))) {
            let expected = 10_000.0 * f64::from(*weight) / f64::from(total);
            let found = counts.get(n).copied().unwrap_or(0) as f64;
            prop_assert!((found - expected).abs() <= 2.0, "{n}: {found} of {expected}");
        }
    }

    #[test]
    fn a_key_stays_where_it_is_and_only_what_a_share_gains_moves(before in 1..100_u32, more in 1..100_u32) {
        let rules = |weight| [Rule { sticky: Some(Key::Tag("user".into())), ..rule(None, &[(1, 100), (2, weight)]) }];
        let (old, new) = (rules(before), rules(before + more));
        let mut moved = 0;
        for user in 0..500 {
            let tags = format!("user={user}");
            let at = |rules: &[Rule; 1], lot| major(choose(rules, &call(&tags), |_| true, || lot));
            prop_assert_eq!(at(&old, 0), at(&old, u64::MAX), "lots are not drawn");
            let (was, is) = (at(&old, 0), at(&new, 0));
            prop_assert!(was == is || (was, is) == (Some(1), Some(2)), "{was:?} to {is:?}");
            moved += u32::from(was != is);
        }
        let share = |it: u32| f64::from(it) / f64::from(100 + it);
        let expected = 500.0 * (share(before + more) - share(before));
        prop_assert!((f64::from(moved) - expected).abs() < 75.0, "{moved} of {expected}");
    }

    #[test]
    fn nothing_that_is_written_makes_it_panic_or_take_long(
        tags in prop::collection::vec((".*", prop::option::of(".*"), prop::option::of(".*"), prop::option::of(".*")), 0..40),
        services in prop::collection::vec((".{0,70}", ".*", any::<u32>(), ".*"), 0..300),
    ) {
        let tags = tags.into_iter().map(|(name, header, cookie, value)| TagFile { name, header, cookie, value, matches: None });
        let routes = services.into_iter().map(|(service, version, weight, by)| ServiceFile {
            service,
            rules: vec![RuleFile { matches: None, to: vec![ShareFile { version, weight }], sticky: Some(StickyFile { by }) }; 3],
        });
        let file = RouteFile { tags: tags.collect(), routes: routes.collect() };
        match Routes::check(&file) {
            Ok(routes) => prop_assert!(routes.routes.len() <= 256),
            Err(faults) => {
                prop_assert!((1..=20).contains(&faults.len()));
                prop_assert!(faults.iter().all(|it| it.value.chars().count() <= 80));
            }
        }
    }
}
