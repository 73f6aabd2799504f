//! Why a worker was not started.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::cgroup::CgroupError;
use crate::lifecycle::StartFault;

/// Why a worker was not started. What was made for it is still to be removed.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its groups or their limits.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// Its run folder, FIFOs or sockets.
    #[error("{what} {path:?}: {source}")]
    RunFolder {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What is asked for cannot be given.
    #[error("{field} = {value:?}: {reason}")]
    Spec {
        /// Which field of the spec.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// A descriptor, memfd, pipe or process could not be made.
    #[error("{what}: {errno}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Init failed in a step of its plan.
    #[error("init failed in step {step} ({about}){}", kernel_said(*errno))]
    Step {
        /// Which step.
        step: String,
        /// With what.
        about: String,
        /// The kernel's answer; [`Errno::UnknownErrno`] where init itself refused.
        errno: Errno,
    },
    /// Init ended, or did not finish its plan in time, and did not say why.
    #[error("init did not finish its plan: {0}")]
    Silent(String),
    /// The spawning thread is gone.
    #[error("the supervisor is stopping")]
    Stopping,
}

impl SpawnError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> StartFault {
        match self {
            Self::Kernel { errno, .. } | Self::Step { errno, .. } => StartFault::of_errno(*errno as i32),
            Self::Group(_) | Self::RunFolder { .. } => StartFault::of(self),
            Self::Spec { .. } | Self::Silent(_) | Self::Stopping => StartFault::Other,
        }
    }
}

fn kernel_said(errno: Errno) -> String {
    if errno == Errno::UnknownErrno { String::new() } else { format!(": {errno}") }
}
