//! The life of a worker's process: what `#[main]` runs.

use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mortise_control::{Phase, ToSupervisor};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::boot::{self, BootError};
use crate::call::caught;
use crate::control::Control;
use crate::worker::Shared;
use crate::{Error, Worker, log};

/// Exit code of a worker whose code failed.
const FAILED: u8 = 1;
/// Exit code of a program that was not started as a worker.
const NOT_A_WORKER: u8 = 2;

/// How long the last reports may take to be sent.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The longest reason that the supervisor is told; the log has all of it.
const REASON_MOST: usize = 4096;

/// Which runtime the worker's code runs in.
#[derive(Clone, Copy, Debug)]
pub enum Flavor {
    /// One thread.
    CurrentThread,
    /// So many threads, or as many as there are processors.
    MultiThread(Option<usize>),
}

impl Flavor {
    fn build(self) -> std::io::Result<Runtime> {
        match self {
            Self::CurrentThread => Builder::new_current_thread().enable_all().build(),
            Self::MultiThread(threads) => {
                let mut builder = Builder::new_multi_thread();
                if let Some(threads) = threads {
                    builder.worker_threads(threads);
                }
                builder.enable_all().build()
            }
        }
    }
}

/// Runs a worker whose author wrote `main`.
pub fn run<F, Fut, E>(flavor: Flavor, main: F) -> ExitCode
where
    F: FnOnce(Worker) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let (boot, inherited) = match boot::take() {
        Ok(it) => it,
        Err(error) => {
            explain(&error);
            return ExitCode::from(NOT_A_WORKER);
        }
    };
    log::install(boot.configuration.get("log").map(String::as_str));
    let started = Shared::new(boot, inherited).and_then(|it| {
        let runtime = flavor.build().map_err(Error::os("starting the runtime"))?;
        Ok((it, runtime))
    });
    let ((shared, reports), runtime) = match started {
        Ok(it) => it,
        Err(error) => {
            tracing::error!(%error, "the worker cannot start");
            return ExitCode::from(FAILED);
        }
    };
    let code = runtime.block_on(async {
        tokio::spawn(Control::new(Arc::clone(&shared), reports).run());
        live(&shared, main).await
    });
    // What the author left running does not keep the process.
    runtime.shutdown_background();
    code
}

/// From the welcome to the end of the author's code.
pub(crate) async fn live<F, Fut, E>(shared: &Arc<Shared>, main: F) -> ExitCode
where
    F: FnOnce(Worker) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(it) => it,
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be listened to");
            return ExitCode::from(FAILED);
        }
    };
    let mut welcomed = shared.welcomed.subscribe();
    tokio::select! {
        _ = welcomed.wait_for(|it| *it) => {}
        _ = terminate.recv() => return ExitCode::SUCCESS,
    }
    let main = caught(async { main(Worker::new(Arc::clone(shared))).await });
    let mut main = std::pin::pin!(main);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut main => break ended,
            _ = terminate.recv() => {
                // Before it is ready nothing is in flight, and its code may not be listening.
                if *shared.phase.borrow() == Phase::Starting {
                    return ExitCode::SUCCESS;
                }
                shared.terminate.send_replace(true);
            }
        }
    };
    let reason = match ended {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("its main function panicked (the message is in its output)".to_owned()),
    };
    if let Some(reason) = &reason {
        tracing::error!("{reason}");
        if *shared.phase.borrow() == Phase::Starting {
            let told = &reason[..reason.floor_char_boundary(REASON_MOST)];
            shared.reports.send(ToSupervisor::NeverReady { reason: told.to_owned() });
        }
    }
    // Without a supervisor there is nobody to wait for.
    let _ = tokio::time::timeout(LAST_WORDS, shared.reports.flush()).await;
    if reason.is_none() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// Tells a person who has started the program by hand what it is.
fn explain(error: &BootError) {
    let program = std::env::args().next().unwrap_or_else(|| "this program".into());
    eprintln!(
        "{program} is a Mortise module and does not run by itself: {error}.\n\
         Install and start it with the folder that holds its module.toml:\n\
         \n\
         \x20   mortise install FOLDER\n\
         \x20   mortise start MODULE\n\
         \n\
         Its code can be tested without a supervisor: see module_runtime::testing."
    );
}
