//! Typed calls: what a client does to get an answer, what a server does to give one.
//!
//! ```text
//!   caller                                                    callee
//!   SpellClient (generated)                                   SpellServer (generated)
//!     Caller: options, retries ── routes: pick a target          ▲ service: ServiceServer::answer
//!        │                                                    Incoming: decode, context, panics, figures
//!        ▼                                                       │
//!   shm_rpc::Client ═════════════ one channel ═══════════▶ shm_rpc::Server
//! ```

mod caller;
mod context;
mod error;
mod generic;
mod incoming;
mod json;
mod method;
mod options;
pub(crate) mod routes;
mod service;

pub use caller::Caller;
pub use context::Context;
pub(crate) use context::{random, random_id};
pub use error::{CallError, Failure};
pub use generic::GenericClient;
pub use incoming::Incoming;
pub(crate) use incoming::{Source, caught};
pub use method::{Method, Repeat, method_id};
pub use options::DEFAULT_TIMEOUT;
pub use service::{ServiceClient, ServiceServer};

#[cfg(test)]
mod tests;
