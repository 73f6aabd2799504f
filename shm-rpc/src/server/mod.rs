//! The callee's end of a channel.
//!
//! One thread or task takes requests off the ring, in order (`intake`); it or others answer them, in any order (`replies`). The
//! loops around them are `thread` and `task`, for one channel each, and `set`, one thread for many.

mod call;
mod control;
mod intake;
mod replies;
mod set;
#[cfg(feature = "tokio")]
mod task;
mod thread;

use crate::port::Port;
use crate::release::Held;
use crate::spin::{Learned, Patience};
use crate::sync::atomic::AtomicU64;
use crate::sync::{Arc, Mutex};
use crate::{End, Violation};
use control::Stop;
use intake::Intake;
use replies::Replies;

pub use call::Call;
pub use control::ServerControl;
pub use set::{Serve, ServerSet, SetControl};

/// The callee's end of a channel.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    intake: Intake,
    learned: Learned,
}

/// What a server, its calls and its controls share.
#[derive(Debug)]
pub(crate) struct Shared {
    port: Port,
    replies: Mutex<Replies>,
    /// Calls taken: written by the serving thread or task only.
    taken: AtomicU64,
    /// Calls answered: written under the lock of `replies` only.
    answered: AtomicU64,
    stop: Stop,
    /// Last: everything above is unmapped when it tells.
    held: Held,
}

/// How and why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Calls answered, well or not.
    pub served: u64,
    /// Why it ended.
    pub ended: Ended,
}

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// [`ServerControl::close`] was called, and every call from before that has been answered.
    Closed,
    /// The caller sends nothing more, and every call of it has been answered.
    CallerDone,
    /// The caller's process has ended. Calls that are still being executed answer nobody.
    CallerGone,
}

/// Why serving ended without a [`Served`].
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The caller wrote what no honest one writes.
    #[error("protocol violation by the caller: {0}")]
    Violation(#[from] Violation),
    /// The wake socket could not be listened to.
    #[error("listening to the wake socket: {0}")]
    Bell(#[from] std::io::Error),
}

impl Server {
    /// Takes the callee's end.
    #[must_use]
    pub fn new(end: End) -> Self {
        Self::with_patience(end, Patience::Adaptive)
    }

    /// Takes the callee's end; a thread that serves waits as told.
    #[must_use]
    pub fn with_patience(end: End, patience: Patience) -> Self {
        let held = Held::default();
        let port = Port::new(end, held.clone());
        let intake = Intake::new(&port);
        let replies = Mutex::new(Replies::new(&port));
        let shared = Shared {
            port,
            replies,
            taken: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            stop: Stop::default(),
            held,
        };
        Self { shared: Arc::new(shared), intake, learned: Learned::new(patience) }
    }

    /// What other threads and tasks can do with it while it serves.
    #[must_use]
    pub fn control(&self) -> ServerControl {
        ServerControl::new(Arc::clone(&self.shared))
    }
}
