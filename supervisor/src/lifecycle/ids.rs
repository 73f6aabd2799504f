//! Names, clocks and chance, as values.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use mortise_control::{ModuleName, ResourceName, TenantName, Token};
use semver::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The tenant of whoever names none.
pub(crate) const DEFAULT_TENANT: &str = "default";

/// The tenant of whoever names none.
pub(crate) fn default_tenant() -> TenantName {
    TenantName::new(DEFAULT_TENANT).unwrap_or_else(|_| unreachable!("a literal that is a name"))
}

/// A module of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModuleKey {
    /// Whose.
    pub tenant: TenantName,
    /// Which.
    pub module: ModuleName,
}

impl fmt::Display for ModuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.module)
    }
}

/// A resource as one version of one module provides it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResourceId {
    /// Whose.
    pub tenant: TenantName,
    /// Its name within the tenant.
    pub resource: ResourceName,
    /// The module whose package holds it.
    pub module: ModuleName,
    /// The version of that module.
    pub version: Version,
}

/// The number of a store transaction; ever growing within one run of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId(pub u64);

/// Who waits for the answer to a request: chosen by the engine, given back in [`super::Action::Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// CLOCK_MONOTONIC in nanoseconds. It never jumps, so every deadline is one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl std::ops::Add<Duration> for Mono {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Mono {
    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The moment of an event. `step` has no clock and no dice of its own.
#[derive(Clone, Debug)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For people.
    pub wall: Timestamp,
    /// 32 fresh bytes of the kernel's random generator: tokens, channel ids and jitter are derived from them.
    pub seed: [u8; 32],
}

/// A stream of numbers out of one [`Now::seed`]. Tokens are secrets, so it is a hash in counter mode.
#[derive(Debug)]
pub(super) struct Draw<'a> {
    seed: &'a [u8; 32],
    drawn: u64,
}

impl<'a> Draw<'a> {
    pub(super) fn new(now: &'a Now) -> Self {
        Self { seed: &now.seed, drawn: 0 }
    }

    fn block(&mut self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.drawn.to_le_bytes());
        self.drawn += 1;
        hash.finalize().into()
    }

    pub(super) fn number(&mut self) -> u64 {
        let block = self.block();
        u64::from_le_bytes(std::array::from_fn(|i| block[i]))
    }

    pub(super) fn token(&mut self) -> Token {
        let block = self.block();
        Token(std::array::from_fn(|i| block[i]))
    }
}
