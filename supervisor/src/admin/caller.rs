//! Who asks, and what they may do.

use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use mortise_control::TenantName;

use super::{Role, Roles};
use crate::api::{ApiError, Blame, ErrorCode};

/// Who is at the other end of the connection, by the kernel's word (SO_PEERCRED: as of `connect`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    uid: u32,
    role: Option<Role>,
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
    /// Add and remove tenants, and say what each may have.
    Tenants,
    /// Change a base, which carries every tenant's requests.
    Base,
    /// Stop the supervisor and all that it runs.
    ShutDown,
    /// Make the supervisor become another program.
    Upgrade,
}

impl Caller {
    /// The caller with the uid `uid` of a supervisor that runs as `own`.
    #[must_use]
    pub fn new(uid: u32, own: u32, roles: &Roles) -> Self {
        Self { uid, role: roles.of(uid, own) }
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
            Some(_) | None => Err(self.denied(&access, &access.takes())),
        }
    }

    fn denied(&self, what: &dyn fmt::Display, takes: &str) -> ApiError {
        let message = format!("uid {} may not {what}", self.uid);
        ApiError::new(ErrorCode::Denied, Blame::Caller, message)
            .remedy(format!("It takes {takes}: root and the user that mortised runs as are operators, `[roles]` of mortise.toml names others."))
    }

    /// Denies those without any role, whatever they ask for.
    pub(super) fn known(&self) -> Result<(), ApiError> {
        match self.role {
            Some(_) => Ok(()),
            None => Err(self.denied(&"use this supervisor", "a role")),
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
    fn root_and_the_own_user_are_operators_and_nobody_else_is_anything() {
        let tenant = TenantName::new("default").unwrap();
        let accesses = [
            Access::ReadAll,
            Access::Read(&tenant),
            Access::Change(&tenant),
            Access::Tenants,
            Access::Base,
            Access::ShutDown,
            Access::Upgrade,
        ];
        let caller = |uid| Caller::new(uid, 1000, &Roles::default());
        for access in accesses {
            assert_eq!(caller(0).may(access), Ok(()));
            assert_eq!(caller(1000).may(access), Ok(()));
            let refused = caller(1001).may(access).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Denied);
            assert!(refused.message.contains("1001"), "{refused}");
        }
        assert!(caller(1001).known().is_err());
    }
}
