//! Registering descriptors that have one owner with the event loop.
#![allow(unsafe_code, reason = "tokio asks for a promise that the type of the descriptor keeps")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a listener for connections.
pub(super) fn listener(listener: UnixListener) -> io::Result<AsyncFd<UnixListener>> {
    // SAFETY: a UnixListener owns one descriptor from its making to its end, and nothing here takes it out of the AsyncFd or
    // replaces it: `AsyncFd::get_mut` is never called on one.
    Ok(unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?)
}

/// Watches a connection for packets and for room.
pub(super) fn connection(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: as above; it lies in a `Socket` behind an Arc, so no `&mut` to it is to be had.
    Ok(unsafe { AsyncFd::register(socket) }?)
}
