//! `step` against a simulated host that obeys its actions: named scenarios, and random ones with faults.

mod chance;
mod faults;
mod host;
mod lifecycle;
mod process;
mod random;
mod world;
