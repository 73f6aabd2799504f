//! The module `callers`: calls `recorder.record` in a closed loop and in an open one, and writes down what became of each call.
//!
//! Closed: each of so many callers makes its next call a while after the answer to the last. Open: calls are due at a fixed rate whatever
//! becomes of those before, and are timed from then, so that a call that waits makes those behind it slow, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use module_runtime::{Deadline, Error, Worker};
use mortise_test_modules::RecorderClient;
use mortise_test_modules::ledger::{Ledger, Seen};
use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Ids of two loads, or of two workers one after the other, are never the same: the load in the highest bits, the time of the start below.
const LOAD_SHIFT: u32 = 56;

struct Callers {
    recorder: RecorderClient,
    ledger: Ledger,
    /// How long each call may take, in nanoseconds.
    patience: u64,
    over: AtomicBool,
}

/// The ids of a load.
struct Load {
    name: &'static str,
    next: AtomicU64,
}

impl Load {
    fn new(name: &'static str, number: u64) -> Arc<Self> {
        Arc::new(Self { name, next: AtomicU64::new((number << LOAD_SHIFT) + now()) })
    }
}

/// CLOCK_MONOTONIC, as of deadlines.
fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Callers {
    async fn call(&self, load: &Load, due: u64) {
        let id = load.next.fetch_add(1, Relaxed);
        let deadline = due + self.patience;
        let answer = self.recorder.with_deadline(Deadline::from_nanos(deadline)).record(id).await;
        let seen = Seen { load: load.name, id, due, ended: now(), deadline };
        let written = match answer {
            Ok(version) => self.ledger.answered(&seen, &version),
            Err(error) => self.ledger.failed(&seen, &error.to_string()),
        };
        if let Err(error) = written {
            eprintln!("the ledger: {error}");
            std::process::exit(1);
        }
    }

    async fn closed(self: Arc<Self>, load: Arc<Load>, pause: Duration) {
        while !self.over.load(Relaxed) {
            self.call(&load, now()).await;
            if pause.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// In a thread of its own: the runtime's timers know only milliseconds.
    fn open(self: &Arc<Self>, load: &Arc<Load>, rate: u64, runtime: &Handle) {
        let begin = now();
        for number in 0.. {
            let due = begin + number * 1_000_000_000 / rate;
            std::thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
            if self.over.load(Relaxed) {
                return;
            }
            let (callers, load) = (Arc::clone(self), Arc::clone(load));
            runtime.spawn(async move { callers.call(&load, due).await });
        }
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), Error> {
    let number = |key: &str, default: u64| -> Result<u64, Error> {
        let Some(text) = worker.configuration(key) else { return Ok(default) };
        text.parse()
            .map_err(|error| Error::other(format!("configuration.{key} = {text}: {error}; give a whole number")))
    };
    let (closed, pause, rate) = (number("closed", 4)?, number("pause-us", 5000)?, number("open-per-second", 200)?);
    let patience = number("patience-ms", 30_000)? * 1_000_000;
    let ledger = Ledger::open().map_err(|error| Error::other(format!("the ledger: {error}")))?;
    let callers = Arc::new(Callers { recorder: worker.client(), ledger, patience, over: AtomicBool::new(false) });
    let mut loops = JoinSet::new();
    let load = Load::new("typed-closed", 1);
    for _ in 0..closed {
        loops.spawn(Arc::clone(&callers).closed(Arc::clone(&load), Duration::from_micros(pause)));
    }
    if rate > 0 {
        let (callers, load, runtime) = (Arc::clone(&callers), Load::new("typed-open", 2), Handle::current());
        std::thread::spawn(move || callers.open(&load, rate, &runtime));
    }
    let ended = worker.serving().run().await;
    callers.over.store(true, Relaxed);
    while loops.join_next().await.is_some() {}
    ended
}
