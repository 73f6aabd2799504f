//! The base.
#![deny(missing_docs)]

mod figures;
mod ingress;
mod refusal;

pub use ingress::{Forwarded, HandlerBody, Limits};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
