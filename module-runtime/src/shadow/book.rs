//! What has been compared of one service, and telling the supervisor of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mortise_control::shadow::{Difference, MOST_EXAMPLES, MOST_METHODS, MOST_NAME, Shadowed, ShadowedMethod};
use mortise_control::stats::{BUCKETS, bucket};
use mortise_control::{ServiceName, ToSupervisor};

use crate::worker::Reports;

/// Copies of one service's calls under way at once. More are not begun: a version beside that hangs holds no more than this.
pub(super) const MOST_RUNNING: usize = 32;

/// From one message to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// The most examples of one method, so that others have some, too.
const EXAMPLES_OF_ONE: usize = 4;

/// What came of a copy.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing can be said of it.
    Skipped,
    Equal {
        charge_ns: u64,
        beside_ns: u64,
    },
    Different(Difference),
    /// It has no answer.
    Failed(Difference),
}

/// One comparison of one service.
#[derive(Debug)]
pub(crate) struct Book {
    service: ServiceName,
    pub(crate) run: u64,
    methods: Mutex<BTreeMap<&'static str, ShadowedMethod>>,
    running: AtomicUsize,
    /// There is something that has not been told.
    news: AtomicBool,
    /// A task tells it.
    telling: AtomicBool,
    reports: Reports,
}

/// A copy under way.
#[derive(Debug)]
pub(crate) struct Place(Arc<Book>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

impl Book {
    pub(crate) fn new(service: ServiceName, run: u64, reports: Reports) -> Self {
        Self {
            service,
            run,
            methods: Mutex::default(),
            running: AtomicUsize::new(0),
            news: AtomicBool::new(false),
            telling: AtomicBool::new(false),
            reports,
        }
    }

    /// A place for one more copy, if there is room.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        let taken = self.running.fetch_update(Relaxed, Relaxed, |it| (it < MOST_RUNNING).then_some(it + 1));
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    /// Notes what came of a copy, and has it told. Needs a tokio runtime to be told.
    pub(crate) fn note(self: &Arc<Self>, method: &'static str, verdict: Verdict) {
        self.add(method, verdict);
        self.tell();
    }

    fn add(&self, method: &'static str, verdict: Verdict) {
        let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        let told = methods.len();
        let examples: usize = methods.values().map(|it| it.examples.len()).sum();
        let Some(sums) = (match methods.get_mut(method) {
            Some(sums) => Some(sums),
            None if told < MOST_METHODS && method.len() <= MOST_NAME => {
                let new = ShadowedMethod { method: method.to_owned(), ..ShadowedMethod::default() };
                Some(methods.entry(method).or_insert(new))
            }
            None => None,
        }) else {
            return;
        };
        match verdict {
            Verdict::Skipped => sums.skipped += 1,
            Verdict::Equal { charge_ns, beside_ns } => {
                sums.equal += 1;
                count(&mut sums.charge_latency_log2, charge_ns);
                count(&mut sums.beside_latency_log2, beside_ns);
            }
            Verdict::Different(it) => {
                sums.different += 1;
                count(&mut sums.charge_latency_log2, it.charge_ns);
                count(&mut sums.beside_latency_log2, it.beside_ns);
                keep(&mut sums.examples, it, examples);
            }
            Verdict::Failed(it) => {
                sums.failed += 1;
                count(&mut sums.charge_latency_log2, it.charge_ns);
                keep(&mut sums.examples, it, examples);
            }
        }
    }

    /// Tells it all, now or when the pause after the last time is over; not outside a tokio runtime.
    pub(crate) fn tell(self: &Arc<Self>) {
        self.news.store(true, SeqCst);
        if self.telling.swap(true, SeqCst) {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(Arc::clone(self).tell_on())),
            Err(_) => self.telling.store(false, SeqCst),
        }
    }

    async fn tell_on(self: Arc<Self>) {
        loop {
            while self.news.swap(false, SeqCst) {
                self.reports.send(ToSupervisor::Shadowed(self.told()));
                // Nothing piles up behind a supervisor that does not read.
                self.reports.flush().await;
                tokio::time::sleep(PAUSE).await;
            }
            self.telling.store(false, SeqCst);
            // Whoever had news before that has seen that somebody tells.
            if !self.news.load(SeqCst) || self.telling.swap(true, SeqCst) {
                return;
            }
        }
    }

    pub(crate) fn told(&self) -> Shadowed {
        let methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        Shadowed { service: self.service.clone(), run: self.run, methods: methods.values().cloned().collect() }
    }
}

fn count(buckets: &mut Vec<u64>, latency_ns: u64) {
    buckets.resize(BUCKETS, 0);
    buckets[bucket(latency_ns)] += 1;
}

/// Keeps an example unless there is one of the same place, or there are enough.
fn keep(examples: &mut Vec<Difference>, it: Difference, of_all: usize) {
    let same = |other: &Difference| other.path == it.path && (other.charge, other.beside) == (it.charge, it.beside);
    if examples.len() < EXAMPLES_OF_ONE && of_all < MOST_EXAMPLES && !examples.iter().any(same) {
        examples.push(it);
    }
}
