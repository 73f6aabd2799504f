//! Upgrade in place: another program is asked whether it could take over, and if so the supervisor becomes it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::InBody;
use super::{Access, Caller, Shared};
use crate::api::ApiError;
use crate::daemon::Candidate;

/// What the supervisor is to become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The program, as an absolute path: a file that only root and the supervisor's user can change or replace.
    #[schema(value_type = String)]
    pub binary: PathBuf,
}

/// What it becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upgrading {
    /// The version that runs.
    pub from: String,
    /// The version that takes over, by its own word.
    pub to: String,
}

/// Checks another `mortised` on a snapshot of the store and the settings in force, and becomes it: same process, same sockets. Workers, base,
/// calls and requests go on. Answered when the check is over; `host.started` of the snapshot tells when it has taken over.
#[utoipa::path(post, path = "/v1/upgrade", tag = "host", request_body = Upgrade, responses((status = 202, body = Upgrading)))]
pub(super) async fn upgrade(
    State(shared): State<Shared>,
    caller: Caller,
    body: Result<InBody<Upgrade>, ApiError>,
) -> Result<(StatusCode, Json<Upgrading>), ApiError> {
    caller.may(Access::Upgrade)?;
    let InBody(Upgrade { binary }) = body?;
    let candidate = Candidate::examine(&binary, &shared.api.doctor.state).await?;
    let to = candidate.version().to_owned();
    tracing::info!(binary = %candidate.path().display(), to, "becoming another mortised");
    shared.api.shutdown.become_other(Arc::new(candidate))?;
    Ok((StatusCode::ACCEPTED, Json(Upgrading { from: env!("CARGO_PKG_VERSION").to_owned(), to })))
}
