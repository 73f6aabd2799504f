//! The command `mortise`: the admin API for people and scripts.
//!
//! ```text
//! arguments ──▶ command (one file each) ──client──▶ admin API        pack, check, schema, new: local work
//!                   │                                                 doctor: local when no supervisor answers
//!                   ▼
//!               screen (tables, colour, progress; only on a terminal) or JSON
//! ```
//!
//! Exit codes: 0 done; 1 the operation failed; 2 the command line is wrong; 3 no supervisor answers; the others are those of
//! [`ErrorCode::exit_code`](crate::api::ErrorCode::exit_code).

mod arguments;
mod target;

pub use arguments::Arguments;
