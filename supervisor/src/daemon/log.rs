//! The supervisor's own log: on stderr, or in the systemd journal with a field for each thing that one looks for.

use std::io::{self, IsTerminal as _};

use nix::sys::stat::fstat;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::{LogFormat, StartError};

/// Set by systemd to device and inode of what it has made stderr of a unit.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// What modules print is not for the filter of the supervisor's own lines.
const WORKERS: &str = "mortise::worker=trace";

/// The format that was asked for, or the one that fits where stderr goes.
pub(super) fn format(asked: Option<LogFormat>) -> LogFormat {
    let stream = std::env::var(JOURNAL_STREAM).unwrap_or_default();
    let stderr = fstat(io::stderr()).map(|it| format!("{}:{}", it.st_dev, it.st_ino));
    let in_journal = !stream.is_empty() && stderr.is_ok_and(|it| it == stream);
    asked.unwrap_or(if in_journal { LogFormat::Journal } else { LogFormat::Text })
}

/// How much is logged. It may change while the log is written.
pub(super) type Filter = reload::Handle<EnvFilter, Registry>;

/// The filter that the text says. The settings have checked it.
fn filter(text: &str) -> EnvFilter {
    let own = EnvFilter::builder().parse_lossy(text);
    own.add_directive(WORKERS.parse().unwrap_or_else(|_| unreachable!("a literal directive")))
}

/// Logs as much as the text says from now on.
pub(super) fn change(handle: &Filter, text: &str) {
    if let Err(error) = handle.reload(filter(text)) {
        tracing::error!(%error, "the log's filter cannot be changed");
    }
}

/// Starts the log.
///
/// # Errors
/// [`StartError::File`] when there is no journal.
pub(super) fn start(format: LogFormat, level: &str) -> Result<Filter, StartError> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
        LogFormat::Journal => {
            let socket = std::path::Path::new("/run/systemd/journal/socket");
            let journal = tracing_journald::layer().map_err(StartError::file("connect to the journal", socket))?;
            // Fields by their plain names, in upper case: MODULE, TENANT, VERSION, WORKER, OPERATION.
            registry.with(journal.with_field_prefix(None)).init();
        }
    }
    Ok(handle)
}

/// A panic anywhere ends the process. A supervisor that has lost one of its tasks would look alive and lead nothing; a dead one is
/// started again, and its workers have not noticed.
pub(super) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        if crate::store::is_contained() {
            tracing::warn!("a damaged store: {panic}");
            return;
        }
        let thread = std::thread::current();
        let trace = std::backtrace::Backtrace::force_capture();
        tracing::error!(
            "a defect of mortised: {panic} (thread {:?}). It ends here; its workers go on, and the next mortised on the \
             same folders takes them over.\n{trace}",
            thread.name().unwrap_or("?")
        );
        std::process::abort();
    }));
}
