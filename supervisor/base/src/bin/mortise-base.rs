//! The stock base: HTTP ingress and calls by name, without base services.

use module_runtime::{Error, Worker};
use mortise_base::Base;

#[module_runtime::main(flavor = "multi_thread", worker_threads = 2)]
async fn main(worker: Worker) -> Result<(), Error> {
    Base::new().run(worker).await
}
