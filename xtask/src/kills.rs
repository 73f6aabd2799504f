//! Workers that are killed at random.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Failure;

/// Kills one of the workers of a supervisor that run `program`, with SIGKILL. False: there is none at the moment.
///
/// # Errors
/// The kernel refuses.
pub fn kill_one_of(supervisor: u32, program: &str) -> Result<bool, Failure> {
    let workers = workers(supervisor, program)?;
    if workers.is_empty() {
        return Ok(false);
    }
    let chosen = workers[usize::try_from(random() % workers.len() as u64)?];
    match kill(chosen, Signal::SIGKILL) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(format!("killing {chosen}: {error}").into()),
    }
}

/// Any time up to `most`.
#[must_use]
pub fn some_time(most: Duration) -> Duration {
    most.mul_f64((random() >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Children of the supervisor that have become the program: before that they are `mortise-init`.
fn workers(supervisor: u32, program: &str) -> Result<Vec<Pid>, Failure> {
    let mut workers = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else { continue };
        // It may have ended since the folder was read.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.split_once('(').and_then(|it| it.1.rsplit_once(") ")) else { continue };
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next(), fields.next());
        if name == program && state != Some("Z") && parent.and_then(|it| it.parse().ok()) == Some(supervisor) {
            workers.push(Pid::from_raw(pid));
        }
    }
    Ok(workers)
}

/// A random number: the standard library's keys are.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
