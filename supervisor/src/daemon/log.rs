//! The supervisor's own log: on stderr, or in the systemd journal with a field for each thing that one looks for.

use std::io::{self, IsTerminal as _};

use nix::sys::stat::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{LogFormat, StartError};

/// How much is logged, unless this variable says otherwise.
const VARIABLE: &str = "MORTISE_LOG";

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

/// Starts the log.
///
/// # Errors
/// [`StartError::File`] when there is no journal.
pub(super) fn start(format: LogFormat) -> Result<(), StartError> {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = filter.add_directive(WORKERS.parse().unwrap_or_else(|_| unreachable!("a literal directive")));
    let builder = tracing_subscriber::fmt().with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_env_filter(filter).with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.with_env_filter(filter).json().init(),
        LogFormat::Journal => {
            let socket = std::path::Path::new("/run/systemd/journal/socket");
            let journal = tracing_journald::layer().map_err(StartError::file("connect to the journal", socket))?;
            // Fields by their plain names, in upper case: MODULE, TENANT, VERSION, WORKER, OPERATION.
            tracing_subscriber::registry().with(filter).with(journal.with_field_prefix(None)).init();
        }
    }
    Ok(())
}

/// A panic anywhere ends the process. A supervisor that has lost one of its tasks would look alive and lead nothing; a dead one is
/// started again, and its workers have not noticed.
pub(super) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
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
