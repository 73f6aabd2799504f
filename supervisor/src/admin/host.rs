//! The supervisor and its host.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::{Access, Caller, Shared};
use crate::api::{ApiError, Snapshot};
use crate::{doctor, manifest};

/// Everything at one moment: modules, resources, operations, the host. Figures are half a second old at most.
#[utoipa::path(get, path = "/v1/snapshot", tag = "host", responses((status = 200, body = Snapshot)))]
pub(super) async fn snapshot(State(shared): State<Shared>, caller: Caller) -> Result<Json<Snapshot>, ApiError> {
    caller.may(Access::ReadAll)?;
    let snapshot = shared.api.handle.snapshot().await;
    Ok(Json(Snapshot::clone(&snapshot)))
}

/// What this host can and cannot do for the supervisor's promises, each with its reason and remedy.
#[utoipa::path(get, path = "/v1/doctor", tag = "host", responses((status = 200, body = doctor::Report)))]
pub(super) async fn doctor(State(shared): State<Shared>, caller: Caller) -> Result<Json<doctor::Report>, ApiError> {
    caller.may(Access::ReadAll)?;
    let api = Arc::clone(&shared.api);
    let report =
        tokio::task::spawn_blocking(move || doctor::examine(&api.doctor, &api.promises)).await.map_err(|error| {
            ApiError::new(
                crate::api::ErrorCode::Internal,
                crate::api::Blame::Mortise,
                format!("the examination failed: {error}"),
            )
        })?;
    Ok(Json(report))
}

/// The JSON Schema of module.toml.
#[utoipa::path(get, path = "/v1/schema/module.toml", tag = "host",
    responses((status = 200, body = serde_json::Value, content_type = "application/schema+json")))]
pub(super) async fn schema() -> Json<serde_json::Value> {
    Json(manifest::json_schema())
}
