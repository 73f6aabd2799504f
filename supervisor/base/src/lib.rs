//! The base: HTTP ingress and base services, embeddable.
//!
//! The base is a worker like others, run by the supervisor without privileges. It has the listeners for clients, knows where requests
//! go, and is the only client of the workers' HTTP sockets. Its end interrupts the ingress and never calls between modules.
//!
//! The stock base (`mortise-base`) is this library and nothing else. A base of one's own adds services that modules call like any
//! other, kept warm in the process that is always there, and HTTP pages:
//!
//! ```no_run
//! use module_runtime::Worker;
//! use mortise_base::Base;
//! # #[derive(Debug, serde::Serialize, serde::Deserialize)]
//! # pub struct ClockError;
//!
//! #[module_runtime::service(name = "clock", error = ClockError)]
//! pub trait Clock {
//!     fn uptime_seconds(&self) -> Result<u64, ClockError>;
//! }
//!
//! struct Started(std::time::Instant);
//!
//! impl Clock for Started {
//!     fn uptime_seconds(&self) -> Result<u64, ClockError> {
//!         Ok(self.0.elapsed().as_secs())
//!     }
//! }
//!
//! #[module_runtime::main]
//! async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
//!     Base::new().serve(ClockServer::new(Started(std::time::Instant::now()))).run(worker).await
//! }
//! ```
//! Its module.toml says `runtime = "base"` and provides `clock`; `mortised --base FOLDER` starts it.
//!
//! The way through the files: `base` puts the parts together, `ingress` is the way of an HTTP request, `invoke` the calls by name
//! of `mortise call`, `refusal` every answer that the base gives by itself, `settings` what an operator may configure.
#![deny(missing_docs)]

mod base;
mod ingress;
mod invoke;
mod refusal;
mod settings;

pub use base::Base;
pub use ingress::{Forwarded, HandlerBody, Limits};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
