//! The prose in a page: which words a reader reads, and where they stand, so that wrong ones can be marked.
//!
//! The HTML is what the `markdown` service makes, so its tags are well-formed; whatever they are, no word inside a tag, a
//! `<pre>` or a `<code>` is touched.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use example_contracts::spell::Misspelling;

/// Each word once, in the order of the first appearance.
pub fn words(html: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    pieces(html)
        .filter_map(|piece| match piece {
            Piece::Word(word) if seen.insert(word) => Some(word.to_owned()),
            Piece::Word(_) | Piece::Other(_) => None,
        })
        .collect()
}

/// The same page with every misspelled word in a `<mark>` whose title names the suggestions.
pub fn mark(html: &str, misspellings: &[Misspelling]) -> String {
    let wrong: HashMap<&str, &Misspelling> = misspellings.iter().map(|it| (it.word.as_str(), it)).collect();
    let mut out = String::with_capacity(html.len() + misspellings.len() * 64);
    for piece in pieces(html) {
        match piece {
            Piece::Word(word) if wrong.contains_key(word) => {
                let title = escape(&wrong[word].suggestions.join(", "));
                // Writing to a String does not fail.
                let _ = write!(out, "<mark title=\"{title}\">{word}</mark>");
            }
            Piece::Word(text) | Piece::Other(text) => out.push_str(text),
        }
    }
    out
}

/// Text that is safe between tags and in quoted attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

enum Piece<'a> {
    Word(&'a str),
    Other(&'a str),
}

fn pieces(html: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = html;
    let mut code_depth = 0_usize;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (len, is_word) = match first {
            '<' => {
                let len = rest.find('>').map_or(rest.len(), |at| at + 1);
                code_depth = depth_after(&rest[..len], code_depth);
                (len, false)
            }
            '&' => (rest.find(';').map_or(1, |at| at + 1), false),
            c if c.is_alphabetic() => word(rest, code_depth == 0),
            _ => {
                let ends = |c: char| c == '<' || c == '&' || c.is_alphabetic();
                let len = rest.find(ends).unwrap_or(rest.len());
                // Letters that follow a digit, '_', '/', '.' or '@' directly belong to a name, not to prose.
                let glued = rest[..len].ends_with(|c: char| c.is_ascii_digit() || "_/.@:#$-".contains(c));
                if glued && rest[len..].starts_with(char::is_alphabetic) && !rest[..len].ends_with('-') {
                    (len + name_len(&rest[len..]), false)
                } else {
                    (len, false)
                }
            }
        };
        let (piece, after) = rest.split_at(len);
        rest = after;
        Some(if is_word { Piece::Word(piece) } else { Piece::Other(piece) })
    })
}

/// How long the name that begins here is, and whether it is a word of prose: all letters, not CamelCase, not glued to more.
fn word(text: &str, prose: bool) -> (usize, bool) {
    let letters = text.find(|c: char| !c.is_alphabetic() && c != '\'' && c != '’').unwrap_or(text.len());
    let token = name_len(text);
    if token > letters {
        return (token, false);
    }
    let word = text[..letters].trim_end_matches(['\'', '’']);
    let capitals_inside = word.chars().skip(1).any(char::is_uppercase);
    (word.len(), prose && !capitals_inside && word.chars().count() > 1)
}

/// Letters and digits and what joins them in names: `shm_rpc`, `a.b`, `user@host`, `docs/x`.
fn name_len(text: &str) -> usize {
    let mut len = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let joins = "_/.@:#".contains(c) && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if !c.is_alphanumeric() && c != '\'' && c != '’' && c != '_' && !joins {
            break;
        }
        len = at + c.len_utf8();
    }
    len
}

fn depth_after(tag: &str, depth: usize) -> usize {
    let name = tag.trim_start_matches(['<', '/']).trim_end_matches('>');
    let name = name.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or("");
    match (matches!(name, "code" | "pre"), tag.starts_with("</")) {
        (false, _) => depth,
        (true, false) => depth + 1,
        (true, true) => depth.saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prose_counts() {
        let html = "<p class=\"clss\">Teh <code>fooo</code> serverr's <b>pre</b>&nbsp;fix, SIGKILL v1 shm_rpc a.b docs/x \
                    teh Teh it's 3rdd non-prose</p><pre><code>xxxx</code> yyyy</pre>zzzz";
        assert_eq!(words(html), ["Teh", "serverr's", "pre", "fix", "teh", "it's", "non", "prose", "zzzz"]);
    }

    #[test]
    fn marking_changes_nothing_but_the_word() {
        let wrong = vec![Misspelling { word: "teh".into(), suggestions: vec!["the".into(), "\"><x".into()] }];
        let html = "<p title=\"teh\">teh <i>teh</i><code>teh</code></p>";
        let mark_up = "<mark title=\"the, &quot;&gt;&lt;x\">teh</mark>";
        let expected = format!("<p title=\"teh\">{mark_up} <i>{mark_up}</i><code>teh</code></p>");
        assert_eq!(mark(html, &wrong), expected);
    }

    #[test]
    fn nothing_is_lost_whatever_the_text() {
        for html in ["", "<", "a<", "&", "&amp", "é<p>ß&#39;", "<pre>", "a'", "'", "x-", "1a_b-c/d.e@f", "a:b: c"] {
            assert_eq!(mark(html, &[]), html);
        }
    }
}
