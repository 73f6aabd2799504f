//! Listening to the wake socket in a tokio task.
#![allow(unsafe_code, reason = "registering a descriptor with tokio is a promise to keep it open")]

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::port::{Heard, hear};

/// A duplicate of an end's wake socket, so that listening keeps nothing else alive.
#[derive(Debug)]
pub(crate) struct Bell(AsyncFd<OwnedFd>);

impl Bell {
    /// Listens to a duplicate of `socket`.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub(crate) fn new(socket: &OwnedFd) -> io::Result<Self> {
        let socket = socket.try_clone()?;
        // Readable only: otherwise every byte that the peer takes would wake this side.
        // SAFETY: the descriptor moves into the `AsyncFd`, which closes it after it has deregistered it, and is never
        // replaced, because nothing here hands out `&mut` of it.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    /// Ready when it has rung since the last time, or the peer is gone.
    pub(crate) fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        let mut guard = ready!(self.0.poll_read_ready(cx))?;
        let heard = hear(self.0.get_ref());
        // What is left brings no news of its own: neither the next ring nor the end of the peer would be heard.
        if heard != Heard::More {
            guard.clear_ready();
        }
        Poll::Ready(Ok(heard))
    }
}
