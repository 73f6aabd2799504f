//! The caller's end of a channel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use crate::{CallError, CallOptions, Deadline, End, Loan, Payload, View, Violation};

/// The caller's end of a channel, shared by any number of threads and tasks: clones are the same end.
#[derive(Clone, Debug)]
pub struct Client {}

/// A call that has been sent and not answered yet: wait for it, or await it. Dropped before that, the callee is asked to
/// cancel it, and its buffers stay in quarantine until the callee has answered.
#[derive(Debug)]
#[must_use = "dropping it cancels the call"]
pub struct Pending {}

/// The answer to a call.
#[derive(Debug)]
pub struct Reply {}

impl Client {
    /// Takes the caller's end.
    #[must_use]
    pub fn new(end: End) -> Self {
        drop(end);
        Self {}
    }
    /// Calls `method` and waits in this thread for the answer: spinning first, then asleep.
    ///
    /// # Errors
    /// [`CallError`]; nothing was started where [`CallError::started`] says so.
    pub fn call(&self, method: u32, options: &CallOptions, payload: impl Payload) -> Result<Reply, CallError> {
        self.start(method, options, payload)?.wait()
    }
    /// Calls `method` and awaits the answer (inside a tokio runtime with I/O and time).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_async(
        &self,
        method: u32,
        options: &CallOptions,
        payload: impl Payload,
    ) -> Result<Reply, CallError> {
        self.start(method, options, payload)?.await
    }
    /// Sends a request and does not wait.
    ///
    /// # Errors
    /// If it was not sent. Nothing was started then.
    pub fn start(&self, method: u32, options: &CallOptions, payload: impl Payload) -> Result<Pending, CallError> {
        let _ = (method, options, payload);
        Err(CallError::NoService)
    }
    /// A block of the own arena of `len` bytes, to be filled in place and sent as a payload.
    ///
    /// # Errors
    /// `TooLarge` if the arena could never hold it, `Overloaded` if it does not now.
    pub fn loan(&self, len: usize) -> Result<Loan, CallError> {
        let _ = len;
        Err(CallError::NoService)
    }
    /// Sends nothing more: later calls get `Draining`, those under way go on. See [`Client::wait_idle`].
    pub fn close(&self) {}
    /// Waits in this thread until no call is under way. False if the deadline came first.
    #[must_use]
    pub fn wait_idle(&self, deadline: Option<Deadline>) -> bool {
        let _ = deadline;
        true
    }
    /// Waits until no call is under way.
    pub async fn idle(&self) {}
    /// Somebody knows that the peer's process has ended: decides the fate of every call under way now.
    pub fn peer_gone(&self) {}
    /// Calls under way, cancelled ones that the callee still holds included.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        0
    }
    /// Calls that have been sent and have ended, well or not.
    #[must_use]
    pub fn finished(&self) -> u64 {
        0
    }
    /// Whether new calls can be sent at all: not after [`Client::close`], the callee's close, its end, or a violation.
    #[must_use]
    pub fn is_open(&self) -> bool {
        false
    }
    /// What the callee wrote that no honest one writes, if it did.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        None
    }
    /// Resolves when the last clone, pending call and reply of this end is gone and both segments are unmapped.
    pub fn released(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
}

impl Pending {
    /// Waits in this thread for the answer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn wait(self) -> Result<Reply, CallError> {
        Err(CallError::NoService)
    }
}

impl Future for Pending {
    type Output = Result<Reply, CallError>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Err(CallError::NoService))
    }
}

impl Reply {
    /// The message, where the callee wrote it.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        unreachable!("no reply is made")
    }
    /// Whether it is the method's own typed error.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        false
    }
    /// The result as a serde value, or the method's own typed error as one.
    ///
    /// # Errors
    /// `Internal` if it is no encoding of the type.
    pub fn decode<T: DeserializeOwned, E: DeserializeOwned>(&self) -> Result<Result<T, E>, CallError> {
        Err(CallError::NoService)
    }
    /// The result as a plain-old-data value.
    ///
    /// # Errors
    /// `Internal` if it is not as long as the type, or a typed error.
    pub fn pod<T: FromBytes>(&self) -> Result<T, CallError> {
        Err(CallError::NoService)
    }
}
