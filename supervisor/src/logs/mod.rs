//! What workers print: FIFO → bounded lines → a ring per module, a file per module, and whoever follows.
//!
//! A worker's output is hostile: endless lines, control characters, floods. The splitter bounds the lines,
//! the rate limit bounds how many of them are kept, and what is dropped is counted and said.

mod store;

pub use store::LogStore;
