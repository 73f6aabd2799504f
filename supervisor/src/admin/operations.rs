//! Changes: accepted at once, carried out as operations that can be asked for.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mortise_control::{ModuleName, TenantName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{invalid, not_found};
use super::extract::{InBody, InPath, InQuery};
use super::modules::OfTenant;
use super::{Access, Caller, Shared, bounds, stopped};
use crate::api::{ApiError, Operation, OperationId, Request, RuntimeKind};
use crate::manifest::{Manifest, Runtime};

/// What is asked, and the client's name for it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Submit {
    /// Asking twice with the same id does it once and gives the same operation. The supervisor chooses one if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OperationId>,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct OneOperation {
    /// Its id.
    id: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Waiting {
    /// Answer as soon as the operation has ended, or after so many seconds (60 at most), whichever comes first.
    #[param(maximum = 60, minimum = 0)]
    wait: Option<f64>,
}

impl Waiting {
    fn time(&self) -> Result<Duration, ApiError> {
        let Some(seconds) = self.wait else { return Ok(Duration::ZERO) };
        let time = Duration::try_from_secs_f64(seconds)
            .map_err(|_| invalid(format!("wait={seconds} is not a number of seconds")).remedy("Give 0 to 60."))?;
        Ok(time.min(bounds::WAIT_MAX))
    }
}

/// Longest and allowed operation ids: they appear in paths, logs and records.
const ID_MAX: usize = 64;

/// Checks an id that a client has chosen.
pub(super) fn checked_id(id: Option<OperationId>) -> Result<Option<OperationId>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    let sound = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.');
    if !(1..=ID_MAX).contains(&id.0.len()) || !id.0.bytes().all(sound) {
        let found: String = id.0.chars().take(ID_MAX + 1).collect();
        let message = format!("{found:?} cannot be the id of an operation");
        return Err(invalid(message).remedy("Give 1 to 64 letters, digits, '-', '_' and '.', or none."));
    }
    Ok(Some(id))
}

/// Asks for a change. Answers when it is accepted and on disk; the work goes on.
#[utoipa::path(post, path = "/v1/operations", tag = "operations", request_body = Submit, responses((status = 202, body = Operation)))]
pub(super) async fn submit(
    State(shared): State<Shared>,
    caller: Caller,
    InBody(asked): InBody<Submit>,
) -> Result<(StatusCode, Json<Operation>), ApiError> {
    may(&shared, &caller, &asked.request).await?;
    let id = checked_id(asked.id)?;
    let operation = shared.api.handle.submit(id, asked.request).await?;
    Ok((StatusCode::ACCEPTED, Json(operation)))
}

/// Whether the caller may ask for this.
async fn may(shared: &Shared, caller: &Caller, request: &Request) -> Result<(), ApiError> {
    let tenant = request.tenant();
    match request {
        Request::AddTenant { .. } | Request::SetTenant { .. } | Request::RemoveTenant { .. } => {
            return caller.may(Access::Tenants);
        }
        _ => caller.may(Access::Change(tenant))?,
    }
    let is_base = match (request, request.module()) {
        (Request::Install { digest, .. }, _) => is_base_package(shared, tenant.clone(), digest.clone()).await,
        (Request::ApplyGroup { modules, .. }, _) => modules.keys().any(|it| has_base(shared, tenant, it)),
        (Request::RollbackGroup { group, .. }, _) => {
            let state = shared.api.handle.state();
            let groups = state.groups.iter().filter(|it| it.tenant == *tenant && it.group == *group);
            groups.flat_map(|it| &it.modules).any(|it| has_base(shared, tenant, &it.module))
        }
        (_, Some(module)) => has_base(shared, tenant, module),
        (_, None) => false,
    };
    if is_base { caller.may(Access::Base) } else { Ok(()) }
}

/// Whether a package in the store is a base's. One that is not there is refused later.
async fn is_base_package(shared: &Shared, tenant: TenantName, digest: String) -> bool {
    let of = shared.clone();
    let looking = move || {
        let found = digest.parse().ok().and_then(|it| of.api.packages.find(&it).ok());
        found.is_some_and(|it| is_bases(&of, &tenant, &it.manifest))
    };
    // An error of the join: the runtime is shutting down.
    tokio::task::spawn_blocking(looking).await.unwrap_or(true)
}

/// Whether a package is a base, or a version of a module that has one.
pub(super) fn is_bases(shared: &Shared, tenant: &TenantName, manifest: &Manifest) -> bool {
    matches!(manifest.runtime, Runtime::Base(_)) || has_base(shared, tenant, &manifest.name)
}

/// Whether a version of a module is a base: any of those installed, so that none can be put in front of it.
fn has_base(shared: &Shared, tenant: &TenantName, module: &ModuleName) -> bool {
    let state = shared.api.handle.state();
    let found = state.modules.iter().find(|it| it.tenant == *tenant && it.module == *module);
    let kinds = found.into_iter().flat_map(|it| it.installed.iter().map(|it| it.runtime).chain([it.runtime]));
    kinds.into_iter().any(|it| it == Some(RuntimeKind::Base))
}

/// Operations that run and the latest that have ended, newest first.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", params(OfTenant), responses((status = 200, body = [Operation])))]
pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    InQuery(of): InQuery<OfTenant>,
) -> Result<Json<Vec<Operation>>, ApiError> {
    caller.may(of.access())?;
    let state = shared.api.handle.state();
    Ok(Json(state.operations.iter().filter(|it| of.has(it.request.tenant())).cloned().collect()))
}

/// One operation, as far as it has come.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "operations", params(OneOperation, Waiting), responses((status = 200, body = Operation)))]
pub(super) async fn one(
    State(mut shared): State<Shared>,
    caller: Caller,
    InPath(OneOperation { id }): InPath<OneOperation>,
    InQuery(waiting): InQuery<Waiting>,
) -> Result<Json<Operation>, ApiError> {
    let id = OperationId(id);
    let no_such = || {
        let shown: String = id.0.chars().take(ID_MAX).collect();
        not_found(format!("there is no operation {shown:?}"))
            .remedy("GET /v1/operations lists them; old ones are forgotten.")
    };
    let now = shared.api.handle.wait(&id, Duration::ZERO).await.ok_or_else(no_such)?;
    // Whose operation another's name is, is not to be learned either.
    caller.may(Access::Read(now.request.tenant())).map_err(|_| no_such())?;
    let time = waiting.time()?;
    if time.is_zero() {
        return Ok(Json(now));
    }
    // A server that stops answers how far the operation is, instead of keeping its client waiting for a closed connection.
    let found = tokio::select! {
        found = shared.api.handle.wait(&id, time) => found,
        () = stopped(&mut shared.stopping) => Some(now),
    };
    found.map(Json).ok_or_else(no_such)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_plain() {
        let id = |text: &str| checked_id(Some(OperationId(text.into())));
        assert!(id("swap-2024.11_a").is_ok());
        for bad in ["", "a/b", "a b", "ä", "a\n", &"a".repeat(65)] {
            assert!(id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn waiting_is_bounded() {
        let time = |wait| Waiting { wait }.time();
        assert_eq!(time(Some(1e9)).unwrap(), bounds::WAIT_MAX);
        assert_eq!(time(Some(0.25)).unwrap(), Duration::from_millis(250));
        assert_eq!(time(None).unwrap(), Duration::ZERO);
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(time(Some(bad)).is_err(), "{bad}");
        }
    }
}
