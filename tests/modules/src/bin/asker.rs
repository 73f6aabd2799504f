//! The module `asker`: for each request it has a text checked and stored by `trial`; answers with what that said.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use module_runtime::Worker;
use mortise_test_modules::TrialClient;

async fn ask(State(trial): State<TrialClient>) -> Result<String, (StatusCode, String)> {
    let failed = |error: &dyn std::fmt::Display| (StatusCode::BAD_GATEWAY, error.to_string());
    let words = trial.check("the white wale".to_owned()).await.map_err(|it| failed(&it))?;
    let stored = trial.store("the white wale".to_owned()).await.map_err(|it| failed(&it))?;
    let suggested = words.iter().filter(|it| it.suggestion.is_some()).count();
    Ok(format!("{} words, {suggested} suggestions, {stored} stored", words.len()))
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let trial: TrialClient = worker.client();
    module_runtime::http::serve(worker, Router::new().route("/asker", get(ask)).with_state(trial)).await
}
