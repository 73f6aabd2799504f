use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::Serialize;

use super::super::value::of;
use super::*;

#[derive(Clone, Serialize)]
struct Word {
    text: String,
    suggestion: Option<String>,
    kind: Kind,
}

#[derive(Clone, Serialize)]
enum Kind {
    Plain,
    Scored { score: f64 },
}

fn words() -> Vec<Word> {
    let word = |text: &str| Word { text: text.into(), suggestion: None, kind: Kind::Plain };
    vec![word("whale"), word("harpoon")]
}

#[derive(Clone, Serialize)]
struct Page {
    words: Vec<Word>,
    by_name: HashMap<String, u64>,
    large: u128,
}

fn page() -> Page {
    let by_name = (0..40).map(|it| (format!("secret {it:02}"), it)).collect();
    Page { words: words(), by_name, large: u128::MAX }
}

/// Where two values differ, in words.
fn found(one: &impl Serialize, other: &impl Serialize) -> Option<(String, Piece, Piece)> {
    let found = first_difference(&of(one).unwrap(), &of(other).unwrap())?;
    Some((found.path, found.charge, found.beside))
}

fn changed(change: impl FnOnce(&mut Page)) -> Option<(String, Piece, Piece)> {
    let mut other = page();
    change(&mut other);
    found(&page(), &other)
}

#[test]
fn the_path_names_the_first_field_that_differs() {
    assert_eq!(changed(|_| ()), None, "maps are equal in whatever order they were written");
    let at = |path: &str, charge, beside| Some((path.to_owned(), charge, beside));
    let text = changed(|it| it.words[1].suggestion = Some("spoon".into()));
    assert_eq!(text, at(".words[1].suggestion", Piece::Nothing, Piece::Text(5)));
    assert_eq!(changed(|it| it.words[0].text.push('s')), at(".words[0].text", Piece::Text(5), Piece::Text(6)));
    assert_eq!(changed(|it| it.large -= 1), at(".large", Piece::Number, Piece::Number));
    assert_eq!(changed(|it| drop(it.words.pop())), at(".words[1]", Piece::Structure(3), Piece::Absent));
    let scored = |score| move |it: &mut Page| it.words[0].kind = Kind::Scored { score };
    assert_eq!(changed(scored(0.5)), at(".words[0].kind", Piece::Variant(0), Piece::Variant(1)));
    let mut other = page();
    scored(0.5)(&mut other);
    let mut charge = other.clone();
    scored(0.25)(&mut charge);
    assert_eq!(found(&charge, &other), at(".words[0].kind.Scored.score", Piece::Number, Piece::Number));
}

#[test]
fn a_key_of_a_map_is_data_and_not_shown() {
    let at = |path: &str, charge, beside| Some((path.to_owned(), charge, beside));
    let value = changed(|it| {
        it.by_name.insert("secret 07".into(), 9);
    });
    assert_eq!(value, at(".by_name{7}", Piece::Number, Piece::Number));
    let gone = changed(|it| {
        it.by_name.remove("secret 07");
    });
    assert_eq!(gone, at(".by_name{7}", Piece::Number, Piece::Absent));
    let more = changed(|it| {
        it.by_name.insert("secret 070".into(), 9);
    });
    assert_eq!(more, at(".by_name{8}", Piece::Absent, Piece::Number));
}

#[test]
fn a_long_path_is_cut() {
    #[derive(Serialize)]
    struct Deep {
        a_field_whose_name_is_as_long_as_names_are_in_some_programs: Option<Box<Deep>>,
        leaf: u8,
    }
    let deep = |leaf| {
        let end = Deep { a_field_whose_name_is_as_long_as_names_are_in_some_programs: None, leaf };
        (0..9).fold(end, |inner, _| Deep {
            a_field_whose_name_is_as_long_as_names_are_in_some_programs: Some(Box::new(inner)),
            leaf: 0,
        })
    };
    let (path, ..) = found(&deep(1), &deep(2)).unwrap();
    assert!(path.len() <= MOST_PATH && path.ends_with('…'), "{path}");
}

/// Any value, as deep as this.
fn value() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let leaf = prop_oneof![
        Just(Value::Nothing),
        any::<bool>().prop_map(Value::Truth),
        (0..3_i128).prop_map(Value::Whole),
        "[a-b]{0,2}".prop_map(Value::Text),
        any::<u64>().prop_map(Value::Float),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let map = prop::collection::btree_map(inner.clone(), inner.clone(), 0..3);
        let structure = prop::collection::vec(inner.clone(), 0..=NAMES.len());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            map.prop_map(|it: BTreeMap<_, _>| Value::Map(it.into_iter().collect())),
            structure.prop_map(|it| Value::Structure(NAMES.into_iter().zip(it).collect())),
            (0..2_u32, inner).prop_map(|(at, it)| Value::Variant(at, NAMES[at as usize], Box::new(it))),
        ]
    })
}

/// What is at a path that was not cut.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    let end = path[1..].find(['.', '[', '{']).map_or(path.len(), |it| it + 1);
    let (step, rest) = path.split_at(end);
    let number = || step[1..step.len() - 1].parse::<usize>().unwrap();
    let next = match value {
        Value::List(values) => values.get(number())?,
        Value::Structure(fields) => &fields.iter().find(|it| it.0 == &step[1..])?.1,
        Value::Variant(_, name, content) if *name == &step[1..] => content,
        other => panic!("{step} of {other:?}"),
    };
    at(next, rest)
}

proptest! {
    #[test]
    fn values_are_equal_exactly_if_there_is_no_difference(one in value(), other in value()) {
        prop_assert_eq!(first_difference(&one, &other).is_none(), one == other);
        prop_assert_eq!(first_difference(&one, &one), None);
    }

    #[test]
    fn what_is_at_the_path_differs(one in value(), other in value()) {
        let Some(found) = first_difference(&one, &other) else { return Ok(()) };
        // Places in maps are of the keys of both: another test has them.
        prop_assume!(!found.path.contains('{') && found.path.len() < MOST_PATH);
        let (charge, beside) = (at(&one, &found.path), at(&other, &found.path));
        prop_assert_ne!(charge, beside);
        prop_assert_eq!(charge.map_or(Piece::Absent, piece), found.charge);
        prop_assert_eq!(beside.map_or(Piece::Absent, piece), found.beside);
    }
}
