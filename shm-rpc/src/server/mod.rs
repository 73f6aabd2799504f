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

use std::collections::HashMap;

use crate::layout::{AT_ABILITIES, EVERYONES_BARRIER};
use crate::port::Port;
use crate::release::Held;
use crate::spin::{Learned, Patience};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU64, AtomicUsize};
use crate::sync::{Arc, Mutex};
use crate::{End, Violation, futex};
use call::Interest;
use control::Stop;
use intake::Intake;
use replies::{Answers, Home, Lending};

pub use call::Call;
pub use control::ServerControl;
pub use set::{Serve, ServerSet, SetControl};

/// The callee's end of a channel.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    intake: Intake,
    home: Home,
    learned: Learned,
}

/// What a server, its calls and its controls share.
#[derive(Debug)]
pub(crate) struct Shared {
    port: Port,
    /// The answers' ring, while it is not with the loop.
    answers: Mutex<Option<Answers>>,
    lending: Mutex<Lending>,
    /// How many payloads are in the caller's hands: written under the lock of `lending`.
    lent: AtomicUsize,
    /// Calls that can be cancelled while they run.
    interests: Mutex<HashMap<u32, Arc<Interest>>>,
    /// The caller makes the fences for both sides when it goes to sleep with several calls under way, and this side lets it.
    caller_makes_fences: bool,
    /// Calls taken: written by the serving thread or task only.
    taken: AtomicU64,
    /// Calls answered: written by whoever has the answers' ring.
    answered: AtomicU64,
    /// Detached calls answered: written under the lock of `answers`.
    answered_away: AtomicU64,
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
        let home = Home::new(&port);
        let abilities = port.peer.memory.load(AT_ABILITIES, Relaxed);
        let shared = Shared {
            port,
            answers: Mutex::new(None),
            lending: Mutex::new(Lending::new()),
            lent: AtomicUsize::new(0),
            interests: Mutex::new(HashMap::new()),
            caller_makes_fences: abilities & EVERYONES_BARRIER != 0 && futex::has_everyones_barrier(),
            taken: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            answered_away: AtomicU64::new(0),
            stop: Stop::default(),
            held,
        };
        Self { shared: Arc::new(shared), intake, home, learned: Learned::new(patience) }
    }

    /// What other threads and tasks can do with it while it serves.
    #[must_use]
    pub fn control(&self) -> ServerControl {
        ServerControl::new(Arc::clone(&self.shared))
    }
}
