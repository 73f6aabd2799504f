//! A service's schema as one number, so that two ends can tell whether they know the same.
//!
//! The number is a hash over the methods' names and over the *structure* of the types in them: field names and their order,
//! variants, nesting, number types, as serde sees them. The structure is found by deserializing each type from a source that
//! writes down what it is asked for (`tracer`). Type names do not count, and neither does who declared them. A type whose
//! structure cannot be found that way (untagged enums, flattened fields, checks that no sample value passes) makes the
//! fingerprint 0: such a service is always called by field name.

mod tracer;

use serde::de::DeserializeOwned;

/// What a service without a known structure has as its fingerprint.
pub const NO_FINGERPRINT: u64 = 0;

/// A schema that is being hashed: add the methods in the order of their names.
#[derive(Debug)]
pub struct Schema {
    hash: Option<Hash>,
}

impl Default for Schema {
    fn default() -> Self {
        Self::new()
    }
}

impl Schema {
    /// No methods yet.
    #[must_use]
    pub fn new() -> Self {
        let mut hash = Hash::new();
        hash.text("mortise-schema-1");
        Self { hash: Some(hash) }
    }

    /// Adds a method with its arguments (one structure), its result and its error.
    #[must_use]
    pub fn method<A: DeserializeOwned, T: DeserializeOwned, E: DeserializeOwned>(mut self, name: &str) -> Self {
        self.hash = self.hash.and_then(|mut hash| {
            hash.text(name);
            for part in [tracer::structure::<A>()?, tracer::structure::<T>()?, tracer::structure::<E>()?] {
                hash.word(part);
            }
            Some(hash)
        });
        self
    }

    /// The fingerprint: never 0 except as [`NO_FINGERPRINT`].
    #[must_use]
    pub fn fingerprint(self) -> u64 {
        self.hash.map_or(NO_FINGERPRINT, |it| it.0.max(1))
    }
}

/// 64-bit FNV-1a.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hash(u64);

impl Hash {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn word(&mut self, word: u64) {
        word.to_le_bytes().into_iter().for_each(|it| self.byte(it));
    }

    /// A text and its length, so that two texts in a row are not one.
    fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        text.bytes().for_each(|it| self.byte(it));
    }
}
