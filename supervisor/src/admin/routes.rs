//! Every route, once: the router and the OpenAPI document come from the same list.

use std::sync::OnceLock;

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa::openapi::{self, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{invalid, not_found};
use super::{
    Caller, Shared, bounds, call, groups, host, metrics, modules, operations, packages, routing, shutdown, streams,
    tenants, upgrade,
};
use crate::api::{ApiError, Blame, ErrorCode};

/// The frame of the document; the routes fill it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Mortise admin API",
        description = "HTTP and JSON over the supervisor's Unix socket. Who may ask is decided by the credentials of the \
                       connection (SO_PEERCRED). A 2xx to a change means that it is on disk; the work itself goes on as an \
                       operation that can be asked for. Streams are newline-delimited JSON.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "http://localhost", description = "over the Unix socket, by default /run/mortise/admin.sock")),
    components(schemas(ApiError)),
)]
struct Frame;

fn documented() -> OpenApiRouter<Shared> {
    let quick = OpenApiRouter::new()
        .routes(routes!(modules::list))
        .routes(routes!(modules::one))
        .routes(routes!(modules::shadow))
        .routes(routes!(operations::submit, operations::list))
        .routes(routes!(routing::list))
        .routes(routes!(groups::list))
        .routes(routes!(tenants::list))
        .routes(routes!(host::snapshot))
        .routes(routes!(host::doctor))
        .routes(routes!(host::schema))
        .routes(routes!(metrics::scrape))
        .layer(middleware::from_fn(timely))
        .layer(DefaultBodyLimit::max(bounds::BODY_BYTES));
    // These keep time by themselves.
    let own_time = OpenApiRouter::new()
        .routes(routes!(operations::one))
        .routes(routes!(packages::receive))
        .routes(routes!(streams::events))
        .routes(routes!(streams::logs))
        .routes(routes!(shutdown::shut_down))
        .routes(routes!(upgrade::upgrade))
        .routes(routes!(call::call));
    OpenApiRouter::with_openapi(Frame::openapi()).merge(quick).merge(own_time)
}

pub(super) fn router(shared: Shared) -> Router {
    let (router, _) = documented().split_for_parts();
    router
        .route("/openapi.json", get(async || Json(openapi())))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(known))
        .with_state(shared)
}

/// The OpenAPI document of the admin API.
#[must_use]
pub fn openapi() -> &'static openapi::OpenApi {
    static DOCUMENT: OnceLock<openapi::OpenApi> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let (_, mut document) = documented().split_for_parts();
        let error = ResponseBuilder::new()
            .description("What went wrong, who can mend it, what to do next; the status follows from the code.")
            .content("application/json", openapi::Content::new(Some(Ref::from_schema_name("ApiError"))))
            .build();
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch];
            for operation in operations.into_iter().flatten() {
                operation.responses.responses.insert("default".into(), RefOr::T(error.clone()));
            }
        }
        document
    })
}

/// Nobody without a role learns anything, not even which routes there are.
async fn known(caller: Caller, request: Request, next: Next) -> Result<Response, ApiError> {
    caller.known()?;
    Ok(next.run(request).await)
}

/// Ends a request that takes too long, be it the client that is slow or the supervisor.
async fn timely(request: Request, next: Next) -> Result<Response, ApiError> {
    let asked = format!("{} {}", request.method(), request.uri().path());
    tokio::time::timeout(bounds::REQUEST_TIMEOUT, next.run(request)).await.map_err(|_| {
        let seconds = bounds::REQUEST_TIMEOUT.as_secs();
        let message = format!("{asked} did not end within {seconds} s");
        ApiError::new(ErrorCode::Deadline, Blame::Host, message)
            .remedy("It may have been accepted: look at GET /v1/operations before asking again.")
    })
}

const SEE: &str = "GET /openapi.json lists every route.";

async fn no_route(method: Method, uri: Uri) -> ApiError {
    not_found(format!("there is no {method} {}", uri.path())).remedy(SEE)
}

async fn no_method(method: Method, uri: Uri) -> Response {
    let error = invalid(format!("{} does not answer {method}", uri.path())).remedy(SEE);
    (StatusCode::METHOD_NOT_ALLOWED, Json(error)).into_response()
}
