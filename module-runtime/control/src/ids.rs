//! Names and ids, checked when they are made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A worker: the place in the supervisor's table (`slot`) and how often that place has been used (`generation`).
///
/// Never reused, unlike a pid: a message about an old generation is recognised as late by comparing the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerId {
    /// The place in the supervisor's worker table.
    pub slot: u32,
    /// How many workers have had that place, this one included.
    pub generation: u32,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// A channel, as a random number: both peers report it after the supervisor has restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelId(pub u64);

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a worker shows, beside its uid and its socket folder, to be recognised. Random, new for every worker.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a name: 1 to 63 of a-z, 0-9 and '-', a letter first, no '-' last")]
pub struct InvalidName {
    /// The text that was refused.
    pub found: String,
}

fn check(text: &str) -> Result<(), InvalidName> {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let ok = (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(inner)
        && !text.ends_with('-');
    if ok { Ok(()) } else { Err(InvalidName { found: text.chars().take(80).collect() }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Box<str>);

        impl $type {
            /// Checks `text` and makes it a name.
            ///
            /// # Errors
            /// [`InvalidName`] if it is not 1 to 63 of `a-z`, `0-9` and `-`, starting with a letter and not ending in `-`.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                check(&text)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.into()
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// The owner of modules.
    TenantName
);
name!(
    /// A module, within its tenant.
    ModuleName
);
name!(
    /// A group of modules, within its tenant.
    GroupName
);
name!(
    /// A set of methods that a module provides, within its tenant.
    ServiceName
);
name!(
    /// Read-only data that workers map, within its tenant.
    ResourceName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label_that_starts_with_a_letter() {
        for good in ["a", "spell", "site-2", "a0", &"a".repeat(63)] {
            assert!(ModuleName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "0a", "A", "a_b", "a/b", "..", "a b", "ä", &"a".repeat(64)] {
            assert!(ModuleName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bad_name_does_not_deserialize() {
        let bytes = rmp_serde::to_vec("../etc").unwrap();
        assert!(rmp_serde::from_slice::<ServiceName>(&bytes).is_err());
    }
}
