//! The Mortise supervisor as a library: everything that `mortised` and `mortise` are made of.
//!
//! `docs/architecture.md` draws the way of the data through these modules.
#![deny(missing_docs)]

pub mod admin;
pub mod api;
pub mod cgroup;
pub mod cli;
pub mod daemon;
pub mod doctor;
pub mod engine;
mod failpoint;
pub mod host;
pub mod lifecycle;
pub mod logs;
pub mod manifest;
pub mod package;
pub mod resource;
pub mod scaffold;
pub mod spawn;
pub mod store;
