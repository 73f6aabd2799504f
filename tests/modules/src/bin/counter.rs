//! The module `counter`: counts in memory, and hands its count over to the version that replaces it. In a version of which the
//! configuration names a vice, it does not as it should.
#![allow(unsafe_code, reason = "one vice keeps memory mapped")]

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use module_runtime::{StateWriter, Worker};
use mortise_test_modules::{Counter, CounterServer, Refused};
use tokio::sync::Notify;

#[derive(Clone, Default)]
struct Count {
    count: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
    released: Arc<Notify>,
}

impl Counter for Count {
    fn count(&self) -> Result<u64, Refused> {
        Ok(self.count.fetch_add(1, SeqCst) + 1)
    }

    fn peek(&self) -> Result<u64, Refused> {
        Ok(self.count.load(SeqCst))
    }

    async fn count_when_released(&self) -> Result<u64, Refused> {
        self.waiting.fetch_add(1, SeqCst);
        self.released.notified().await;
        self.count()
    }

    fn waiting(&self) -> Result<u64, Refused> {
        Ok(self.waiting.load(SeqCst))
    }

    fn release(&self) -> Result<(), Refused> {
        self.released.notify_one();
        Ok(())
    }
}

impl Count {
    /// Version 1 is text, version 2 is eight bytes.
    fn export(&self, version: u32, vice: &str, to: &mut StateWriter) -> Result<(), String> {
        let count = self.count.load(SeqCst);
        match vice {
            "exports-nothing" => hang(),
            "exports-without-end" => while to.write_all(&[7; 4096]).is_ok() {},
            "panics-at-export" => panic!("as it was told"),
            "dies-at-export" => std::process::exit(7),
            "maps-its-memory" => map_state()?,
            _ => {}
        }
        match version {
            1 => write!(to, "{count}"),
            _ => to.write_all(&count.to_le_bytes()),
        }
        .map_err(|error| error.to_string())
    }

    fn import(&self, version: u32, vice: &str, state: &[u8]) -> Result<(), String> {
        let count = match version {
            1 => std::str::from_utf8(state).ok().and_then(|it| it.parse().ok()),
            _ => state.try_into().ok().map(u64::from_le_bytes),
        };
        let count = count.ok_or_else(|| format!("{} bytes that are no count", state.len()))?;
        match vice {
            "imports-nothing" => hang(),
            "refuses-state" => return Err(format!("{count} is no number that it likes")),
            "panics-at-import" => panic!("as it was told"),
            "dies-at-import" => std::process::exit(7),
            _ => {}
        }
        self.count.store(count, SeqCst);
        Ok(())
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Maps the memory that the state is written to, and keeps it.
fn map_state() -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    for entry in fs::read_dir("/proc/self/fd").map_err(failed)?.flatten() {
        let is_it = |it: &std::path::Path| it.to_string_lossy().contains("mortise-state");
        if fs::read_link(entry.path()).is_ok_and(|it| is_it(&it)) {
            let file = fs::File::options().read(true).write(true).open(entry.path()).map_err(failed)?;
            // SAFETY: nobody looks at the mapping; it only is there.
            std::mem::forget(unsafe { memmap2::MmapMut::map_mut(&file) }.map_err(failed)?);
            return Ok(());
        }
    }
    Err("there is no memory for the state".to_owned())
}

#[module_runtime::main]
async fn main(worker: Worker) -> Result<(), module_runtime::Error> {
    let version = worker.configuration("state").and_then(|it| it.parse().ok()).unwrap_or(1);
    let vice: Arc<str> = worker.configuration("vice").unwrap_or_default().into();
    let (count, theirs) = (Count::default(), Arc::clone(&vice));
    let (exported, imported) = (count.clone(), count.clone());
    worker
        .serve(CounterServer::new(count))
        .export_state(version, move |to| exported.export(version, &vice, to))
        .import_state(move |version, state| imported.import(version, &theirs, state))
        .run()
        .await
}
