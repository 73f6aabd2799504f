//! A base of one's own: the stock base, a rate limiter that every module can call, and a page that says how it does.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use example_custom_base::{LimiterServer, SharedBuckets};
use module_runtime::{Error, Worker};
use mortise_base::Base;

#[module_runtime::main(flavor = "multi_thread", worker_threads = 2)]
async fn main(worker: Worker) -> Result<(), Error> {
    let buckets = Arc::new(SharedBuckets::new(100_000));
    let shown = Arc::clone(&buckets);
    let page = Router::new().route("/limits", get(async move || format!("{} buckets are not full\n", shown.len())));
    Base::new().serve(LimiterServer::new(buckets)).handle("/limits", page).run(worker).await
}
