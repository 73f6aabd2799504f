//! The performing half of the supervisor: one loop that owns the state, lets `lifecycle::step` decide, and performs.
//!
//! ```text
//!   EngineHandle ──Submission──▶ ┌──────┐ ◀──Event── control, logs, spawn, cgroup, store, resource, timers
//!        ▲                       │ loop │
//!        └── Published ◀──────── └──────┘ ──Action──▶ the same performers
//! ```

mod events;
mod handle;

pub use events::{EventLog, Following};
pub use handle::{EngineHandle, Figures, Published, Submission};
