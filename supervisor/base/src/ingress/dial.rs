//! A connection that a worker's init made inside the worker's network namespace and passes out.
//!
//! The descriptor comes from a process that runs as the tenant. Its open file description may be shared with the sender, who could
//! clear O_NONBLOCK on it at any time, so every call on it says MSG_DONTWAIT and relies on no flag.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mortise_control::socket;
use nix::sys::socket::{
    MsgFlags, Shutdown, SockType, SockaddrStorage, getpeername, getsockopt, recv, send, shutdown, sockopt,
};
use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Receives one byte with one descriptor on a connection to init, and takes the descriptor as a stream.
///
/// # Errors
/// Init has closed the connection or sent no descriptor (the program did not accept), or it is no connected TCP socket.
pub(crate) async fn receive(init: UnixStream) -> io::Result<Tunnel> {
    let mut byte = [0; 1];
    let fds = init
        .async_io(Interest::READABLE, || match socket::recv::<IgnoredAny>(init.as_fd(), &mut byte) {
            Ok((_, fds)) => Ok(fds),
            Err(socket::SocketError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(socket::SocketError::Closed) => Err(io::ErrorKind::ConnectionRefused.into()),
            Err(error) => Err(io::Error::other(error)),
        })
        .await?;
    let Some(fd) = fds.into_iter().next() else {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the program does not accept connections"));
    };
    Tunnel::new(fd)
}

/// A TCP connection whose file description may be shared with a process that cannot be trusted.
#[derive(Debug)]
pub(crate) struct Tunnel(TcpStream);

impl Tunnel {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let kind = getsockopt(&fd, sockopt::SockType)?;
        let peer: SockaddrStorage = getpeername(fd.as_raw_fd())?;
        if kind != SockType::Stream || (peer.as_sockaddr_in().is_none() && peer.as_sockaddr_in6().is_none()) {
            let what = "the worker's init sent something else than a TCP connection";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true)?;
        // Without it small requests wait for acknowledgements; a failure costs only that.
        let _ = stream.set_nodelay(true);
        TcpStream::from_std(stream).map(Self)
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            let read = || Ok(recv(self.0.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT)?);
            match self.0.try_io(Interest::READABLE, read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|it| buffer.advance(it))),
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match self.0.try_io(Interest::WRITABLE, || Ok(send(self.0.as_raw_fd(), bytes, flags)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.0.as_raw_fd(), Shutdown::Write)?))
    }
}
