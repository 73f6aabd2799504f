//! The module `front`: answers requests with the versions of itself, of the `relay` that it calls, and of the `unruly` that that calls.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use module_runtime::Worker;
use mortise_test_modules::RelayClient;

async fn front(State((version, relay)): State<(String, RelayClient)>) -> Result<String, (StatusCode, String)> {
    let passed = relay.pass().await.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
    Ok(format!("{version} {} {}", passed.relay, passed.unruly))
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let state = (worker.version().to_string(), worker.client());
    module_runtime::http::serve(worker, Router::new().route("/front", get(front)).with_state(state)).await
}
