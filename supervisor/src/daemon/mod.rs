//! The daemon `mortised`: its arguments, what it makes sure of before it starts, its start and its end.
//!
//! ```text
//!   arguments, mortise.toml ─▶ settings ─▶ ground (folders, locks, limits) ─▶ promises of the host ─▶ store, packages, groups
//!        ─▶ listeners (bound, or taken back from a living base) ─▶ engine ─▶ admin API ─▶ base ─▶ READY
//!        ─▶ SIGTERM or `mortise shutdown` ─▶ everything stopped and removed ─▶ 0
//!        ─▶ SIGTERM where the workers have a unit of their own ─▶ left to the successor ─▶ 0
//! ```
//!
//! Killed at any moment, it leaves its workers running, and a successor on the same folders takes them over.

mod allocator;
mod arguments;
mod base;
mod candidate;
mod error;
mod fetched;
mod ground;
mod handover;
mod listeners;
mod log;
mod notify;
mod passed;
mod readiness;
mod reload;
mod run;
mod self_check;
mod settings;
mod standing;
mod workers_unit;

pub use arguments::{Arguments, LogFormat};
pub(crate) use candidate::Candidate;
pub use error::StartError;
pub(crate) use run::STORE;

use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::Parser as _;
use nix::sys::signal::{SigSet, Signal};

use handover::Handover;
use reload::Reload;
use settings::Loaded;

/// The word that makes this program the loader of a resource. Not for people.
const LOADER: &str = "loader";

/// The word that makes it the one process of the workers' unit.
const HOLD: &str = "hold";

/// The exit code where another start would fail in the same way until somebody has changed something: `EX_CONFIG` of sysexits.h. Units
/// name it in `RestartPreventExitStatus=`, and 2 with it, which is clap's for a wrong command line.
const WRONG: u8 = 78;

/// The exit code after `mortise shutdown` where a service manager would start this program again after any other.
const SHUT_DOWN: u8 = 100;

/// What `mortised` does.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(first) if first == LOADER => return crate::resource::loader::main(words),
        Some(first) if first == HOLD => return workers_unit::hold(),
        Some(first) if first == self_check::SELF_CHECK => return self_check::main(words),
        Some(_) | None => {}
    }
    // Executed by its descriptor, it would be called by the number of that.
    let _ = nix::sys::prctl::set_name(c"mortised");
    allocator::give_back_large_blocks();
    let arguments = Arguments::parse();
    hear_signals();
    // What the unit names may be another program than the one that this process has become, and start.
    let wrong = if Handover::is_waiting() { ExitCode::FAILURE } else { ExitCode::from(WRONG) };
    let loaded = match Loaded::new(&arguments) {
        Ok(loaded) if arguments.check_config => {
            print!("{loaded}");
            return ExitCode::SUCCESS;
        }
        Ok(loaded) => loaded,
        Err(refused) => {
            eprint!("{refused}");
            if !arguments.check_config {
                notify::status(&format!("not started: mortise.toml is wrong ({}, see the log)", refused.count()));
            }
            return wrong;
        }
    };
    let format = log::format(loaded.settings.log_format);
    let filter = match log::start(format, &loaded.settings.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("mortised does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    log::abort_on_panic();
    let roles = Arc::new(ArcSwap::from_pointee(loaded.settings.roles.clone()));
    match run::run(Reload { arguments, in_force: loaded, filter, roles }, format) {
        Ok(run::Ended::Stopped | run::Ended::Left) => ExitCode::SUCCESS,
        Ok(run::Ended::ShutDown) => ExitCode::from(SHUT_DOWN),
        Ok(run::Ended::Becomes(candidate, handover)) => {
            if let Err(errno) = meant_for_us().thread_block() {
                tracing::warn!(%errno, "signals cannot be kept for the program that this becomes");
            }
            handover.exec(&candidate);
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("mortised does not start: {error}");
            notify::status(&format!("not started: {error}"));
            if error.is_lasting() { wrong } else { ExitCode::FAILURE }
        }
    }
}

/// Unblocks every signal but those that [`run`] catches, which wait until it does: sent to a supervisor that is on its way from one program to
/// the next, they would end it. A mask is inherited: started by a program that waits for SIGTERM with it blocked, we would never hear ours.
/// Called before any thread is made, so that all have the mask.
fn hear_signals() {
    let mut mask = SigSet::all();
    meant_for_us().iter().for_each(|it| mask.remove(it));
    if let Err(error) = mask.thread_unblock().and_then(|()| meant_for_us().thread_block()) {
        eprintln!("mortised: cannot set the mask of signals: {error}");
    }
}

/// The signals that mean something to the supervisor.
fn meant_for_us() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}
