//! Calls by name: forwarded to the base, which alone is on the data plane.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use mortise_control::routing::tags;
use mortise_control::{ServiceName, TenantName};
use serde::Deserialize;
use tokio::net::UnixStream;
use utoipa::IntoParams;

use super::error::invalid;
use super::extract::{InPath, InQuery, too_large};
use super::{Access, Caller, Shared, bounds};
use crate::api::{ApiError, Blame, ErrorCode};
use crate::lifecycle::default_tenant;

/// How long a call may take if the client does not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How much longer than the call's own deadline the base is waited for: it answers by then, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Carries the deadline to the base, in milliseconds.
const TIMEOUT_HEADER: &str = "mortise-timeout-ms";

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct Target {
    /// The service.
    #[param(value_type = String)]
    service: ServiceName,
    /// Its method.
    method: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Whose service; `default` without it.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantName>,
    /// Seconds until the call is given up (300 at most); 30 without it.
    timeout: Option<f64>,
    /// Tags of the call, as routes look at them: `lane=canary;user=17`.
    tags: Option<String>,
}

impl How {
    fn timeout(&self) -> Result<Duration, ApiError> {
        let Some(seconds) = self.timeout else { return Ok(TIMEOUT) };
        let most = bounds::CALL_TIMEOUT_MAX;
        let given = Duration::try_from_secs_f64(seconds).ok().filter(|it| !it.is_zero() && *it <= most);
        given.ok_or_else(|| {
            invalid(format!("timeout={seconds} cannot be the seconds of a call"))
                .remedy(format!("Give more than 0 and at most {}.", most.as_secs()))
        })
    }

    fn tags(&self) -> Result<Option<&str>, ApiError> {
        let Some(text) = self.tags.as_deref() else { return Ok(None) };
        tags::read(text)
            .map_err(|error| invalid(format!("tags: {error}")).remedy("Give tags like lane=canary;user=17."))?;
        Ok(Some(text))
    }
}

/// Calls a method by name with its arguments as a JSON object; answers what the method answers.
#[utoipa::path(post, path = "/v1/call/{service}/{method}", tag = "calls", params(Target, How),
    request_body = serde_json::Value, responses((status = 200, body = serde_json::Value)))]
pub(super) async fn call(
    State(shared): State<Shared>,
    caller: Caller,
    InPath(target): InPath<Target>,
    InQuery(how): InQuery<How>,
    request: Request,
) -> Result<Response, ApiError> {
    let tenant = how.tenant.clone().unwrap_or_else(default_tenant);
    caller.may(Access::Change(&tenant))?;
    let timeout = how.timeout()?;
    let tags = how.tags()?;
    let method = checked_method(&target.method)?;
    let Some(socket) = shared.api.handle.invoke_socket() else {
        return Err(ApiError::new(
            ErrorCode::Unavailable,
            Blame::Operator,
            "calls by name go through the base, and none is configured",
        )
        .remedy("Start mortised with --base."));
    };
    let deadline = tokio::time::Instant::now() + timeout + PATIENCE;
    let answered = async {
        let arguments = limited(request.into_body(), "the arguments").await?;
        let arguments = if arguments.is_empty() { Bytes::from_static(b"{}") } else { arguments };
        forward(&socket, &tenant, &target.service, method, arguments, timeout, tags).await
    };
    tokio::time::timeout_at(deadline, answered).await.unwrap_or_else(|_| {
        let message = format!("{}.{method} was not answered within {} s", target.service, timeout.as_secs_f64());
        Err(ApiError::new(ErrorCode::Deadline, Blame::Host, message)
            .remedy("It may have been executed. Ask with a longer timeout, or look at the module's logs."))
    })
}

/// A Rust identifier: what methods are called.
fn checked_method(text: &str) -> Result<&str, ApiError> {
    let sound = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    if (1..=128).contains(&text.len()) && text.bytes().all(sound) {
        return Ok(text);
    }
    let found: String = text.chars().take(128).collect();
    Err(invalid(format!("{found:?} cannot be a method")).remedy("Give 1 to 128 letters, digits and '_'."))
}

async fn limited(body: Body, what: &str) -> Result<Bytes, ApiError> {
    match Limited::new(body, bounds::CALL_BYTES).collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(what, bounds::CALL_BYTES as u64)),
        Err(error) => Err(invalid(format!("{what} could not be read: {error}"))),
    }
}

async fn forward(
    socket: &Path,
    tenant: &TenantName,
    service: &ServiceName,
    method: &str,
    arguments: Bytes,
    timeout: Duration,
    tags: Option<&str>,
) -> Result<Response, ApiError> {
    let gone = |error: &dyn std::fmt::Display| {
        ApiError::new(ErrorCode::Unavailable, Blame::Host, format!("the base cannot be reached: {error}"))
            .remedy("`mortise ps` shows the state of the base, `mortise logs` its output.")
    };
    let stream = UnixStream::connect(socket).await.map_err(|it| gone(&it))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|it| gone(&it))?;
    let connection = tokio::spawn(connection);
    let mut request = hyper::Request::builder()
        .method(Method::POST)
        .uri(format!("/call/{service}/{method}"))
        .header(header::HOST, "base")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(TIMEOUT_HEADER, timeout.as_millis().to_string())
        .header("mortise-tenant", tenant.as_str());
    if let Some(tags) = tags {
        request = request.header(tags::HEADER, tags);
    }
    let request = request.body(Full::new(arguments)).map_err(|it| invalid(format!("{service}.{method}: {it}")))?;
    // The base may have executed the call when its answer is torn.
    let torn = |error: &dyn std::fmt::Display| {
        ApiError::new(
            ErrorCode::Failed,
            Blame::Host,
            format!("the base's answer to {service}.{method} is torn: {error}"),
        )
        .remedy("The call may have been executed; `mortise events` says what happened to the base.")
    };
    let answer = sender.send_request(request).await.map_err(|it| torn(&it))?;
    let status = answer.status();
    let body = match Limited::new(answer.into_body(), bounds::CALL_BYTES).collect().await {
        Ok(all) => all.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large("the answer", bounds::CALL_BYTES as u64)),
        Err(error) => return Err(torn(&error)),
    };
    connection.abort();
    if status.is_success() {
        return Ok(json(status, body));
    }
    Err(refused(&format!("{service}.{method}"), status, &body))
}

fn json(status: StatusCode, body: Bytes) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What the base says when it cannot give a worker's answer.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: String,
    message: String,
}

/// The base's refusal in the API's form.
fn refused(target: &str, status: StatusCode, body: &[u8]) -> ApiError {
    if status == StatusCode::UNPROCESSABLE_ENTITY {
        // The method's own error, as it is.
        let error = String::from_utf8_lossy(body);
        return ApiError::new(
            ErrorCode::Failed,
            Blame::Module,
            format!("{target} answered with its own error: {error}"),
        );
    }
    let said = serde_json::from_slice::<Refusal>(body)
        .unwrap_or_else(|_| Refusal { error: String::new(), message: format!("the base answered {status}") });
    let (code, blame, remedy) = match said.error.as_str() {
        "invalid" => (ErrorCode::Invalid, Blame::Caller, None),
        "no-service" => {
            let remedy = "`mortise status` lists the services that are published.";
            (ErrorCode::NotFound, Blame::Caller, Some(remedy))
        }
        "denied" => (ErrorCode::Denied, Blame::Caller, None),
        "too-large" => (ErrorCode::TooLarge, Blame::Caller, None),
        "not-started" | "draining" | "overloaded" => {
            (ErrorCode::Unavailable, Blame::Host, Some("Nothing was started: call again."))
        }
        "deadline" => {
            (ErrorCode::Deadline, Blame::Module, Some("It may have been executed. Give it longer with --timeout."))
        }
        "maybe-executed" => (ErrorCode::Failed, Blame::Module, Some("`mortise events` says why the worker ended.")),
        _ => match status.as_u16() {
            404 => (ErrorCode::NotFound, Blame::Caller, None),
            503 => (ErrorCode::Unavailable, Blame::Host, None),
            504 => (ErrorCode::Deadline, Blame::Module, None),
            _ => (ErrorCode::Failed, Blame::Host, Some("`mortise logs base` shows what the base says.")),
        },
    };
    let error = ApiError::new(code, blame, said.message);
    match remedy {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
}
