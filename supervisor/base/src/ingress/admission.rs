//! How many requests are in flight at all, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};
use std::time::Instant;

use crate::figures::{Figures, Outcome};

/// The requests in flight.
#[derive(Debug)]
pub(crate) struct Admission {
    in_flight: AtomicUsize,
    most: usize,
    figures: Arc<dyn Figures>,
}

/// A request in flight. Dropped, it has been answered, unless [`Admitted::failed`] says otherwise.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    begun: Instant,
    outcome: Outcome,
}

impl Admission {
    pub(crate) fn new(most: usize, figures: Arc<dyn Figures>) -> Self {
        Self { in_flight: AtomicUsize::new(0), most, figures }
    }

    /// Counts a request in; none if there are too many.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let room = |now: usize| (now < self.most).then_some(now + 1);
        self.in_flight.fetch_update(AcqRel, Acquire, room).ok()?;
        self.figures.begun();
        Some(Admitted { admission: Arc::clone(self), begun: Instant::now(), outcome: Outcome::Answered })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Acquire)
    }
}

impl Admitted {
    /// It ends in an error.
    pub(crate) fn failed(mut self) {
        self.outcome = Outcome::Failed;
    }

    /// What it will have ended in.
    pub(crate) fn set(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.in_flight.fetch_sub(1, AcqRel);
        self.admission.figures.ended(self.outcome, self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<&'static str>>);

    impl Figures for Seen {
        fn begun(&self) {
            self.0.lock().unwrap().push("begun");
        }

        fn ended(&self, outcome: Outcome, _: Duration) {
            self.0.lock().unwrap().push(if outcome == Outcome::Failed { "failed" } else { "answered" });
        }
    }

    #[test]
    fn no_more_than_the_limit_and_each_is_counted() {
        let seen = Arc::new(Seen::default());
        let admission = Arc::new(Admission::new(2, Arc::clone(&seen) as _));
        let (a, b) = (admission.admit().unwrap(), admission.admit().unwrap());
        assert!(admission.admit().is_none());
        drop(a);
        b.failed();
        assert_eq!(admission.in_flight(), 0);
        assert!(admission.admit().is_some());
        assert_eq!(*seen.0.lock().unwrap(), ["begun", "begun", "answered", "failed", "begun", "answered"]);
    }
}
