//! The module `tally`: has `counter` count without a pause, and knows afterwards whether each call was counted exactly once.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use module_runtime::Worker;
use mortise_test_modules::{CounterClient, Refused, Tally, TallyReport, TallyServer};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

/// Calls at a time.
const AT_ONCE: usize = 4;

/// Longer than any swap of a test, so that a call that is late is one that was lost.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Calls {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    loops: Arc<AsyncMutex<Vec<JoinHandle<()>>>>,
}

#[derive(Default)]
struct Seen {
    /// Answers, each the number that the call was given.
    numbers: Vec<u64>,
    failures: Vec<String>,
    longest: Duration,
}

impl Calls {
    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn go_on(self, counter: CounterClient) {
        while !self.over.load(Relaxed) {
            let begun = Instant::now();
            let answer = counter.count().await;
            self.seen(|seen| {
                seen.longest = seen.longest.max(begun.elapsed());
                match answer {
                    Ok(number) => seen.numbers.push(number),
                    Err(error) => seen.failures.push(error.to_string()),
                }
            });
            // A loop of calls that are all answered at once must not keep the worker from anything else.
            tokio::task::yield_now().await;
        }
    }
}

impl Tally for Calls {
    fn answered(&self) -> Result<u64, Refused> {
        Ok(self.seen(|it| it.numbers.len() as u64))
    }

    async fn end(&self) -> Result<TallyReport, Refused> {
        self.over.store(true, Relaxed);
        for it in self.loops.lock().await.drain(..) {
            it.await.map_err(|error| Refused { why: error.to_string() })?;
        }
        Ok(self.seen(|seen| {
            let mut numbers = seen.numbers.clone();
            numbers.sort_unstable();
            let twice = numbers.windows(2).filter(|it| it[0] == it[1]).count() as u64;
            TallyReport {
                answered: numbers.len() as u64,
                twice,
                most: numbers.last().copied().unwrap_or(0),
                failed: seen.failures.len() as u64,
                failures: seen.failures.iter().take(10).cloned().collect(),
                longest_us: u64::try_from(seen.longest.as_micros()).unwrap_or(u64::MAX),
            }
        }))
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let calls = Calls { seen: Arc::default(), over: Arc::default(), loops: Arc::default() };
    let begin = |_| tokio::spawn(calls.clone().go_on(worker.client::<CounterClient>().with_timeout(PATIENCE)));
    calls.loops.lock().await.extend((0..AT_ONCE).map(begin));
    worker.serve(TallyServer::new(calls)).run().await
}
