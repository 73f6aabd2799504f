//! Who has which role: what `[roles]` of mortise.toml says, by uid.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mortise_control::TenantName;

use super::Access;

/// Who has a role beside root and the user that the supervisor runs as, who are operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// May do everything.
    pub operators: BTreeSet<u32>,
    /// May read everything and change nothing.
    pub readers: BTreeSet<u32>,
    /// May read what is their tenants', change it and call its services.
    pub owners: BTreeMap<u32, BTreeSet<TenantName>>,
}

impl Roles {
    /// What somebody is to a supervisor that runs as `own`.
    pub(super) fn of(&self, uid: u32, own: u32) -> Option<Role> {
        if uid == 0 || uid == own || self.operators.contains(&uid) {
            return Some(Role::Operator);
        }
        let reads = self.readers.contains(&uid);
        match self.owners.get(&uid) {
            Some(of) => Some(Role::Owner { of: of.clone(), reads }),
            None => reads.then_some(Role::Reader),
        }
    }
}

/// What somebody is to this supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// May do everything: root, the user that the supervisor runs as, and those named.
    Operator,
    /// May do everything with the modules of some tenants, and nothing with others'.
    Owner {
        /// Whose.
        of: BTreeSet<TenantName>,
        /// A reader, too.
        reads: bool,
    },
    /// May read everything.
    Reader,
}

impl Role {
    pub(super) fn permits(&self, access: Access<'_>) -> bool {
        match (self, access) {
            (Self::Operator, _) => true,
            (Self::Owner { of, .. }, Access::Read(tenant) | Access::Change(tenant)) if of.contains(tenant) => true,
            (Self::Owner { reads: true, .. } | Self::Reader, Access::ReadAll | Access::Read(_)) => true,
            (Self::Owner { .. } | Self::Reader, _) => false,
        }
    }
}

impl fmt::Display for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadAll => f.write_str("read the state of all tenants"),
            Self::Read(tenant) => write!(f, "read the state of the tenant {tenant}"),
            Self::Change(tenant) => write!(f, "change the tenant {tenant}"),
            Self::Tenants => f.write_str("add, limit or remove tenants"),
            Self::Base => f.write_str("change a base"),
            Self::ShutDown => f.write_str("shut down the supervisor"),
            Self::Upgrade => f.write_str("upgrade the supervisor"),
        }
    }
}

impl Access<'_> {
    /// The roles that may, for people.
    pub(super) fn takes(&self) -> String {
        match self {
            Self::ReadAll => "the role reader or operator".into(),
            Self::Read(tenant) => format!("the role owner of {tenant}, reader or operator"),
            Self::Change(tenant) => format!("the role owner of {tenant} or operator"),
            Self::Tenants | Self::Base | Self::ShutDown | Self::Upgrade => "the role operator".into(),
        }
    }
}
