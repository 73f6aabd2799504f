//! The worker SDK: publish services, call services, serve HTTP inside a Mortise worker.
//!
//! ```no_run
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Debug, Serialize, Deserialize)]
//! # pub struct SpellError;
//! use module_runtime::{Resource, Worker};
//!
//! #[module_runtime::service(name = "spell", error = SpellError)]
//! pub trait Spell {
//!     /// Those words that are not in the dictionary.
//!     #[idempotent]
//!     async fn check(&self, words: Vec<String>) -> Result<Vec<String>, SpellError>;
//! }
//!
//! struct Checker(Resource);
//!
//! impl Spell for Checker {
//!     async fn check(&self, words: Vec<String>) -> Result<Vec<String>, SpellError> {
//!         let known = |word: &String| self.0.split(|b| *b == b'\n').any(|it| it == word.as_bytes());
//!         Ok(words.into_iter().filter(|it| !known(it)).collect())
//!     }
//! }
//!
//! #[module_runtime::main]
//! async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
//!     let words = worker.resource("words")?;
//!     worker.serve(SpellServer::new(Checker(words))).run().await
//! }
//! ```
//! A caller has `let spell: SpellClient = worker.client();` and then `spell.check(words).await`. An axum application becomes a
//! module by `module_runtime::http::serve(worker, router).await`. [`testing`] runs all of it without a supervisor.
//!
//! The way through the files: `entry` is the process's life, `boot` what it was started with, `control` the connection to the
//! supervisor, `worker` the state behind it, `call` both sides of a typed call, `shadow` what is compared with a version beside,
//! `schema` the fingerprint of a service, `http`, `log`, `figures` and `resource` what their names say, `base` what only the base needs.
#![deny(missing_docs)]

extern crate self as module_runtime;

mod base;
mod boot;
mod call;
mod control;
mod entry;
mod error;
mod figures;
pub mod http;
mod log;
mod resource;
mod schema;
mod shadow;
pub mod testing;
mod worker;

pub use base::{Base, HttpFigures, HttpRequestFigure, HttpRoutes, HttpRoutesFeed};
pub use call::{
    CallError, Caller, Context, DEFAULT_TIMEOUT, Failure, GenericClient, Incoming, Method, Repeat, ServiceClient,
    ServiceServer, method_id,
};
pub use error::Error;
/// Makes the program's entry of `async fn main(worker: Worker) -> Result<(), E>` (any `E` that can be displayed).
///
/// The function runs when the supervisor has accepted the worker: resources are there. It usually ends with
/// [`Serving::run`], and the process ends when it returns: exit code 0, or 1 with the error in the log; an error before the
/// worker was ready is told to the supervisor as the reason why it never will be.
///
/// `#[main]` runs everything in **one thread**: an idle worker has no second one, a call that is answered at once wakes nobody
/// else, and limits on processes can be tight. A method that computes for long keeps others of the same worker waiting: move it
/// into `tokio::task::spawn_blocking`, or write `#[main(flavor = "multi_thread", worker_threads = 2)]`.
///
/// `tracing` events are carried to the supervisor; the configuration value `log` chooses which (`info` by default, in the form
/// of `RUST_LOG`). SIGTERM drains the worker: what is in flight is answered first.
pub use module_runtime_macros::main;
/// Makes a service of a trait: `#[service(name = "spell", error = SpellError)]` on `trait Spell` gives `SpellClient` and
/// `SpellServer`.
///
/// Methods take `&self` and owned values and answer with `Result<T, SpellError>`; they are `async` or plain. Arguments, results
/// and the error are serde values. `#[idempotent]` on a method allows it to be executed more than once for one call, also by a new version on
/// trial, beside the version that answers (`mortise shadow`). A
/// `#[serde(default)]` on an argument lets older callers leave it out.
///
/// The trait and its implementations may move between threads (`Send + Sync + 'static`), and so may the futures of its
/// methods; an implementation writes `async fn` all the same.
///
/// Two versions of a service understand each other as long as serde can: when their schemas differ, messages carry fields by
/// name, unknown ones are ignored, missing ones take their default or are refused with their name.
pub use module_runtime_macros::service;
pub use mortise_control::{
    HttpReach, HttpRoute, HttpTarget, InvalidName, ModuleName, PeerInfo, ResourceName, ServiceName, TenantName,
    WorkerId,
};
pub use resource::Resource;
pub use schema::NO_FINGERPRINT;
pub use shm_rpc::{Deadline, Started, Tags, Trace};
pub use worker::{Serving, StateWriter, Worker};

/// What generated code uses. Not for people.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::entry::{Flavor, run};
    pub use crate::schema::Schema;
}
