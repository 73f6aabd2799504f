//! The state that `step` works on.

use crate::api::Snapshot;
use crate::lifecycle::{Action, Config, Event, Now};
use crate::store::Records;

/// Everything the supervisor knows and wants. Owned by the engine's loop alone.
#[derive(Debug)]
pub struct State {
    #[expect(dead_code, reason = "the rules that read it follow")]
    config: Config,
}

impl State {
    /// The state of a host with this store, and what is to be done first: workers that may still live are adopted,
    /// operations that were under way go on, desired modules start. An empty store gives an empty state.
    #[must_use]
    pub fn restore(config: Config, records: Records, now: &Now) -> (Self, Vec<Action>) {
        let _ = (records, now);
        (Self { config }, Vec::new())
    }

    /// Takes one event and says what is to be done. Never fails: what an event asks in vain is answered by actions.
    #[must_use]
    pub fn step(&mut self, event: Event, now: &Now) -> Vec<Action> {
        let _ = (event, now);
        Vec::new()
    }

    /// What the admin API shows, without the figures that only the engine has (memory, CPU, calls, the host).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}
