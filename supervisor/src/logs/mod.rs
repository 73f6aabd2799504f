//! What workers print: FIFO → bounded lines → a ring per module, a file per module, and whoever follows.
//!
//! ```text
//!   stdout ──▶ LineSplitter ─┐                          ┌─▶ LogStore (memory, followers)
//!                            ├─▶ rate limit ─▶ LogLine ─┤
//!   stderr ──▶ LineSplitter ─┘   (per worker)           └─▶ Mirror (nothing, tracing, files)
//! ```
//! A worker's output is hostile: endless lines, control characters, floods. The splitter bounds the lines,
//! the rate limit bounds how many of them are kept, and what is dropped is counted and said.

mod reader;
mod sink;
mod store;

pub use reader::{LogSource, WorkerOutput};
pub use sink::{FileMirror, LogSink, Mirror};
pub use store::LogStore;
