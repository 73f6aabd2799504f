//! The supervisor's own log, on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// How much is logged, unless this variable says otherwise.
const VARIABLE: &str = "MORTISE_LOG";

/// Starts the log.
pub(super) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
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
