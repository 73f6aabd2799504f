//! `GET /metrics`: the snapshot in Prometheus' form. Nothing is counted here, so nothing is lost when the supervisor restarts.

mod families;

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

use super::{Access, Caller, Shared};
use crate::api::{ApiError, Blame, ErrorCode, Snapshot};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The state and the figures of everything, in the Prometheus text format, or in OpenMetrics for those who accept it.
#[utoipa::path(get, path = "/metrics", tag = "host", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn scrape(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.may(Access::ReadAll)?;
    let accepted = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let format =
        if accepted.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus };
    let text = render(shared.api.handle.snapshot().await, format).map_err(|error| {
        ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("the metrics could not be written: {error}"))
    })?;
    let content_type = match format {
        Format::Prometheus => prometheus_text::CONTENT_TYPE,
        Format::OpenMetrics => OPEN_METRICS,
    };
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Prometheus,
    OpenMetrics,
}

fn render(snapshot: Arc<Snapshot>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("mortise");
    registry.register_collector(Box::new(View(snapshot)));
    let mut out = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut out, &registry)?,
        Format::OpenMetrics => text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

#[derive(Debug)]
struct View(Arc<Snapshot>);

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        families::of(&self.0).iter().try_for_each(|it| it.encode(&mut encoder))
    }
}

#[cfg(test)]
mod tests;
