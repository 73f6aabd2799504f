//! What both ends of a channel have: an own segment to write, the peer's to read, a bell to ring.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

#[cfg(feature = "tokio")]
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
#[cfg(feature = "tokio")]
use nix::sys::socket::recv;
use nix::sys::socket::{MsgFlags, send};

use crate::arena::Outbox;
use crate::control::{Barrier, FUTEX, SOCKET, Wake};
use crate::futex;
use crate::mapped::{End, PeerSegment};
use crate::release::Held;
use crate::sync::Arc;

/// One end of a channel, taken apart.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) peer: PeerSegment,
    pub(crate) bell: OwnedFd,
}

/// What was heard on the bell.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Heard {
    /// It may have rung; everything that was queued has been taken.
    Quiet,
    /// The peer's end is closed: the peer is gone.
    PeerGone,
}

impl Port {
    pub(crate) fn new(end: End, held: Held) -> Self {
        Self { outbox: Outbox::new(end.own, held), peer: end.peer, bell: end.wake }
    }

    /// The barrier of a sleeper whose peer may have left out its own, as the own segment has told it.
    pub(crate) fn sleepers_barrier(&self) -> Barrier {
        if futex::has_everyones_barrier() { Barrier::Everyones } else { Barrier::Own }
    }

    /// Wakes sleepers of the peer.
    #[inline]
    pub(crate) fn wake(&self, wake: Wake) {
        if wake != Wake::NOBODY {
            self.wake_somebody(wake);
        }
    }

    #[cold]
    fn wake_somebody(&self, wake: Wake) {
        if wake.bits & FUTEX != 0 {
            self.outbox.memory.wake(wake.offset);
        }
        if wake.bits & SOCKET != 0 {
            // A full socket buffer is a bell that has been rung; a closed one is found out by whoever listens.
            let _ = send(self.bell.as_raw_fd(), &[0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        }
    }

    /// Whether the peer's end of the bell is closed.
    pub(crate) fn peer_is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.bell.as_fd(), PollFlags::POLLHUP)];
        let found = poll(&mut fds, PollTimeout::ZERO);
        found.is_ok_and(|n| n > 0) && fds[0].any().unwrap_or(true)
    }
}

/// Takes everything that is queued on a bell.
#[cfg(feature = "tokio")]
pub(crate) fn hear(bell: &impl AsRawFd) -> Heard {
    let mut bytes = [0; 64];
    loop {
        match recv(bell.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Heard::PeerGone,
            Ok(n) if n == bytes.len() => {}
            Err(Errno::EINTR) => {}
            Ok(_) | Err(Errno::EAGAIN) => return Heard::Quiet,
            Err(_) => return Heard::PeerGone,
        }
    }
}
