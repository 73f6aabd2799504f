//! How the descriptors of blobs come over, beside the rings.
//!
//! ```text
//!   sender                     bell                          receiver
//!   first blob: a socket pair  ── a ring with one end ─────▶ keeps it: the way
//!   each blob:  ── its descriptor, over the way ───────────▶ stays in the kernel
//!               ── a message, over the ring ───────────────▶ takes it out now
//! ```
//! A descriptor is sent before its message is published, and nobody sends another in between: so the one that lies first in the way
//! belongs to the message that is taken. What a peer sends and names in no message stays in the kernel's hands and on the sender's own account.
//! Of the bell, which is listened to at all times, a receiver takes one descriptor ever; the kernel drops the others.
#![allow(unsafe_code, reason = "a received descriptor becomes one that is owned")]

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

use super::memory::NoBlob;
use super::{Blob, Frozen};
use crate::port::{Heard, hear};
use crate::sync::{Mutex, lock};
use crate::{CallError, RETRY_AFTER, Violation};

/// The two ways of an end.
#[derive(Debug, Default)]
pub(crate) struct Carriage {
    incoming: OnceLock<OwnedFd>,
    outgoing: OnceLock<OwnedFd>,
    /// Held by who listens for the way: whoever finds the bell empty must not do so while another has the way in hand.
    listening: Mutex<()>,
    /// What has come with answers that nobody has looked at yet, by their positions.
    come: Mutex<HashMap<u32, HasCome>>,
}

/// A blob that a message has named; or why this process could not take it.
pub(crate) type HasCome = Result<Frozen, CallError>;

/// More hearings than an honest peer's bell can ever need.
const HEARINGS: usize = 8192;

impl Carriage {
    /// Sends the descriptor of a blob whose message is published next. Whoever sends has the ring to himself.
    ///
    /// # Errors
    /// `Overloaded` if descriptors or buffers are used up, `NotStarted` if the peer is gone.
    pub(crate) fn send(&self, bell: &OwnedFd, blob: &Blob) -> Result<(), CallError> {
        self.outgoing(bell).and_then(|way| send_with(way, &blob.0.0)).map_err(|error| match error {
            Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => CallError::NotStarted,
            _ => CallError::Overloaded { retry_after: RETRY_AFTER },
        })
    }

    fn outgoing(&self, bell: &OwnedFd) -> Result<&OwnedFd, Errno> {
        if let Some(way) = self.outgoing.get() {
            return Ok(way);
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        send_with(bell, &theirs)?;
        Ok(self.outgoing.get_or_init(|| ours))
    }

    /// Takes the blob of `len` bytes that the message just taken has named. Says beside whether rings were taken off the bell, which
    /// somebody else may be waiting for.
    pub(crate) fn take(&self, bell: &OwnedFd, len: u32) -> (Result<HasCome, Violation>, Rings) {
        let mut rings = Rings::Untouched;
        for _ in 0..HEARINGS {
            if self.incoming.get().is_some() {
                break;
            }
            rings = Rings::Taken;
            if hear(bell, self) != Heard::More {
                break;
            }
        }
        let Some(way) = self.incoming.get() else {
            return (Err(Violation::Blob { reason: "a blob's message without a way for blobs" }), rings);
        };
        let mut byte = [0];
        let taken = match receive(way, &mut byte) {
            Ok(Received { descriptor: Some(fd), .. }) => match Frozen::map(&fd, len as usize) {
                Ok(frozen) => Ok(Ok(frozen)),
                Err(NoBlob::Sender(reason)) => Err(Violation::Blob { reason }),
                Err(NoBlob::Here(error)) => Ok(Err(no_room(&error.to_string()))),
            },
            Ok(Received { cut: true, .. }) => Ok(Err(no_room("no descriptor is left"))),
            Ok(Received { cut: false, .. }) | Err(_) => {
                Err(Violation::Blob { reason: "a blob's message without a descriptor" })
            }
        };
        (taken, rings)
    }

    /// Listens to the bell, and keeps the first descriptor that comes: the peer's way.
    pub(crate) fn listen(&self, bell: &impl AsRawFd, rings: &mut [u8]) -> Result<(usize, Heard), Errno> {
        let _alone = lock(&self.listening);
        let received = receive(bell, rings)?;
        let Some(way) = received.descriptor else { return Ok((received.bytes, Heard::Quiet)) };
        let _ = self.incoming.set(way);
        // The kernel stops behind a descriptor, whatever follows it.
        Ok((received.bytes, Heard::More))
    }

    /// Whether the peer's way is known, so that nothing but rings can come over the bell.
    #[inline]
    pub(crate) fn has_way(&self) -> bool {
        self.incoming.get().is_some()
    }

    /// Keeps what has come with the answer at `position`.
    pub(crate) fn keep(&self, position: u32, come: HasCome) {
        lock(&self.come).insert(position, come);
    }

    /// What has come with the answer at `position`, once.
    pub(crate) fn collect(&self, position: u32) -> Option<HasCome> {
        lock(&self.come).remove(&position)
    }
}

/// Whether looking for a blob has taken rings off the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Rings {
    Untouched,
    Taken,
}

#[cold]
fn no_room(reason: &str) -> CallError {
    CallError::Internal(format!("a blob came and could not be taken: {reason}"))
}

/// Sends a byte with a descriptor.
pub(crate) fn send_with(socket: &OwnedFd, fd: &OwnedFd) -> Result<(), Errno> {
    let descriptors = [fd.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&descriptors)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &message, flags, None).map(drop)
}

#[derive(Debug)]
struct Received {
    bytes: usize,
    descriptor: Option<OwnedFd>,
    /// More came with it than could be taken.
    cut: bool,
}

fn receive(socket: &impl AsRawFd, bytes: &mut [u8]) -> Result<Received, Errno> {
    let mut space = cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut descriptor = None;
    // Where the space is rounded up for alignment, two descriptors may come: the others are closed.
    let rights = message.cmsgs().into_iter().flatten().filter_map(|it| match it {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    for fd in rights.flatten() {
        // SAFETY: the kernel has just installed this descriptor for this message; nobody else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        descriptor.get_or_insert(fd);
    }
    Ok(Received { bytes: message.bytes, descriptor, cut: message.flags.contains(MsgFlags::MSG_CTRUNC) })
}
