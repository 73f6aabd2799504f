//! The daemon `mortised`: its arguments, what it makes sure of before it starts, its start and its end.
//!
//! ```text
//!   arguments ─▶ ground (folders, locks, limits) ─▶ promises of the host ─▶ store, packages, groups
//!        ─▶ listeners (bound, or taken back from a living base) ─▶ engine ─▶ admin API ─▶ base ─▶ READY
//!        ─▶ SIGTERM ─▶ everything stopped and removed ─▶ 0
//! ```
//!
//! Killed at any moment, it leaves its workers running, and a successor on the same folders takes them over.

mod arguments;
mod base;
mod error;
mod fetched;
mod ground;
mod listeners;
mod log;
mod notify;
mod run;

pub use arguments::{Arguments, LogFormat};
pub use error::StartError;

use std::process::ExitCode;

use clap::Parser as _;
use nix::sys::signal::SigSet;

/// The word that makes this program the loader of a resource. Not for people.
const LOADER: &str = "loader";

/// What `mortised` does.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|it| it == LOADER) {
        return crate::resource::loader::main(words);
    }
    let arguments = Arguments::parse();
    hear_signals();
    log::start(arguments.log_format);
    log::abort_on_panic();
    match run::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("mortised does not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Unblocks every signal. A mask is inherited: started by a program that waits for SIGTERM with it blocked, we would never hear ours.
/// Called before any thread is made, so that all have the mask.
fn hear_signals() {
    if let Err(error) = SigSet::all().thread_unblock() {
        eprintln!("mortised: cannot unblock signals: {error}");
    }
}
