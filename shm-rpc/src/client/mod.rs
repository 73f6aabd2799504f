//! The caller's end of a channel.
//!
//! Any number of threads and tasks call at once. One lock holds the books (`calls`); whoever looks at the ring takes all
//! answers that are there and tells their owners. A waiting thread spins first, with the books in its `hand` as long as nobody
//! else wants them; then one thread sleeps on the ring for all (the leader) and the others on themselves (`waiting`). Tasks have one
//! task of their own that listens to the bell (`driver`). A `session` is one thread's hold on the books for many calls.

mod calls;
#[cfg(feature = "tokio")]
mod driver;
mod hand;
mod pending;
mod reply;
mod session;
mod waiting;

#[cfg(feature = "tokio")]
use crate::control::SOCKET;
use crate::port::Port;
use crate::release::{Held, Released};
use crate::spin::{Learned, Patience};
use crate::sync::atomic::AtomicU32;
use crate::sync::{Arc, Mutex};
use crate::{CallError, CallOptions, Deadline, End, Loan, Payload, Violation};
use calls::{Answer, Calls, Shut, Ticket, Waiter};
use hand::{Hand, Request};

pub use pending::Pending;
pub use reply::Reply;
pub use session::Session;

/// The caller's end of a channel, shared by any number of threads and tasks: clones are the same end.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What all clones, pending calls and replies of an end share.
#[derive(Debug)]
pub(crate) struct Shared {
    port: Port,
    calls: Mutex<Calls>,
    /// The position of the next answer, to be looked at without the lock.
    next_answer: AtomicU32,
    /// How many wait for the lock of `calls`.
    wanted: AtomicU32,
    learned: Learned,
    #[cfg(feature = "tokio")]
    driver: driver::Slot,
    /// Last: everything above is unmapped when it tells.
    held: Held,
}

impl Shared {
    fn peer_gone(&self) {
        let mut calls = self.lock();
        calls.peer_gone(&self.port);
        self.unlock(calls);
        self.wake_leader();
    }

    /// The callee lied in an answer.
    #[cold]
    fn accuse(&self, violation: Violation) -> CallError {
        let mut calls = self.lock();
        let error = calls.accuse(violation);
        self.unlock(calls);
        self.wake_leader();
        error
    }

    /// Gives a call up; see [`Calls::abandon`].
    fn abandon(&self, ticket: Ticket) -> Option<bool> {
        let mut calls = self.lock();
        calls.drain(&self.port);
        let (started, wake) = calls.abandon(&self.port, ticket);
        self.unlock(calls);
        self.port.wake(wake);
        started
    }

    /// Makes sure that a task that waits is told: arms the bell, or takes what is there already.
    #[cfg(feature = "tokio")]
    fn arm_bell(&self, calls: &mut Calls) {
        while calls.has_tasks() && !calls.parked.is_set(SOCKET) && !calls.shut().is_some_and(Shut::is_final) {
            if !calls.arm(&self.port, SOCKET) {
                calls.drain(&self.port);
            }
        }
    }
}

impl Client {
    /// Takes the caller's end.
    #[must_use]
    pub fn new(end: End) -> Self {
        Self::with_patience(end, Patience::Adaptive)
    }

    /// Takes the caller's end, whose threads wait as told.
    #[must_use]
    pub fn with_patience(end: End, patience: Patience) -> Self {
        let held = Held::default();
        let port = Port::new(end, held.clone());
        let calls = Mutex::new(Calls::new(&port));
        Self {
            shared: Arc::new(Shared {
                port,
                calls,
                next_answer: AtomicU32::new(0),
                wanted: AtomicU32::new(0),
                learned: Learned::new(patience),
                #[cfg(feature = "tokio")]
                driver: driver::Slot::default(),
                held,
            }),
        }
    }

    /// Calls `method` and waits in this thread for the answer: spinning first, then asleep.
    ///
    /// # Errors
    /// [`CallError`]; nothing was started where [`CallError::started`] says so.
    #[inline]
    pub fn call(&self, method: u32, options: &CallOptions, payload: impl Payload) -> Result<Reply, CallError> {
        let mut request = Request::EMPTY;
        request.encode(&self.shared, options, payload)?;
        let mut hand = Hand::new(&self.shared);
        let ticket = hand.start(method, options, &mut request)?;
        let mut reply = Reply::EMPTY;
        hand.wait(ticket, options.deadline, &mut reply.answer)?;
        drop(hand);
        reply.check(&self.shared)?;
        Ok(reply)
    }

    /// Calls `method` and awaits the answer (inside a tokio runtime with I/O and time). Nothing is sent before the first poll.
    ///
    /// # Errors
    /// As [`Client::call`].
    #[cfg(feature = "tokio")]
    pub async fn call_async(
        &self,
        method: u32,
        options: &CallOptions,
        payload: impl Payload,
    ) -> Result<Reply, CallError> {
        self.start(method, options, payload)?.await
    }

    /// Sends a request and does not wait: the way to have several under way from one thread.
    ///
    /// # Errors
    /// If it was not sent. Nothing was started then.
    pub fn start(&self, method: u32, options: &CallOptions, payload: impl Payload) -> Result<Pending, CallError> {
        let mut request = Request::EMPTY;
        request.encode(&self.shared, options, payload)?;
        let ticket = Hand::new(&self.shared).start(method, options, &mut request)?;
        Ok(Pending::new(Arc::clone(&self.shared), ticket, options.deadline))
    }

    /// A block of `len` bytes of the own arena, to be filled in place and sent as a payload.
    ///
    /// # Errors
    /// `TooLarge` if the arena could never hold it, `Overloaded` if it does not now.
    pub fn loan(&self, len: usize) -> Result<Loan<'static>, CallError> {
        Loan::new(&self.shared.port.outbox, len)
    }

    /// Sends nothing more: later calls get `Draining`, those under way go on, and the callee is told that it can end when it has
    /// answered them. See [`Client::wait_idle`].
    pub fn close(&self) {
        let mut calls = self.shared.lock();
        let wake = calls.close(&self.shared.port);
        self.shared.unlock(calls);
        self.shared.port.wake(wake);
    }

    /// Waits in this thread until no call is under way. False if the deadline came first.
    #[must_use]
    pub fn wait_idle(&self, deadline: Option<Deadline>) -> bool {
        self.shared.wait_idle(deadline)
    }

    /// Waits until no call is under way.
    ///
    /// # Errors
    /// `Internal` if there is no descriptor to listen with.
    #[cfg(feature = "tokio")]
    pub async fn idle(&self) -> Result<(), CallError> {
        std::future::poll_fn(|cx| self.shared.poll_idle(cx)).await
    }

    /// Somebody knows that the peer's process has ended: what it answered is delivered, and the fate of every other call is
    /// decided now. Without this it is noticed by the wake socket.
    pub fn peer_gone(&self) {
        self.shared.peer_gone();
    }

    /// Calls under way, given up ones that the callee still holds included.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.shared.lock().outstanding()
    }

    /// Calls that were sent and have ended, well or not.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.shared.lock().finished()
    }

    /// Whether calls can be sent: not after [`Client::close`], the callee's close, its end, or a violation.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.lock().shut().is_none()
    }

    /// What the callee wrote that no honest one writes, if it did.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        match self.shared.lock().shut() {
            Some(Shut::Violation(violation)) => Some(*violation),
            Some(Shut::Here | Shut::ByCallee | Shut::PeerGone) | None => None,
        }
    }

    /// Resolves when the last clone, pending call, reply and loan of this end is gone and both segments are unmapped. To be
    /// asked for before the last clone is dropped.
    pub fn released(&self) -> Released {
        self.shared.held.released()
    }
}
