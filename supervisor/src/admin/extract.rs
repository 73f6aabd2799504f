//! Axum's extractors with refusals in the API's own form.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::bounds::BODY_BYTES;
use super::error::invalid;
use crate::api::{ApiError, Blame, ErrorCode};

/// Parameters in the path.
pub(super) struct InPath<T>(pub T);

/// Parameters after the question mark.
pub(super) struct InQuery<T>(pub T);

/// A JSON body.
pub(super) struct InBody<T>(pub T);

const SEE: &str = "GET /openapi.json describes every request.";

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(value) = Path::from_request_parts(parts, state).await.map_err(|it: PathRejection| {
            invalid(format!("path {}: {}", parts.uri.path(), it.body_text())).remedy(SEE)
        })?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, state).await.map_err(|it: QueryRejection| {
            let query = parts.uri.query().unwrap_or_default();
            invalid(format!("query {query:?}: {}", it.body_text())).remedy(SEE)
        })?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for InBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let axum::Json(value) = axum::Json::from_request(request, state).await.map_err(refused_body)?;
        Ok(Self(value))
    }
}

fn refused_body(rejection: JsonRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large("the body", BODY_BYTES as u64);
    }
    invalid(format!("body: {}", rejection.body_text())).remedy(SEE)
}

/// `what` exceeds `most` bytes.
pub(super) fn too_large(what: &str, most: u64) -> ApiError {
    ApiError::new(ErrorCode::TooLarge, Blame::Caller, format!("{what} is larger than {most} bytes"))
}
