//! The supervisor's end of the workers' control sockets: one task per worker, which listens, checks who connects, reads.
//!
//! ```text
//!   control.sock ──accept──▶ who is it? ──▶ one connection ──▶ packets ──budget──▶ Inbound ──▶ loop
//!    (listener)             uid, cgroup        │    ▲
//!                                              │    └── a newer one takes its place
//!   loop ──Outgoing──▶ sent at once, or a bounded queue ──▶ the worker
//! ```
//!
//! Every byte is hostile. A packet that is no message or part of one, and a message that is too large, end the connection. A worker that sends faster than its budget
//! is read more slowly: its packets wait in its own socket buffer, and the channel to the loop is shared fairly, one packet of
//! each worker at a time. Nobody waits for a worker that does not read.

mod budget;
mod outgoing;
mod peer;
mod task;
mod watched;

pub(super) use outgoing::{Message, Outgoing};
pub(super) use peer::Identity;
pub(super) use task::{Control, Inbound, listen};

#[cfg(test)]
mod tests;
