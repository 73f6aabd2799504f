//! A constant load of requests over HTTP, in a closed loop and in an open one: the like of what the test module `callers` does by calls.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::Failure;
use crate::ledger::Seen;

/// As in `callers`: the load in the highest bits of an id.
const LOAD_SHIFT: u32 = 56;

/// How many requests of the open loop are on their way at most. If all are, those that are due wait, and are timed from when they were due.
const OPEN_AT_ONCE: usize = 8;

/// How many requests there are.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Who asks again a while after the answer.
    pub closed: usize,
    /// That while.
    pub pause: Duration,
    /// Requests that are due in a second, whatever becomes of those before.
    pub open_per_second: u64,
    /// How long each may take.
    pub patience: Duration,
}

/// Requests that go on.
#[derive(Debug)]
pub struct Requests {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ingress: SocketAddr,
    rates: Rates,
    over: AtomicBool,
    seen: Mutex<Vec<Seen>>,
    closed_ids: AtomicU64,
    open_ids: AtomicU64,
    /// The number of the next request of the open loop.
    next: AtomicU64,
}

/// CLOCK_MONOTONIC in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Requests {
    /// Begins.
    #[must_use]
    pub fn begin(ingress: SocketAddr, rates: Rates) -> Self {
        let first = now();
        let shared = Arc::new(Shared {
            ingress,
            rates,
            over: AtomicBool::new(false),
            seen: Mutex::default(),
            closed_ids: AtomicU64::new((3 << LOAD_SHIFT) + first),
            open_ids: AtomicU64::new((4 << LOAD_SHIFT) + first),
            next: AtomicU64::new(0),
        });
        let closed = (0..rates.closed).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.closed())
        });
        let open = (0..if rates.open_per_second > 0 { OPEN_AT_ONCE } else { 0 }).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.open(first))
        });
        let threads = closed.chain(open).collect();
        Self { shared, threads }
    }

    /// How many have ended so far.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends when each has its answer; what became of them.
    ///
    /// # Errors
    /// A thread panicked.
    pub fn end(self) -> Result<Vec<Seen>, Failure> {
        self.shared.over.store(true, Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a thread that sends requests panicked")?;
        }
        Ok(std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Shared {
    fn closed(&self) {
        let agent = self.agent();
        while !self.over.load(Relaxed) {
            self.ask(&agent, "http-closed", &self.closed_ids, now());
            std::thread::sleep(self.rates.pause);
        }
    }

    fn open(&self, begin: u64) {
        let (agent, rate) = (self.agent(), self.rates.open_per_second);
        loop {
            let due = begin + self.next.fetch_add(1, Relaxed) * 1_000_000_000 / rate;
            std::thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
            if self.over.load(Relaxed) {
                return;
            }
            self.ask(&agent, "http-open", &self.open_ids, due);
        }
    }

    fn ask(&self, agent: &ureq::Agent, load: &str, ids: &AtomicU64, due: u64) {
        let id = ids.fetch_add(1, Relaxed);
        let deadline = due + u64::try_from(self.rates.patience.as_nanos()).unwrap_or(u64::MAX);
        let left = Duration::from_nanos(deadline.saturating_sub(now()));
        let request = agent.post(format!("http://{}/record/{id}", self.ingress));
        let answer = request.header("X-Deadline-Ms", left.as_millis().max(1).to_string()).send_empty();
        let outcome = match answer {
            Ok(mut answer) => match (answer.status().as_u16(), answer.body_mut().read_to_string()) {
                (200, Ok(version)) => Ok(version),
                (status, body) => Err(format!("{status} {}", body.unwrap_or_else(|error| error.to_string()))),
            },
            Err(error) => Err(error.to_string()),
        };
        let seen = Seen { load: load.to_owned(), id, due, ended: now(), deadline, outcome };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    /// Keeps one connection. It waits longer than a request may take, so that an answer that comes late is told as late.
    fn agent(&self) -> ureq::Agent {
        let configuration = ureq::Agent::config_builder();
        let patient = configuration.timeout_global(Some(self.rates.patience * 2)).http_status_as_error(false);
        patient.proxy(None).build().into()
    }
}
