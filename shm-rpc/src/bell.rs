//! Listening to the wake socket in a tokio task.
#![allow(unsafe_code, reason = "registering a descriptor with tokio is a promise to keep it open")]

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::blob::Carriage;
use crate::port::{Heard, Port, hear};
use crate::sync::Arc;

/// A duplicate of an end's wake socket, so that listening keeps nothing else alive.
#[derive(Debug)]
pub(crate) struct Bell {
    socket: AsyncFd<OwnedFd>,
    carriage: Arc<Carriage>,
}

impl Bell {
    /// Listens to a duplicate of a port's socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O.
    pub(crate) fn new(port: &Port) -> io::Result<Self> {
        let socket = port.bell.try_clone()?;
        // Readable only: otherwise every byte that the peer takes would wake this side.
        // SAFETY: the descriptor moves into the `AsyncFd`, which closes it after it has deregistered it, and is never
        // replaced, because nothing here hands out `&mut` of it.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        let socket = registered.map_err(|error| error.into_parts().1)?;
        Ok(Self { socket, carriage: Arc::clone(&port.carriage) })
    }

    /// Ready when it has rung since the last time, or the peer is gone.
    pub(crate) fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        let mut guard = ready!(self.socket.poll_read_ready(cx))?;
        let heard = hear(self.socket.get_ref(), &self.carriage);
        // What is left brings no news of its own: neither the next ring nor the end of the peer would be heard.
        if heard != Heard::More {
            guard.clear_ready();
        }
        Poll::Ready(Ok(heard))
    }
}
