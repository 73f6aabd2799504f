//! Who asks, and what they may do.

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use mortise_control::TenantName;

use crate::api::{ApiError, Blame, ErrorCode};

/// Who is at the other end of the connection, by the kernel's word (SO_PEERCRED: as of `connect`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    uid: u32,
    role: Option<Role>,
}

/// What somebody is to this supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// May do everything: root, and the user that the supervisor runs as.
    Operator,
}

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// Read what concerns all tenants: the host, the snapshot, the metrics.
    ReadAll,
    /// Read what concerns one tenant.
    Read(&'a TenantName),
    /// Change what concerns one tenant, or call its services.
    Change(&'a TenantName),
    /// Stop the supervisor and all that it runs.
    ShutDown,
    /// Make the supervisor become another program.
    Upgrade,
}

impl fmt::Display for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadAll => f.write_str("read the state of all tenants"),
            Self::Read(tenant) => write!(f, "read the state of the tenant {tenant}"),
            Self::Change(tenant) => write!(f, "change the tenant {tenant}"),
            Self::ShutDown => f.write_str("shut down the supervisor"),
            Self::Upgrade => f.write_str("upgrade the supervisor"),
        }
    }
}

impl Role {
    fn permits(&self, access: Access<'_>) -> bool {
        match (self, access) {
            (
                Self::Operator,
                Access::ReadAll | Access::Read(_) | Access::Change(_) | Access::ShutDown | Access::Upgrade,
            ) => true,
        }
    }
}

impl Caller {
    /// The caller with the uid `uid` of a supervisor that runs as `own`.
    #[must_use]
    pub fn of_uid(uid: u32, own: u32) -> Self {
        let role = (uid == 0 || uid == own).then_some(Role::Operator);
        Self { uid, role }
    }

    /// What they are to this supervisor, if anything.
    #[must_use]
    pub const fn role(&self) -> Option<&Role> {
        self.role.as_ref()
    }

    /// Whether they may do `access`.
    ///
    /// # Errors
    /// `Denied`, naming what and who.
    pub fn may(&self, access: Access<'_>) -> Result<(), ApiError> {
        match &self.role {
            Some(role) if role.permits(access) => Ok(()),
            Some(_) | None => Err(self.denied(&access)),
        }
    }

    fn denied(&self, what: &dyn fmt::Display) -> ApiError {
        let message = format!("uid {} may not {what}", self.uid);
        ApiError::new(ErrorCode::Denied, Blame::Caller, message)
            .remedy("Ask as root or as the user that mortised runs as.")
    }

    /// Denies those without any role, whatever they ask for.
    pub(super) fn known(&self) -> Result<(), ApiError> {
        match self.role {
            Some(_) => Ok(()),
            None => Err(self.denied(&"use this supervisor")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            ApiError::new(
                ErrorCode::Internal,
                Blame::Mortise,
                "a request came without the credentials of its connection",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_own_user_are_operators_and_nobody_else() {
        let tenant = TenantName::new("default").unwrap();
        let accesses =
            [Access::ReadAll, Access::Read(&tenant), Access::Change(&tenant), Access::ShutDown, Access::Upgrade];
        for access in accesses {
            assert_eq!(Caller::of_uid(0, 1000).may(access), Ok(()));
            assert_eq!(Caller::of_uid(1000, 1000).may(access), Ok(()));
            let refused = Caller::of_uid(1001, 1000).may(access).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Denied);
            assert!(refused.message.contains("1001"), "{refused}");
        }
        assert!(Caller::of_uid(1001, 1000).known().is_err());
    }
}
