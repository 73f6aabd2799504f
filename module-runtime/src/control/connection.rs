//! The socket to the supervisor, in a tokio task.
#![allow(unsafe_code, reason = "registering a descriptor with tokio is a promise to keep it open")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use mortise_control::parts::{Assembly, cut};
use mortise_control::socket::{self, SocketError};
use mortise_control::{MAX_MESSAGE, MAX_PACKET, MAX_REPORT, ToSupervisor, ToWorker};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect};
use tokio::io::unix::AsyncFd;

/// A connection. One task uses it.
pub(super) struct Connection {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    arriving: Assembly,
}

impl Connection {
    /// Connects to the supervisor's socket for this worker.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        // A Unix socket connects at once, or there is no room in the backlog, which is tried again later.
        match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => return Err(error.into()),
        }
        // SAFETY: the descriptor moves into the `AsyncFd`, which closes it after it has deregistered it, and is never replaced:
        // nothing here asks for `&mut` of it, and `OwnedFd` always answers with the same number.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)?;
        Ok(Self { fd, buffer: vec![0; MAX_PACKET], arriving: Assembly::new(MAX_MESSAGE) })
    }

    /// The next message and its descriptors. Nothing is lost if this is dropped while it waits.
    pub(super) async fn recv(&mut self) -> Result<(ToWorker, Vec<OwnedFd>), SocketError> {
        loop {
            let mut ready = self.fd.readable().await.map_err(into_socket_error)?;
            match self.arriving.recv(self.fd.get_ref().as_fd(), &mut self.buffer) {
                Ok(Some(received)) => return Ok(received),
                Ok(None) => {}
                Err(SocketError::WouldBlock) => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a message, waiting for room. To be awaited to its end, or the connection is of no use any more.
    pub(super) async fn send(&self, message: &ToSupervisor) -> Result<(), SocketError> {
        let bytes = rmp_serde::to_vec_named(message).map_err(|e| SocketError::Malformed(e.to_string()))?;
        for packet in cut(bytes, 0, MAX_REPORT)? {
            self.send_packet(&packet.bytes).await?;
        }
        Ok(())
    }

    async fn send_packet(&self, bytes: &[u8]) -> Result<(), SocketError> {
        loop {
            let mut ready = self.fd.writable().await.map_err(into_socket_error)?;
            match socket::send_bytes(self.fd.get_ref().as_fd(), bytes, &[]) {
                Err(SocketError::WouldBlock) => ready.clear_ready(),
                other => return other,
            }
        }
    }
}

fn into_socket_error(error: io::Error) -> SocketError {
    SocketError::Os(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}
