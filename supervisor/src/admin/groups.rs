//! Groups of modules, as they were declared and as they run.

use axum::Json;
use axum::extract::State;

use super::extract::InQuery;
use super::modules::OfTenant;
use super::{Caller, Shared};
use crate::api::{ApiError, GroupStatus};

/// Groups, each module with the version that the group wants, the one that runs, and the one that a rollback goes back to.
#[utoipa::path(get, path = "/v1/groups", tag = "groups", params(OfTenant), responses((status = 200, body = [GroupStatus])))]
pub(super) async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    InQuery(of): InQuery<OfTenant>,
) -> Result<Json<Vec<GroupStatus>>, ApiError> {
    caller.may(of.access())?;
    let state = shared.api.handle.state();
    Ok(Json(state.groups.iter().filter(|it| of.has(&it.tenant)).cloned().collect()))
}
