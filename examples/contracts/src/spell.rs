//! The service `spell`.

use serde::{Deserialize, Serialize};

/// Finds words that are not in the dictionary.
#[module_runtime::service(name = "spell", error = SpellError)]
pub trait Spell {
    /// Those of `words` that are misspelled, each once, in the order of their first appearance.
    #[idempotent]
    fn check(&self, words: Vec<String>) -> Result<Vec<Misspelling>, SpellError>;

    /// At most `most` words like this one, the likeliest first.
    #[idempotent]
    fn suggest(&self, word: String, most: u32) -> Result<Vec<String>, SpellError>;
}

/// A word that is not in the dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misspelling {
    /// As it was asked for.
    pub word: String,
    /// The likeliest first; at most five.
    pub suggestions: Vec<String>,
}

/// Why a question could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpellError {
    /// More words than one call may have.
    TooMany {
        /// How many there were.
        found: u64,
        /// How many are allowed.
        allowed: u64,
    },
}

impl std::fmt::Display for SpellError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooMany { found, allowed } => write!(f, "{found} words in one call; at most {allowed} are allowed"),
        }
    }
}

impl std::error::Error for SpellError {}
