//! "Did you mean …?"

/// How alike two names must be (Jaro-Winkler) to be worth a guess.
const ALIKE: f64 = 0.8;

/// The name of `known` that `typed` was probably meant to be.
pub fn closest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|it| *it != typed)
        .map(|it| (strsim::jaro_winkler(typed, it), it))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_another_word_finds_none() {
        let known = ["spell", "markdown", "site", "legacy"];
        for (typed, meant) in [("spel", "spell"), ("markdwon", "markdown"), ("sitte", "site"), ("legcay", "legacy")] {
            assert_eq!(closest(typed, known), Some(meant), "{typed}");
        }
        assert_eq!(closest("postgres", known), None);
        assert_eq!(closest("x", []), None);
    }
}
