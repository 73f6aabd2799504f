//! Starting, finding and ending workers.
//!
//! ```text
//!   WorkerSpec ──plan()──▶ Plan ─┐
//!        │                       ├─ memfds ──▶ one permanent thread: clone3 ──▶ mortise-init ──▶ program
//!        └── groups, run folder ─┘                                    status pipe ◀──┘
//! ```

mod clone;
mod error;
mod memfd;
pub(crate) mod pidfd;
mod process;
mod run_folder;
mod sandbox;
mod seccomp;
mod spawner;
mod spec;
mod start;
mod stat;
mod strangers;
#[cfg(test)]
mod tests;
mod thread;

pub use error::SpawnError;
pub use process::Process;
pub use spawner::{Adopted, Config, Recorded, RemoveBusy, Running, Spawner};
pub use spec::{Inherited, Program, Serve, WorkerSpec};
pub(crate) use strangers::collect as collect_strangers;
