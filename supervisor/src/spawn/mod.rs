//! Starting, finding and ending workers.
//!
//! ```text
//!   WorkerSpec ──plan()──▶ Plan ─┐
//!        │                       ├─ memfds ──▶ one permanent thread: clone3 ──▶ mortise-init ──▶ program
//!        └── groups, run folder ─┘                                    status pipe ◀──┘
//! ```

mod error;
mod process;
mod spawner;
mod spec;

pub use error::SpawnError;
pub use process::Process;
pub use spawner::{Adopted, Config, Recorded, RemoveBusy, Running, Spawner};
pub use spec::{Inherited, Program, Serve, WorkerSpec};
