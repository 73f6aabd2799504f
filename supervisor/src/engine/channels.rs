//! The memory of channels that are being made: held from `Attach` to `Open`, and mapped never.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mortise_control::{ChannelId, ChannelRole, Geometry};
use nix::sys::stat::fstat;
use shm_rpc::segment;

use crate::failpoint::{self, Point};

/// Segments that are not sealed yet, by channel.
#[derive(Debug, Default)]
pub(super) struct Channels {
    held: HashMap<ChannelId, Segments>,
}

/// Both segments of a channel.
#[derive(Clone, Debug)]
pub(super) struct Segments {
    /// Written by the caller.
    pub caller: Arc<OwnedFd>,
    /// Written by the callee.
    pub callee: Arc<OwnedFd>,
    /// Their lengths, the caller's first.
    lengths: [i64; 2],
}

/// A segment that is not what was made: only its writer has had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tampered {
    /// Who was to write it.
    pub writer: ChannelRole,
    /// What was found.
    pub what: String,
}

/// What each end gets with its `Attach`: its own segment, its end of the wake socket.
#[derive(Debug)]
pub(super) struct Ends {
    pub caller: Vec<Arc<OwnedFd>>,
    pub callee: Vec<Arc<OwnedFd>>,
}

impl Channels {
    /// Makes the memory of a channel and holds it.
    ///
    /// # Errors
    /// A geometry that is none, or the kernel's answer: no memory, no descriptors. Nothing is held then.
    pub fn make(&mut self, channel: ChannelId, caller: Geometry, callee: Geometry) -> io::Result<Ends> {
        let (caller, callee) = (create(caller)?, create(callee)?);
        let lengths = [fstat(&caller)?.st_size, fstat(&callee)?.st_size];
        let segments = Segments { caller, callee, lengths };
        let (caller, callee) = segment::wake_pair()?;
        let ends = Ends {
            caller: vec![Arc::clone(&segments.caller), Arc::new(caller)],
            callee: vec![Arc::clone(&segments.callee), Arc::new(callee)],
        };
        self.held.insert(channel, segments);
        Ok(ends)
    }

    /// Seals both segments and lets go of them. None: there is no such channel here (any more).
    ///
    /// # Errors
    /// One of them cannot be sealed, or has another length than it was made with. Nothing is held then either.
    pub fn seal(&mut self, channel: ChannelId) -> Option<Result<Segments, Tampered>> {
        let segments = self.held.remove(&channel)?;
        let [caller, callee] = segments.lengths;
        let sealed = seal(&segments.caller, caller, ChannelRole::Caller)
            .and_then(|()| seal(&segments.callee, callee, ChannelRole::Callee));
        Some(sealed.map(|()| segments))
    }

    /// Lets go of a channel, if it is held.
    pub fn forget(&mut self, channel: ChannelId) {
        self.held.remove(&channel);
    }
}

/// The length is looked at behind the seal, when nobody can change it any more.
fn seal(segment: &OwnedFd, made: i64, writer: ChannelRole) -> Result<(), Tampered> {
    let tampered = |what| Tampered { writer, what };
    let sealed = failpoint::reach(Point::Seal).and_then(|()| segment::seal(segment));
    sealed.map_err(|error| tampered(format!("it cannot be sealed: {error}")))?;
    let found = fstat(segment).map_err(|errno| tampered(errno.to_string()))?.st_size;
    if found == made { Ok(()) } else { Err(tampered(format!("it has {found} bytes instead of {made}"))) }
}

fn create(geometry: Geometry) -> io::Result<Arc<OwnedFd>> {
    let geometry = shm_rpc::Geometry::new(geometry.slots, geometry.arena)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    segment::create(geometry).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Geometry = Geometry { slots: 64, arena: 1 << 16 };

    #[test]
    fn both_ends_get_a_segment_and_a_socket_and_seal_ends_the_holding() {
        let mut channels = Channels::default();
        let ends = channels.make(ChannelId(1), SIZES, SIZES).unwrap();
        assert_eq!((ends.caller.len(), ends.callee.len()), (2, 2));
        let segments = channels.seal(ChannelId(1)).unwrap().unwrap();
        assert!(Arc::ptr_eq(&segments.caller, &ends.caller[0]), "the caller's own segment is what its peer gets");
        assert!(Arc::ptr_eq(&segments.callee, &ends.callee[0]));
        let write = nix::unistd::write(&*segments.caller, b"x");
        assert_eq!(write, Err(nix::errno::Errno::EPERM), "it is sealed");
        assert!(channels.seal(ChannelId(1)).is_none());
        assert!(channels.held.is_empty());
    }

    #[test]
    fn a_segment_that_its_writer_has_changed_is_its_writer_s_fault() {
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        type Change = fn(&OwnedFd);
        let changes: [(Change, &str); 3] = [
            (|it| nix::unistd::ftruncate(it, 0).unwrap(), "it has 0 bytes instead of"),
            (|it| nix::unistd::ftruncate(it, 1 << 30).unwrap(), "it has 1073741824 bytes instead of"),
            (|it| _ = fcntl(it, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).unwrap(), "it cannot be sealed: "),
        ];
        for (change, what) in changes {
            for writer in [ChannelRole::Caller, ChannelRole::Callee] {
                let mut channels = Channels::default();
                let ends = channels.make(ChannelId(1), SIZES, SIZES).unwrap();
                change(if writer == ChannelRole::Caller { &ends.caller[0] } else { &ends.callee[0] });
                let tampered = channels.seal(ChannelId(1)).unwrap().unwrap_err();
                assert_eq!(tampered.writer, writer, "{tampered:?}");
                assert!(tampered.what.starts_with(what), "{tampered:?}");
                assert!(channels.held.is_empty());
            }
        }
    }

    #[test]
    fn a_forgotten_or_impossible_channel_is_not_held() {
        let mut channels = Channels::default();
        channels.make(ChannelId(1), SIZES, SIZES).unwrap();
        channels.forget(ChannelId(1));
        assert!(channels.seal(ChannelId(1)).is_none());
        assert!(channels.make(ChannelId(2), Geometry { slots: 3, arena: 0 }, SIZES).is_err());
        assert!(channels.held.is_empty());
    }
}
