//! How many requests are in flight at all, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel, Ordering::Acquire};

use module_runtime::{HttpFigures, HttpRequestFigure};

/// The requests in flight.
#[derive(Debug)]
pub(crate) struct Admission {
    in_flight: AtomicUsize,
    most: usize,
    figures: Option<HttpFigures>,
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    figure: Option<HttpRequestFigure>,
}

impl Admission {
    pub(crate) fn new(most: usize, figures: Option<HttpFigures>) -> Self {
        Self { in_flight: AtomicUsize::new(0), most, figures }
    }

    /// Counts a request in; none if there are too many.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let room = |now: usize| (now < self.most).then_some(now + 1);
        self.in_flight.fetch_update(AcqRel, Acquire, room).ok()?;
        let figure = self.figures.as_ref().map(HttpFigures::begin);
        Some(Admitted { admission: Arc::clone(self), figure })
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Acquire)
    }
}

impl Admitted {
    /// It ends, or will end, in an error.
    pub(crate) fn failed(&mut self) {
        if let Some(figure) = &mut self.figure {
            figure.failed();
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.in_flight.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit() {
        let admission = Arc::new(Admission::new(2, None));
        let (a, b) = (admission.admit().unwrap(), admission.admit().unwrap());
        assert!(admission.admit().is_none());
        drop(a);
        assert!(admission.admit().is_some());
        drop(b);
        assert_eq!(admission.in_flight(), 0);
    }
}
