//! The callee's end of a channel.

use std::future::Future;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use zerocopy::FromBytes;

use crate::{CallError, CallOptions, Deadline, End, Loan, Payload, View, Violation};

/// The callee's end of a channel.
#[derive(Debug)]
pub struct Server {}

/// What other threads and tasks can do with a [`Server`] while it serves.
#[derive(Clone, Debug)]
pub struct ServerControl {}

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
    /// The caller said that it sends nothing more.
    CallerDone,
    /// The caller's process has ended.
    CallerGone,
}

/// A call to be answered: by [`Call::reply`], [`Call::fault`] or [`Call::fail`], now or later, from any thread, in any
/// order. Dropped without an answer, it answers `Internal`.
#[derive(Debug)]
pub struct Call<'a>(PhantomData<&'a ()>);

impl Server {
    /// Takes the callee's end.
    #[must_use]
    pub fn new(end: End) -> Self {
        drop(end);
        Self {}
    }
    /// For other threads and tasks.
    #[must_use]
    pub fn control(&self) -> ServerControl {
        ServerControl {}
    }
    /// Serves in this thread until the channel ends.
    ///
    /// # Errors
    /// What the caller wrote that no honest one writes.
    pub fn serve(&mut self, handler: impl FnMut(Call<'_>)) -> Result<Served, Violation> {
        let _ = handler;
        Ok(Served { served: 0, ended: Ended::Closed })
    }
    /// Serves in this task until the channel ends. Handlers run concurrently inside the task; each is polled once at once, so
    /// one that is ready answers without a detour. One whose call is cancelled is dropped.
    ///
    /// # Errors
    /// What the caller wrote that no honest one writes.
    pub async fn serve_async<F: Future<Output = ()> + Send>(
        &mut self,
        handler: impl FnMut(Call<'static>) -> F + Send,
    ) -> Result<Served, Violation> {
        let _ = handler;
        Ok(Served { served: 0, ended: Ended::Closed })
    }
}

impl ServerControl {
    /// Closes the caller's ring: what was sent before is served, what is sent later certainly not. Serving then ends.
    pub fn close(&self) {}
    /// Somebody knows that the caller's process has ended: serving ends as soon as what is there is done.
    pub fn peer_gone(&self) {}
    /// Calls answered so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        0
    }
    /// Calls taken and not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        0
    }
    /// Resolves when the server, its calls and loans are gone and both segments are unmapped.
    pub fn released(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
}

impl<'a> Call<'a> {
    /// Which method.
    #[must_use]
    pub fn method(&self) -> u32 {
        0
    }
    /// When its caller stops waiting.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        None
    }
    /// Deadline, trace and tags, for calls made on its behalf.
    #[must_use]
    pub fn options(&self) -> CallOptions {
        CallOptions::NONE
    }
    /// The message, where the caller wrote it.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        unreachable!("no call is made")
    }
    /// The message as a serde value.
    ///
    /// # Errors
    /// `Invalid`, to be sent back by [`Call::fail`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        Err(CallError::NoService)
    }
    /// The message as a plain-old-data value.
    ///
    /// # Errors
    /// `Invalid`, to be sent back by [`Call::fail`].
    pub fn pod<T: FromBytes>(&self) -> Result<T, CallError> {
        Err(CallError::NoService)
    }
    /// Whether the caller has lost interest.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        false
    }
    /// A block of the own arena of `len` bytes, to be filled in place and sent as the reply.
    ///
    /// # Errors
    /// `TooLarge` if the arena could never hold it, `Overloaded` if it does not now.
    pub fn loan(&self, len: usize) -> Result<Loan, CallError> {
        let _ = len;
        Err(CallError::NoService)
    }
    /// Answers with the result. If it cannot be encoded or sent, the caller gets that error instead.
    pub fn reply(self, payload: impl Payload) {
        let _ = payload;
    }
    /// Answers with the method's own typed error.
    pub fn fault(self, payload: impl Payload) {
        let _ = payload;
    }
    /// Answers with an error.
    pub fn fail(self, error: &CallError) {
        let _ = error;
    }
    /// Makes it independent of the server's borrow, so that another thread can answer it.
    #[must_use]
    pub fn detach(self) -> Call<'static> {
        Call(PhantomData)
    }
}
