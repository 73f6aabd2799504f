//! Routes, as they are in force.

use axum::Json;
use axum::extract::State;

use super::extract::InQuery;
use super::modules::OfTenant;
use super::{Caller, Shared};
use crate::api::{ApiError, RoutesStatus};

/// The routes of each tenant that has ever had any.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", params(OfTenant), responses((status = 200, body = [RoutesStatus])))]
pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    InQuery(of): InQuery<OfTenant>,
) -> Result<Json<Vec<RoutesStatus>>, ApiError> {
    caller.may(of.access())?;
    let state = shared.api.handle.state();
    Ok(Json(state.routes.iter().filter(|it| of.has(&it.tenant)).map(|it| RoutesStatus::clone(it)).collect()))
}
