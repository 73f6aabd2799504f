//! The module `load`: calls `unruly.echo` without a pause and counts what comes back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use module_runtime::{CallError, Worker};
use mortise_test_modules::{Echo, Load, LoadServer, Refused, Report, UnrulyClient};

#[derive(Clone, Default)]
struct Counted(Arc<Mutex<Report>>);

impl Load for Counted {
    fn report(&self) -> Result<Report, Refused> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Counted {
    async fn go_on(self, unruly: UnrulyClient) {
        let mut last = Instant::now();
        for number in 0_u64.. {
            let text = format!("call {number}");
            let answer = unruly.echo(text.clone()).await;
            self.count(answer, &text, last.elapsed());
            last = Instant::now();
            // A loop of calls that are all answered at once must not keep the worker from anything else.
            tokio::task::yield_now().await;
        }
    }

    fn count(&self, answer: Result<Echo, CallError<Refused>>, text: &str, since: Duration) {
        let mut report = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(echo) if echo.text == text => {
                report.answered += 1;
                if !report.versions.contains(&echo.version) {
                    report.versions.push(echo.version);
                }
            }
            Ok(echo) => report.fail(format!("{text} was answered {echo:?}")),
            Err(error) => report.fail(format!("{text}: {error}")),
        }
        if report.answered > 1 {
            report.longest_us = report.longest_us.max(u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        }
    }
}

trait Fail {
    fn fail(&mut self, why: String);
}

impl Fail for Report {
    fn fail(&mut self, why: String) {
        self.failed += 1;
        if self.failures.len() < 10 {
            self.failures.push(why);
        }
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let counted = Counted::default();
    let calling = tokio::spawn(counted.clone().go_on(worker.client()));
    let ended = worker.serve(LoadServer::new(counted)).run().await;
    calling.abort();
    ended
}
