//! A worker that wants to do harm, beside two that do their work: what it cannot do to them, to the supervisor and to the host.
//!
//! ```text
//!   Scene: mortised ── unruly ◀── load (calls without a pause)         the victims
//!                  └── attacker ATTACK                                 tests/modules/src/bin/attacker
//! ```
//! Every test ends with [`Scene::end`]: no call of the victims has failed, neither was started again, the supervisor has the
//! descriptors and about the memory that it had before, and nothing of the attacker is left on the host. `docs/threat-model.md` has
//! the table of attacks and defences that these tests belong to. `cargo xtask test --only hostile` runs them.

mod bombs;
mod channels;
mod lives;
mod output;
mod packages;
mod scene;
mod view;
