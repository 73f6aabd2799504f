//! What the demo and the whole-system tests share: the programs that were built, the module folders, and a running `mortised`.

pub mod artifacts;
pub mod command;
pub mod daemon;
pub mod kills;
pub mod ledger;
pub mod requests;
pub mod tour;

/// Why a command ended early, for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
