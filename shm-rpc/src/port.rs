//! What both ends of a channel have: an own segment to write, the peer's to read, a bell to ring.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::CallError;
use crate::arena::{Kept, Outbox};
use crate::blob::Carriage;
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
    /// Shared with whoever listens to the bell.
    pub(crate) carriage: Arc<Carriage>,
}

/// What was heard on the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Heard {
    /// It may have rung; everything that was queued has been taken.
    Quiet,
    /// It has rung so often that more may be queued: it must be listened to again.
    More,
    /// The peer's end is closed: the peer is gone.
    PeerGone,
}

impl Port {
    pub(crate) fn new(end: End, held: Held) -> Self {
        Self { outbox: Outbox::new(end.own, held), peer: end.peer, bell: end.wake, carriage: Arc::default() }
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

    /// Sends the descriptor of a blob whose message is published next.
    ///
    /// # Errors
    /// As [`Carriage::send`].
    pub(crate) fn send_blob(&self, kept: Kept) -> Result<(), CallError> {
        let blob = self.outbox.take_kept(kept).ok_or_else(|| CallError::Internal("the blob is not kept".into()))?;
        self.carriage.send(&self.bell, &blob)
    }

    /// Whether the peer's end of the bell is closed.
    pub(crate) fn peer_is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.bell.as_fd(), PollFlags::POLLHUP)];
        let found = poll(&mut fds, PollTimeout::ZERO);
        found.is_ok_and(|n| n > 0) && fds[0].any().unwrap_or(true)
    }
}

/// The most rings that are taken at a time. An honest peer rings once for each sleep; one that rings without end must not keep its
/// listener from anything else.
const RINGS: usize = 64;

/// Takes what is queued on a bell, up to [`RINGS`]; and the peer's way for blobs, if it comes with it.
pub(crate) fn hear(bell: &impl AsRawFd, carriage: &Carriage) -> Heard {
    let mut rings = [0; RINGS];
    let taken = if carriage.has_way() {
        recv(bell.as_raw_fd(), &mut rings, MsgFlags::MSG_DONTWAIT).map(|bytes| (bytes, Heard::Quiet))
    } else {
        carriage.listen(bell, &mut rings)
    };
    match taken {
        Ok((0, _)) => Heard::PeerGone,
        Ok((RINGS, _)) | Err(Errno::EINTR) => Heard::More,
        Ok((_, heard)) => heard,
        Err(Errno::EAGAIN) => Heard::Quiet,
        Err(_) => Heard::PeerGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment;

    #[test]
    fn a_bell_that_rings_without_end_is_heard_in_bounds() {
        let (ours, theirs) = segment::wake_pair().unwrap();
        let mut rings = 0;
        while let Ok(sent) = send(theirs.as_raw_fd(), &[0; 4096], MsgFlags::MSG_DONTWAIT) {
            rings += sent;
        }
        assert!(rings > 10 * RINGS);
        assert_eq!(hear(&ours, &Carriage::default()), Heard::More);
        drop(theirs);
        let mut left = 0;
        while let n @ 1.. = recv(ours.as_raw_fd(), &mut [0; 4096], MsgFlags::MSG_DONTWAIT).unwrap() {
            left += n;
        }
        assert_eq!(left, rings - RINGS);
        assert_eq!(hear(&ours, &Carriage::default()), Heard::PeerGone);
    }
}
