//! What workers print: FIFO → bounded lines → a ring per module, a file per module, and whoever follows.
//!
//! ```text
//!   stdout ──▶ split ─┐                               ┌─▶ LogStore (memory, followers)
//!                     ├─▶ WorkerLog: limit ─▶ LogLine ┤
//!   stderr ──▶ split ─┘   and the latest lines        └─▶ Mirror (nothing, tracing, files)
//! ```
//! A worker's output is hostile: endless lines, control characters, floods. The splitter bounds the lines, the rate limits of the
//! worker and of its tenant bound how many of them are kept, what is dropped is counted and said, and who writes faster than anybody could want waits at a
//! full FIFO.

mod files;
mod limit;
mod quota;
mod reader;
mod sink;
mod split;
mod store;
mod text;
mod worker;

pub use files::FileMirror;
pub use reader::WorkerOutput;
pub use sink::{LogSink, Mirror};
pub use store::LogStore;
pub use worker::LogSource;
