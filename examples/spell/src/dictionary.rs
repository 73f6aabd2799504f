//! Words in a finite state transducer, looked up where they lie.

use std::cmp::Reverse;

use fst::automaton::Levenshtein;
use fst::{IntoStreamer, Set, Streamer};

/// Longer words are neither looked up nor suggested: the automaton would be large for a word that nobody writes.
const WORD_MOST: usize = 40;

/// A dictionary over bytes that somebody else holds.
pub struct Dictionary<D> {
    words: Set<D>,
}

impl<D: AsRef<[u8]>> Dictionary<D> {
    /// Takes the bytes of an fst set as they are.
    pub fn new(bytes: D) -> Result<Self, fst::Error> {
        Ok(Self { words: Set::new(bytes)? })
    }

    /// How many words it has.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether this is a word, in any case, also as a genitive or between apostrophes.
    pub fn knows(&self, word: &str) -> bool {
        let plain = plain(word);
        let genitive = plain.strip_suffix("'s").or_else(|| plain.strip_suffix('\''));
        self.words.contains(&plain) || genitive.is_some_and(|it| self.words.contains(it))
    }

    /// At most `most` words that are one or two letters away, the likeliest first.
    pub fn suggest(&self, word: &str, most: usize) -> Vec<String> {
        let wanted = plain(word);
        if wanted.chars().count() > WORD_MOST {
            return Vec::new();
        }
        let mut found = self.swapped(&wanted);
        for distance in [1, 2] {
            if found.len() < most {
                let mut more = self.within(&wanted, distance);
                more.retain(|it| !found.contains(it));
                more.sort_by_key(|it| (likeness(it, &wanted), it.clone()));
                found.extend(more);
            }
        }
        found.truncate(most);
        found
    }

    /// Words in which two neighbours have changed places: the likeliest slip.
    fn swapped(&self, word: &str) -> Vec<String> {
        let letters: Vec<char> = word.chars().collect();
        let swap = |at: usize| {
            let mut letters = letters.clone();
            letters.swap(at, at + 1);
            letters.into_iter().collect::<String>()
        };
        // People rarely get the first letter wrong.
        let places = (0..letters.len().saturating_sub(1)).rev().filter(|at| letters[*at] != letters[at + 1]);
        places.map(swap).filter(|it| self.words.contains(it)).collect()
    }

    fn within(&self, word: &str, distance: u32) -> Vec<String> {
        // A word whose automaton would be too large simply has no suggestions.
        let Ok(automaton) = Levenshtein::new(word, distance) else { return Vec::new() };
        let mut stream = self.words.search(automaton).into_stream();
        let mut found = Vec::new();
        while let Some(key) = stream.next() {
            found.extend(std::str::from_utf8(key).map(str::to_owned));
        }
        found
    }
}

fn plain(word: &str) -> String {
    word.trim_matches('\'').replace('’', "'").to_lowercase()
}

/// Less is likelier: sharing many letters, of the same length, beginning alike.
fn likeness(word: &str, wanted: &str) -> (Reverse<usize>, usize, Reverse<usize>) {
    let prefix = word.chars().zip(wanted.chars()).take_while(|(a, b)| a == b).count();
    let length = word.chars().count().abs_diff(wanted.chars().count());
    (Reverse(shared(word, wanted)), length, Reverse(prefix))
}

/// How many letters two words have in common, each letter counted as often as both have it.
fn shared(a: &str, b: &str) -> usize {
    let mut left: Vec<char> = b.chars().collect();
    a.chars().filter(|c| left.iter().position(|l| l == c).map(|at| left.swap_remove(at)).is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dictionary() -> Dictionary<Vec<u8>> {
        let words = ["a", "don't", "receive", "relieve", "server", "sever", "tech", "ten", "the", "worker", "zebra"];
        Dictionary::new(Set::from_iter(words).unwrap().into_fst().into_inner()).unwrap()
    }

    #[test]
    fn case_genitive_and_apostrophes_do_not_matter() {
        let dictionary = dictionary();
        for known in ["Server", "server's", "servers'", "'worker'", "don’t", "THE"] {
            assert_eq!(dictionary.knows(known), known != "servers'", "{known}");
        }
        assert!(!dictionary.knows("wroker"));
    }

    #[test]
    fn the_likeliest_comes_first() {
        let dictionary = dictionary();
        assert_eq!(dictionary.suggest("teh", 2), ["the", "tech"]);
        assert_eq!(dictionary.suggest("recieve", 5)[0], "receive");
        assert_eq!(dictionary.suggest("wroker", 5), ["worker"]);
        assert_eq!(dictionary.suggest("servr", 1), ["server"]);
        assert!(dictionary.suggest("qqqqqq", 5).is_empty());
        assert!(dictionary.suggest(&"x".repeat(5000), 5).is_empty());
    }
}
