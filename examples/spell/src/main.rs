//! The module `spell`: finds misspelled words in the resource `words`, which it maps and never copies.

mod dictionary;

use std::collections::HashSet;

use dictionary::Dictionary;
use example_contracts::spell::{Misspelling, Spell, SpellError, SpellServer};
use module_runtime::{Resource, Worker};

/// The most words of one call.
const WORDS_MOST: usize = 20_000;

/// The most suggestions for one word.
const SUGGESTIONS_MOST: usize = 5;

struct Checker {
    dictionary: Dictionary<Resource>,
}

impl Spell for Checker {
    fn check(&self, words: Vec<String>) -> Result<Vec<Misspelling>, SpellError> {
        if words.len() > WORDS_MOST {
            return Err(SpellError::TooMany { found: words.len() as u64, allowed: WORDS_MOST as u64 });
        }
        let mut seen = HashSet::new();
        let wrong = words.into_iter().filter(|it| !self.dictionary.knows(it) && seen.insert(it.clone()));
        Ok(wrong
            .map(|word| Misspelling { suggestions: self.dictionary.suggest(&word, SUGGESTIONS_MOST), word })
            .collect())
    }

    fn suggest(&self, word: String, most: u32) -> Result<Vec<String>, SpellError> {
        Ok(self.dictionary.suggest(&word, most as usize))
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let dictionary = Dictionary::new(worker.resource("words")?).map_err(module_runtime::Error::other)?;
    println!("{} words", dictionary.len());
    worker.serve(SpellServer::new(Checker { dictionary })).run().await
}
