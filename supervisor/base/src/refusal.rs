//! Every answer that the base gives by itself when it cannot give a worker's.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

/// Why there is no answer of a worker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The head is too large.
    #[error("the request line and headers are larger than the {0} bytes allowed")]
    HeadTooLarge(usize),
    /// The body is too large.
    #[error("a body of more than the {0} bytes allowed")]
    TooLarge(u64),
    /// The client was too slow.
    #[error("{0}")]
    TooSlow(&'static str),
    /// The expectation cannot be met.
    #[error("the only expectation that is met is 100-continue")]
    Expectation,
    /// A method, or a protocol to change to, that the ingress does not carry.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// Nothing is routed there.
    #[error("{0}")]
    NoRoute(String),
    /// Nobody answers a service that is called by name.
    #[error("{0}")]
    NoService(String),
    /// The caller may not do this.
    #[error("{0}")]
    Denied(String),
    /// Nobody answers at the moment; nothing was started.
    #[error("{0}")]
    NotStarted(String),
    /// Whoever would answer is ending; nothing was started.
    #[error("{0}")]
    Draining(String),
    /// Too much is under way; nothing was started.
    #[error("{0}")]
    Overloaded(String),
    /// The worker got the request and was lost with it.
    #[error("{0}; the request may have been executed")]
    MaybeExecuted(String),
    /// No answer in time.
    #[error("{0}")]
    Deadline(String),
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

/// The answer's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Text,
}

#[derive(Serialize)]
struct Shape<'a> {
    error: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl Refusal {
    /// For programs.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::HeadTooLarge(_) => "head-too-large",
            Self::TooLarge(_) => "too-large",
            Self::TooSlow(_) => "too-slow",
            Self::Expectation => "expectation-failed",
            Self::NotImplemented(_) => "not-implemented",
            Self::NoRoute(_) => "no-route",
            Self::NoService(_) => "no-service",
            Self::Denied(_) => "denied",
            Self::NotStarted(_) => "not-started",
            Self::Draining(_) => "draining",
            Self::Overloaded(_) => "overloaded",
            Self::MaybeExecuted(_) => "maybe-executed",
            Self::Deadline(_) => "deadline",
            Self::Internal(_) => "internal",
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::NoRoute(_) => StatusCode::NOT_FOUND,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::NoService(_) | Self::NotStarted(_) | Self::Draining(_) | Self::Overloaded(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::MaybeExecuted(_) => StatusCode::BAD_GATEWAY,
            Self::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the connection cannot be used for another request: what is left on it is not understood, or is not to be read.
    const fn ends_connection(&self) -> bool {
        matches!(self, Self::HeadTooLarge(_) | Self::TooLarge(_) | Self::TooSlow(_))
    }

    pub(crate) fn response(&self, form: Form, request_id: Option<&HeaderValue>) -> Response<Full<Bytes>> {
        let message = self.to_string();
        let request_id = request_id.and_then(|it| it.to_str().ok());
        let (kind, body) = match form {
            Form::Json => {
                let shape = Shape { error: self.code(), message: &message, request_id };
                let mut body = serde_json::to_vec(&shape).unwrap_or_default();
                body.push(b'\n');
                ("application/json", body)
            }
            Form::Text => ("text/plain; charset=utf-8", format!("{}: {message}\n", self.code()).into_bytes()),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.ends_connection() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl Form {
    /// What the client names first: people's browsers begin with `text/html`, programs name JSON or nothing.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let place = |kind: &str| accept.find(kind).unwrap_or(usize::MAX);
        if place("text/") < place("application/json") { Self::Text } else { Self::Json }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_accept() {
        let form = |accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            Form::wanted(&headers)
        };
        assert_eq!(form(None), Form::Json);
        assert_eq!(form(Some("*/*")), Form::Json);
        assert_eq!(form(Some("application/json, text/plain")), Form::Json);
        assert_eq!(form(Some("text/html,application/xhtml+xml,*/*;q=0.8")), Form::Text);
    }

    #[test]
    fn what_was_not_started_says_when_to_come_again() {
        let response = |it: Refusal| it.response(Form::Json, None);
        for it in [Refusal::NotStarted("x".into()), Refusal::Draining("x".into()), Refusal::Overloaded("x".into())] {
            let response = response(it);
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        }
        let lost = response(Refusal::MaybeExecuted("x".into()));
        assert_eq!((lost.status().as_u16(), lost.headers().get(header::RETRY_AFTER)), (502, None));
        assert_eq!(response(Refusal::Deadline("x".into())).status(), 504);
        assert_eq!(response(Refusal::TooLarge(1)).status(), 413);
    }
}
