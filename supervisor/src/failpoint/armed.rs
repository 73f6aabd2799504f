//! Points as the `fail` crate knows them, and what is remembered of them for whoever asks.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static REACHED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static FAILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn locked(names: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn reach(name: &str) -> io::Result<()> {
    if !locked(&REACHED).contains(name) {
        locked(&REACHED).insert(name.to_owned());
    }
    let errno = fail::eval(name, |errno| errno.and_then(|it| it.parse().ok()).unwrap_or(libc::EIO));
    errno.map_or(Ok(()), |errno| {
        locked(&FAILED).insert(name.to_owned());
        let error = io::Error::from_raw_os_error(errno);
        tracing::warn!(name, %error, "a fault that was asked for");
        Err(error)
    })
}

/// The process dies at the point: like this, nothing of it has a chance to tidy up.
pub(super) fn set_kill(name: &str) -> Result<(), String> {
    fail::cfg_callback(name, || {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    })
}

/// The point fails with this error of the kernel.
pub(super) fn set_error(name: &str, errno: i32, times: Times) -> Result<(), String> {
    let times = match times {
        Times::Once => "1*",
        Times::Always => "",
    };
    fail::cfg(name, &format!("{times}return({errno})"))
}

/// How often a point fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times {
    Once,
    /// Until [`clear`].
    Always,
}

/// No point does anything.
pub(super) fn clear() {
    for (name, _) in fail::list() {
        fail::remove(name);
    }
    locked(&REACHED).clear();
    locked(&FAILED).clear();
}

/// The points that were passed since the last [`clear`].
pub(super) fn reached() -> BTreeSet<String> {
    locked(&REACHED).clone()
}

/// Those of them that have failed.
pub(super) fn failed() -> BTreeSet<String> {
    locked(&FAILED).clone()
}
