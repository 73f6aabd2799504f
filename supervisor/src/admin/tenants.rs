//! Tenants, as they are.

use axum::Json;
use axum::extract::State;

use super::extract::InQuery;
use super::modules::OfTenant;
use super::{Caller, Shared};
use crate::api::{ApiError, TenantStatus};

/// Tenants with what each may have and what it has.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(OfTenant), responses((status = 200, body = [TenantStatus])))]
pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    InQuery(of): InQuery<OfTenant>,
) -> Result<Json<Vec<TenantStatus>>, ApiError> {
    caller.may(of.access())?;
    let state = shared.api.handle.state();
    Ok(Json(state.tenants.iter().filter(|it| of.has(&it.tenant)).cloned().collect()))
}
