//! Which differences between types count, and that every type comes to an end.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[allow(dead_code)]
struct Plain {
    word: String,
    count: u32,
}

#[test]
fn the_same_structure_has_the_same_hash_whatever_the_types_are_called() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Other {
        word: Box<str>,
        count: u32,
    }
    assert!(structure::<Plain>().is_some());
    assert_eq!(structure::<Plain>(), structure::<Other>());
    assert_eq!(structure::<Vec<Plain>>(), structure::<std::collections::VecDeque<Other>>());
}

#[test]
fn every_difference_that_matters_by_position_is_seen() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Wider {
        word: String,
        count: u64,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Swapped {
        count: u32,
        word: String,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Renamed {
        words: String,
        count: u32,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct More {
        word: String,
        count: u32,
        #[serde(default)]
        contents: Vec<Plain>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Optional {
        word: String,
        count: Option<u32>,
    }
    let all = [
        structure::<Plain>(),
        structure::<Wider>(),
        structure::<Swapped>(),
        structure::<Renamed>(),
        structure::<More>(),
        structure::<Optional>(),
        structure::<Vec<Plain>>(),
        structure::<Option<Plain>>(),
        structure::<(Plain, u8)>(),
        structure::<BTreeMap<String, Plain>>(),
        structure::<()>(),
        structure::<String>(),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(a.is_some(), "{i}");
        for (j, b) in all.iter().enumerate().skip(i + 1) {
            assert_ne!(a, b, "{i} and {j}");
        }
    }
}

#[test]
fn a_difference_in_any_variant_of_any_enum_is_seen() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Inner {
        A,
        B { x: u8, y: u8 },
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum One {
        Empty,
        Pair(Inner, Inner),
        Last(Vec<Inner>),
    }
    mod changed {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub enum Inner {
            A,
            B { x: u8, y: u16 },
        }
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub enum One {
            Empty,
            Pair(Inner, Inner),
            Last(Vec<Inner>),
        }
    }
    assert!(structure::<One>().is_some());
    assert_ne!(structure::<Inner>(), structure::<changed::Inner>());
    assert_ne!(structure::<One>(), structure::<changed::One>());
    assert_ne!(structure::<HashMap<String, Option<One>>>(), structure::<HashMap<String, Option<changed::One>>>());
}

#[test]
fn an_enum_inside_a_later_variant_is_seen_whole() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Inner {
        A,
        B,
        C(u8),
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Outer {
        Empty,
        One(Vec<Inner>),
        Other(Option<(u8, Inner)>),
    }
    mod changed {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub enum Inner {
            A,
            B,
            C(u16),
        }
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub enum Outer {
            Empty,
            One(Vec<Inner>),
            Other(Option<(u8, Inner)>),
        }
    }
    assert!(structure::<Outer>().is_some());
    assert_ne!(structure::<Outer>(), structure::<changed::Outer>());
}

#[test]
fn types_inside_themselves_end() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Tree {
        left: Option<Box<Tree>>,
        right: Option<Box<Tree>>,
        more: Vec<Tree>,
        named: BTreeMap<String, Tree>,
        value: u8,
    }
    mod wider {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub struct Tree {
            left: Option<Box<Tree>>,
            right: Option<Box<Tree>>,
            more: Vec<Tree>,
            named: std::collections::BTreeMap<String, Tree>,
            value: u16,
        }
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Expression {
        Sum(Box<Expression>, Box<Expression>),
        Call { name: String, arguments: Vec<Expression> },
        Number(i64),
        Not(Box<Expression>),
    }
    mod other {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub enum Expression {
            Sum(Box<Expression>, Box<Expression>),
            Call { name: String, arguments: Vec<Expression> },
            Number(i32),
            Not(Box<Expression>),
        }
    }
    assert!(structure::<Tree>().is_some());
    assert_ne!(structure::<Tree>(), structure::<wider::Tree>());
    assert!(structure::<Expression>().is_some());
    assert_ne!(structure::<Expression>(), structure::<other::Expression>());
}

#[test]
fn what_has_no_fixed_structure_has_no_hash() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Untagged {
        Number(u8),
        Text(String),
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Flat {
        #[serde(flatten)]
        rest: HashMap<String, u8>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Endless {
        Again(Box<Endless>),
    }
    #[derive(Deserialize)]
    #[serde(try_from = "u32")]
    struct Never;
    impl TryFrom<u32> for Never {
        type Error = String;
        fn try_from(_: u32) -> Result<Self, String> {
            Err("never".into())
        }
    }
    assert_eq!(structure::<Untagged>(), None);
    assert_eq!(structure::<Flat>(), None);
    assert_eq!(structure::<Endless>(), None);
    assert_eq!(structure::<Never>(), None);
    assert_eq!(structure::<serde_json::Value>(), None);
}

#[test]
fn checked_texts_get_a_sample_that_passes() {
    use mortise_control::ServiceName;
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Checked {
        free: String,
        name: ServiceName,
        address: std::net::SocketAddr,
        last: Option<ServiceName>,
    }
    assert!(structure::<Checked>().is_some());
    assert!(structure::<std::num::NonZeroU8>().is_some());
    assert!(structure::<std::time::Duration>().is_some());
}
