//! The module `trial`: answers, or does what its configuration says instead.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use module_runtime::{Context, Worker};
use mortise_test_modules::{Asked, Refused, Trial, TrialServer, Word};

#[derive(Default)]
struct Module {
    version: String,
    does: Option<String>,
    copies: AtomicU64,
    checks: AtomicU64,
    stores: AtomicU64,
}

impl Trial for Module {
    async fn check(&self, text: String) -> Result<Vec<Word>, Refused> {
        let copy = Context::current().is_some_and(|it| it.is_shadow());
        let counter = if copy { &self.copies } else { &self.checks };
        counter.fetch_add(1, Relaxed);
        let mut words: Vec<Word> = text.split(' ').map(|it| Word { text: it.to_owned(), suggestion: None }).collect();
        match self.does.as_deref() {
            Some("suggests") => {
                if let Some(last) = words.last_mut() {
                    last.suggestion = Some("whale".to_owned());
                }
            }
            Some("panics") => panic!("as it was told"),
            Some("hangs") => std::future::pending().await,
            Some(_) | None => {}
        }
        Ok(words)
    }

    fn store(&self, _: String) -> Result<u64, Refused> {
        Ok(self.stores.fetch_add(1, Relaxed) + 1)
    }

    fn asked(&self) -> Result<Asked, Refused> {
        let [copies, checks, stores] = [&self.copies, &self.checks, &self.stores].map(|it| it.load(Relaxed));
        Ok(Asked { version: self.version.clone(), copies, checks, stores })
    }
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let does = worker.configuration("does").map(ToOwned::to_owned);
    let module = Module { version: worker.version().to_string(), does, ..Module::default() };
    worker.serve(TrialServer::new(module)).run().await
}
