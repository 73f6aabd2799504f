//! The event log: every lifecycle step with its reason, kept in memory by number and sent to whoever follows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::api;

/// How many events are kept for readers that come late.
const KEPT: usize = 4096;

/// How far a follower may fall behind before it is told that it missed some.
const FOLLOWER_LAG: usize = 1024;

/// Lifecycle events, the latest of them.
#[derive(Debug)]
pub struct EventLog {
    kept: Mutex<Kept>,
    followers: broadcast::Sender<Arc<api::Event>>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    events: VecDeque<Arc<api::Event>>,
}

/// What a follower starts with, and what comes after it, without a gap and without a repetition.
#[derive(Debug)]
pub struct Following<T> {
    /// What was there already, oldest first.
    pub past: Vec<Arc<T>>,
    /// What comes. `Lagged(n)` says that `n` were missed because the follower was slow.
    pub coming: broadcast::Receiver<Arc<T>>,
}

impl EventLog {
    /// An empty log whose first event gets the number `next`: one more than the last of the supervisor's earlier life.
    #[must_use]
    pub fn starting_at(next: u64) -> Self {
        let (followers, _) = broadcast::channel(FOLLOWER_LAG);
        Self { kept: Mutex::new(Kept { next, events: VecDeque::new() }), followers }
    }

    /// Adds one event; its `seq` is set here. Returns the number.
    pub fn append(&self, mut event: api::Event) -> u64 {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = kept.next;
        event.seq = seq;
        kept.next += 1;
        let event = Arc::new(event);
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // Under the lock, so that a follower that subscribes sees each event exactly once. No receiver is no error.
        let _ = self.followers.send(event);
        seq
    }

    /// The kept events with a number of `seq` or more, oldest first.
    #[must_use]
    pub fn since(&self, seq: u64) -> Vec<Arc<api::Event>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.events.iter().filter(|it| it.seq >= seq).cloned().collect()
    }

    /// The number that the next event will get.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).next
    }

    /// The kept events from `seq` on, and all that come after.
    #[must_use]
    pub fn follow(&self, seq: u64) -> Following<api::Event> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let past = kept.events.iter().filter(|it| it.seq >= seq).cloned().collect();
        Following { past, coming: self.followers.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> api::Event {
        api::Event {
            seq: 0,
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: api::EventKind::Supervisor,
            tenant: None,
            module: None,
            version: None,
            worker: None,
            operation: None,
            text: text.into(),
        }
    }

    #[test]
    fn numbers_go_on_where_the_last_life_ended() {
        let log = EventLog::starting_at(7);
        assert_eq!(log.append(event("a")), 7);
        assert_eq!(log.append(event("b")), 8);
        assert_eq!(log.since(8).iter().map(|it| it.text.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let log = EventLog::starting_at(0);
        for n in 0..KEPT as u64 + 3 {
            log.append(event(&n.to_string()));
        }
        let kept = log.since(0);
        assert_eq!((kept.len(), kept[0].seq), (KEPT, 3));
    }

    #[test]
    fn a_follower_sees_each_event_once() {
        let log = EventLog::starting_at(0);
        log.append(event("past"));
        let mut following = log.follow(0);
        log.append(event("coming"));
        assert_eq!(following.past.len(), 1);
        assert_eq!(following.coming.try_recv().unwrap().text, "coming");
        assert!(following.coming.try_recv().is_err());
    }
}
