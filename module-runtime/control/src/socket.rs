//! Packets and descriptors over a `SOCK_SEQPACKET` Unix socket.
//!
//! Nothing here blocks if the socket is non-blocking, nothing allocates what a peer announces, and every descriptor that
//! arrives is close-on-exec from its first moment.
#![allow(unsafe_code, reason = "descriptors that arrive are given their owner here")]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Serialize, de::DeserializeOwned};

use crate::{MAX_FDS, MAX_PACKET};

/// Why a packet was not sent or not understood.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket would block: try again when it is ready.
    #[error("the socket would block")]
    WouldBlock,
    /// The peer has closed its end.
    #[error("the peer closed the control connection")]
    Closed,
    /// A packet longer than [`MAX_PACKET`], a message longer than its bound, or too many descriptors: the sender is to blame.
    #[error("a control message of {0} bytes, or its descriptors, are more than is allowed")]
    TooLarge(usize),
    /// Bytes that are no message: the sender is to blame.
    #[error("a control packet that is no message: {0}")]
    Malformed(String),
    /// The kernel refused.
    #[error("control socket: {0}")]
    Os(#[from] Errno),
}

fn from_errno(errno: Errno) -> SocketError {
    match errno {
        Errno::EAGAIN => SocketError::WouldBlock,
        Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => SocketError::Closed,
        other => SocketError::Os(other),
    }
}

/// Sends one message with its descriptors.
///
/// # Errors
/// [`SocketError::WouldBlock`] when the peer's queue is full (nothing was sent), [`SocketError::TooLarge`] when the
/// encoded message or the number of descriptors is over the bounds.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), SocketError> {
    let bytes = rmp_serde::to_vec_named(message).map_err(|e| SocketError::Malformed(e.to_string()))?;
    send_bytes(socket, &bytes, fds)
}

/// Sends one encoded message with its descriptors; see [`send`].
///
/// # Errors
/// As [`send`].
pub fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), SocketError> {
    if bytes.len() > MAX_PACKET || fds.len() > MAX_FDS {
        return Err(SocketError::TooLarge(bytes.len()));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(from_errno(errno)),
        }
    }
}

/// Receives one message and its descriptors: the worker's side.
///
/// `buffer` must hold [`MAX_PACKET`] bytes.
///
/// # Errors
/// [`SocketError::Closed`] at the end, [`SocketError::TooLarge`] and [`SocketError::Malformed`] for what the peer got wrong.
pub fn recv<T: DeserializeOwned>(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(T, Vec<OwnedFd>), SocketError> {
    let (len, fds) = recv_bytes(socket, buffer)?;
    Ok((decode(&buffer[..len])?, fds))
}

/// Receives one message and refuses descriptors: the supervisor's side. The kernel closes whatever a tenant attached.
///
/// # Errors
/// As [`recv`].
pub fn recv_without_fds<T: DeserializeOwned>(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<T, SocketError> {
    let len = recv_bytes_without_fds(socket, buffer)?;
    decode(&buffer[..len])
}

/// One packet and its descriptors.
pub(crate) fn recv_bytes(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), SocketError> {
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    recv_packet(socket, buffer, &mut control)
}

/// One packet; the kernel closes whatever descriptors came with it.
pub(crate) fn recv_bytes_without_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, SocketError> {
    recv_packet(socket, buffer, &mut []).map(|(len, _)| len)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SocketError> {
    rmp_serde::from_slice(bytes).map_err(|e| SocketError::Malformed(e.to_string()))
}

fn recv_packet(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    control: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), SocketError> {
    loop {
        let mut slices = [IoSliceMut::new(buffer)];
        let room = (!control.is_empty()).then_some(&mut *control);
        let received = match recvmsg::<()>(socket.as_raw_fd(), &mut slices, room, MsgFlags::MSG_CMSG_CLOEXEC) {
            Ok(it) => it,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(from_errno(errno)),
        };
        let mut fds = Vec::new();
        for message in received.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just installed these numbers for us alone; nothing else in this process can
                // know them before this function returns, so each gets exactly one owner.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let len = received.bytes;
        return match len {
            0 => Err(SocketError::Closed),
            _ if received.flags.contains(MsgFlags::MSG_TRUNC) => Err(SocketError::TooLarge(len)),
            _ => Ok((len, fds)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::ToSupervisor;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_message_and_its_descriptor_arrive() {
        let (a, b) = pair();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(a.as_fd(), &ToSupervisor::Ready, &[file.as_fd()]).unwrap();
        let (message, fds) = recv::<ToSupervisor>(b.as_fd(), &mut vec![0; MAX_PACKET]).unwrap();
        assert!(matches!(message, ToSupervisor::Ready));
        assert_eq!(fds.len(), 1);
    }

    #[test]
    fn the_supervisor_side_keeps_no_descriptor_that_a_tenant_sends() {
        let (a, b) = pair();
        let file = std::fs::File::open("/dev/null").unwrap();
        let before = open_descriptors();
        for _ in 0..64 {
            send(a.as_fd(), &ToSupervisor::Ready, &[file.as_fd(); MAX_FDS]).unwrap();
            recv_without_fds::<ToSupervisor>(b.as_fd(), &mut vec![0; MAX_PACKET]).unwrap();
        }
        assert!(open_descriptors() < before + 16, "other tests run beside this one, but 1,024 descriptors would show");
    }

    #[test]
    fn what_is_too_large_malformed_or_over_is_told_apart() {
        let (a, b) = pair();
        let mut buffer = vec![0; MAX_PACKET];
        assert!(matches!(send_bytes(a.as_fd(), &vec![0; MAX_PACKET + 1], &[]), Err(SocketError::TooLarge(_))));
        assert!(matches!(recv_without_fds::<ToSupervisor>(b.as_fd(), &mut buffer), Err(SocketError::WouldBlock)));
        send_bytes(a.as_fd(), &[0xc1; 100], &[]).unwrap();
        assert!(matches!(recv_without_fds::<ToSupervisor>(b.as_fd(), &mut buffer), Err(SocketError::Malformed(_))));
        send_bytes(a.as_fd(), &[0; 2000], &[]).unwrap();
        assert!(matches!(
            recv_without_fds::<ToSupervisor>(b.as_fd(), &mut buffer[..100]),
            Err(SocketError::TooLarge(_))
        ));
        drop(a);
        assert!(matches!(recv_without_fds::<ToSupervisor>(b.as_fd(), &mut buffer), Err(SocketError::Closed)));
    }

    #[test]
    fn a_full_queue_would_block_and_loses_nothing() {
        let (a, b) = pair();
        let mut sent = 0;
        while send(a.as_fd(), &ToSupervisor::Ready, &[]).is_ok() {
            sent += 1;
        }
        let mut buffer = vec![0; MAX_PACKET];
        for _ in 0..sent {
            recv_without_fds::<ToSupervisor>(b.as_fd(), &mut buffer).unwrap();
        }
        assert!(matches!(recv_without_fds::<ToSupervisor>(b.as_fd(), &mut buffer), Err(SocketError::WouldBlock)));
    }
}
