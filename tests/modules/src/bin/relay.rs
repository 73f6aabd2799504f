//! The module `relay`: answers with its version and that of the `unruly` that it has called for the answer.

use module_runtime::Worker;
use mortise_test_modules::{Passed, Refused, Relay, RelayServer, UnrulyClient};

struct Module {
    version: String,
    unruly: UnrulyClient,
}

impl Relay for Module {
    async fn pass(&self) -> Result<Passed, Refused> {
        let echo =
            self.unruly.echo("passed on".to_owned()).await.map_err(|error| Refused { why: error.to_string() })?;
        Ok(Passed { relay: self.version.clone(), unruly: echo.version })
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let module = Module { version: worker.version().to_string(), unruly: worker.client() };
    worker.serve(RelayServer::new(module)).run().await
}
