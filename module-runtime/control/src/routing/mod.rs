//! Which version of a module answers a call: the rules of a service's route. Pure, and the same for the SDK (calls) and the base (HTTP).
//!
//! ```text
//!   TOML ──▶ [`RouteFile`] ──[`Routes::check`]──▶ [`Routes`] ──[`Route::rules_of_calls`], [`Route::rules_of_requests`]──▶ [`Rule`]s
//!                                                                                          [`choose`] ◀── a call's tags, a request's head
//! ```
//!
//! A route is advice, as every route is: what is enforced is the grant behind a channel. Everything here is bounded, so that a file of a
//! tenant's costs no caller more than a few comparisons for each call.

mod check;
mod choose;
mod file;
mod rule;
pub mod tags;

#[cfg(test)]
mod tests;

pub use check::{Fault, Routes};
pub use choose::{Asked, HttpHead, choose, cookie, tags_of};
pub use file::{MatchFile, RouteFile, RuleFile, ServiceFile, ShareFile, StickyFile, TagFile};
pub use rule::{HttpMatch, Key, Match, Route, Rule, Share, TagSource, TagValue};
