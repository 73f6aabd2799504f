//! The system calls that a worker may make.
//!
//! ```text
//!   policy.rs   what is allowed, by name            ─┐
//!   filter.rs   ranges of equal answers, as a tree  ─┴─▶ a classic BPF program in the plan; init loads it
//! ```
//!
//! Own code and not `seccompiler`, which compares one number after the other: with 330 allowed calls that costs 700 instructions
//! on the slowest path and 0.76 ms to load and verify; the tree has about nine comparisons on every path and loads in a sixth of that.

mod filter;
mod policy;

use std::sync::LazyLock;

/// The program for every worker, as bytes for [`mortise_control::plan::Step::Seccomp`].
pub(super) fn filter() -> Vec<u8> {
    static FILTER: LazyLock<Vec<u8>> = LazyLock::new(|| filter::encode(&filter::compile(policy::answer)));
    FILTER.clone()
}
