//! The module `visits`: counts its visitors' visits, and lets no client come more often than the base's limiter says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use example_custom_base::{LimiterClient, Rate, Taken};
use module_runtime::{Error, Worker};

/// Three at once, then one every two seconds.
const RATE: Rate = Rate { burst: 3, per_second: 0.5 };

#[derive(Clone)]
struct Visits {
    limiter: LimiterClient,
    count: Arc<AtomicU64>,
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), Error> {
    let visits = Visits { limiter: worker.client(), count: Arc::default() };
    let application = Router::new().route("/visits", get(visit)).with_state(visits);
    module_runtime::http::serve(worker, application).await
}

async fn visit(State(visits): State<Visits>, headers: HeaderMap) -> Response {
    // Set by the base, which believes nobody else.
    let client = headers.get("x-forwarded-for").and_then(|it| it.to_str().ok()).unwrap_or("unknown");
    match visits.limiter.take(format!("visits/{client}"), RATE).await {
        Ok(Taken::Yes { left }) => {
            let number = visits.count.fetch_add(1, Relaxed) + 1;
            format!("visit {number}; {left} more at once\n").into_response()
        }
        Ok(Taken::No { retry_after_ms }) => {
            let seconds = retry_after_ms.div_ceil(1000).to_string();
            let text = format!("too often; again in {seconds} s\n");
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds)], text).into_response()
        }
        Err(error) => {
            let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, format!("the limiter: {error}\n")).into_response()
        }
    }
}
