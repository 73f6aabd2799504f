//! The thread that writes the store, so that no fsync is waited for on the loop.

use super::{Change, Store, StoreError};
use crate::lifecycle::{CommitId, Event};

/// Commits in order, on a thread of its own.
#[derive(Debug)]
pub struct StoreWriter {}

impl StoreWriter {
    /// Starts the thread. `answer` is called there with an [`Event::Persisted`] for each commit, in order.
    ///
    /// # Errors
    /// [`StoreError::Disk`] when there is no thread to be had.
    pub fn start(store: Store, answer: impl FnMut(Event) + Send + 'static) -> Result<Self, StoreError> {
        let _ = (store, answer);
        unimplemented!()
    }

    /// Commits these changes after every earlier commit. Does not wait.
    pub fn commit(&self, commit: CommitId, changes: Vec<Change>) {
        let _ = (commit, changes);
        unimplemented!()
    }

    /// Waits until everything is committed and answered, and closes the store. Blocks.
    pub fn close(self) {
        unimplemented!()
    }
}
