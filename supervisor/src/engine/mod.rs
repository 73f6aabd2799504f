//! The performing half of the supervisor: one loop that owns the state, lets `lifecycle::step` decide, and performs.
//!
//! ```text
//!   EngineHandle ──Submission──▶ ┌──────┐ ◀──Event── control, logs, spawn, cgroup, store, resource, timers
//!        ▲                       │ loop │
//!        └── Published ◀──────── └──────┘ ──Action──▶ the same performers
//! ```
//!
//! `turn.rs` is the loop, `perform.rs` what an action does. `workers.rs`, `control/`, `channels.rs`, `states.rs`, `pages.rs`,
//! `resources.rs` and `requests.rs` are the performers; whatever may block is done off the loop and reports back. `publish.rs` shows the outcome.

mod channels;
mod clock;
mod control;
mod events;
mod figures;
mod handle;
mod pages;
mod perform;
mod publish;
mod report;
mod requests;
mod resources;
mod start;
mod states;
mod timers;
mod turn;
mod workers;

pub use events::{EventLog, Following};
pub use handle::{EngineHandle, Figures, Published, Submission};
pub use report::Controls;
pub(crate) use resources::GROUP_PREFIX as RESOURCE_GROUP_PREFIX;
pub use start::{Engine, Parts};
