//! The module `recorder`: writes each call's id into the ledger, then answers with its version; by calls and over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use module_runtime::Worker;
use mortise_test_modules::ledger::Ledger;
use mortise_test_modules::{Recorder, RecorderServer, Refused};

struct Module {
    version: String,
    ledger: Ledger,
}

impl Module {
    fn write_down(&self, id: u64) -> Result<String, String> {
        self.ledger.executed(id, &self.version).map_err(|error| format!("the ledger: {error}"))?;
        Ok(self.version.clone())
    }
}

struct ByCalls(Arc<Module>);

impl Recorder for ByCalls {
    fn record(&self, id: u64) -> Result<String, Refused> {
        self.0.write_down(id).map_err(|why| Refused { why })
    }
}

async fn over_http(State(module): State<Arc<Module>>, Path(id): Path<u64>) -> Result<String, (StatusCode, String)> {
    module.write_down(id).map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why))
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let ledger = Ledger::open().map_err(|error| module_runtime::Error::other(format!("the ledger: {error}")))?;
    let module = Arc::new(Module { version: worker.version().to_string(), ledger });
    let http = Router::new().route("/record/{id}", post(over_http)).with_state(Arc::clone(&module));
    // A module.toml may offer any number of services over HTTP, and this one not.
    let serving = match worker.configuration("only-http") {
        None => worker.serve(RecorderServer::new(ByCalls(module))),
        Some(_) => worker.serving(),
    };
    serving.http(http).run().await
}
