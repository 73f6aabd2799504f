//! The thread that writes the store, so that no fsync is waited for on the loop.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Change, Store, StoreError};
use crate::lifecycle::{CommitId, Event};

/// Between two looks at a disk on which nothing can be read.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The copy of the store is synced so long after the first change that it is behind: nobody waits for it, and a power cut that damages the
/// store as well costs no more than this.
const COPY_WITHIN: Duration = Duration::from_millis(200);

/// Commits in order, on a thread of its own.
#[derive(Debug)]
pub struct StoreWriter {
    orders: Sender<Order>,
    /// Dropped when the writer is closed: ends the wait for a disk that may never come back.
    closing: Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug, PartialEq)]
struct Order {
    commit: CommitId,
    changes: Vec<Change>,
}

impl StoreWriter {
    /// Starts the thread. `answer` is called there with an [`Event::Persisted`] for each commit, in order.
    ///
    /// # Errors
    /// [`StoreError::Disk`] when there is no thread to be had.
    pub fn start(store: Store, answer: impl FnMut(Event) + Send + 'static) -> Result<Self, StoreError> {
        let path = store.path().to_owned();
        let (orders, incoming) = channel();
        let (closing, closed) = channel();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write(store, &incoming, &closed, answer))
            .map_err(|error| StoreError::Disk { what: "start the thread for", path, problem: error.to_string() })?;
        Ok(Self { orders, closing, thread })
    }

    /// Commits these changes after every earlier commit. Does not wait.
    pub fn commit(&self, commit: CommitId, changes: Vec<Change>) {
        // The thread ends only when this sender is gone, or by a panic, which `close` tells.
        let _ = self.orders.send(Order { commit, changes });
    }

    /// Waits until everything is committed and answered, and closes the store. Blocks. A commit of which nobody can say
    /// whether it is on disk gets no answer: the next supervisor finds it or does not.
    pub fn close(self) {
        let Self { orders, closing, thread } = self;
        drop(orders);
        drop(closing);
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn write(mut store: Store, incoming: &Receiver<Order>, closed: &Receiver<()>, mut answer: impl FnMut(Event)) {
    let mut copy_by = store.copy_is_behind().then(Instant::now);
    while let Some(next) = next(incoming, copy_by) {
        let Next::Order(Order { commit, changes }) = next else {
            store.sync_copy();
            copy_by = None;
            continue;
        };
        let result = match store.commit(&changes) {
            Err(StoreError::Unclear { .. }) => match look_until_clear(&mut store, closed) {
                Some(true) => Ok(()),
                Some(false) => Err("the disk refused it".to_owned()),
                None => return,
            },
            other => other.map_err(|error| error.to_string()),
        };
        answer(Event::Persisted { commit, result });
        if store.copy_is_behind() {
            copy_by.get_or_insert_with(|| Instant::now() + COPY_WITHIN);
        }
    }
    store.sync_copy();
}

#[derive(Debug, PartialEq)]
enum Next {
    Order(Order),
    SyncCopy,
}

/// What is to be done next; none: nothing more.
fn next(incoming: &Receiver<Order>, copy_by: Option<Instant>) -> Option<Next> {
    let Some(copy_by) = copy_by else { return incoming.recv().ok().map(Next::Order) };
    let now = Instant::now();
    if copy_by <= now {
        return Some(Next::SyncCopy);
    }
    match incoming.recv_timeout(copy_by - now) {
        Ok(order) => Some(Next::Order(order)),
        Err(RecvTimeoutError::Timeout) => Some(Next::SyncCopy),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Whether the last change is on disk. None: the supervisor stops before anybody knows.
fn look_until_clear(store: &mut Store, closed: &Receiver<()>) -> Option<bool> {
    loop {
        match store.settle() {
            Ok(made) => return Some(made),
            Err(error) => tracing::error!(%error, "nothing is decided until the store can be read again"),
        }
        match closed.recv_timeout(LOOK_AGAIN) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orders as they come in.
    fn orders(count: u64) -> (Sender<Order>, Receiver<Order>) {
        let (orders, incoming) = channel();
        for commit in 0..count {
            orders.send(order(commit)).unwrap();
        }
        (orders, incoming)
    }

    fn order(commit: u64) -> Order {
        Order { commit: CommitId(commit), changes: Vec::new() }
    }

    #[test]
    fn a_copy_that_is_due_is_synced_though_orders_wait() {
        let (_open, incoming) = orders(2);
        let now = Instant::now();
        assert_eq!(next(&incoming, Some(now)), Some(Next::SyncCopy));
        assert_eq!(next(&incoming, None), Some(Next::Order(order(0))), "nothing was taken");
    }

    #[test]
    fn orders_come_first_until_the_copy_is_due() {
        let (_open, incoming) = orders(2);
        let later = Some(Instant::now() + Duration::from_secs(3600));
        assert_eq!(next(&incoming, later), Some(Next::Order(order(0))));
        assert_eq!(next(&incoming, later), Some(Next::Order(order(1))));
    }

    #[test]
    fn a_copy_is_synced_without_any_other_order() {
        let (_open, incoming) = orders(0);
        let due = Instant::now() + Duration::from_millis(1);
        assert_eq!(next(&incoming, Some(due)), Some(Next::SyncCopy));
        assert!(Instant::now() >= due);
    }

    #[test]
    fn the_last_orders_are_taken_before_the_end() {
        let (open, incoming) = orders(1);
        drop(open);
        let later = Some(Instant::now() + Duration::from_secs(3600));
        assert_eq!(next(&incoming, later), Some(Next::Order(order(0))));
        assert_eq!(next(&incoming, later), None);
    }
}
