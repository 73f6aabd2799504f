//! `step` against a simulated host that obeys its actions: named scenarios, and random ones with faults.

mod beside;
mod chance;
mod crashes;
mod groups;
mod handovers;
mod host;
mod hostile;
mod instances;
mod lifecycle;
mod limits;
mod page;
mod platform;
mod process;
mod random;
mod returns;
mod rollbacks;
mod rollouts;
mod routes;
mod scale;
mod shadow;
mod sharing;
mod storage;
mod swaps;
mod tenants;
mod world;
