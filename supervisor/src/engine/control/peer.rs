//! Who has connected, by the kernel's word.

use std::os::fd::AsFd;

use mortise_control::WorkerId;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::cgroup::Group;

/// Whose socket it is, and who may connect to it.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Identity {
    /// The worker.
    pub worker: WorkerId,
    /// The uid it runs as.
    pub uid: u32,
    /// Its group.
    pub group: Group,
}

impl Identity {
    /// Whether the process at the other end is one of the worker's. It is asked as of its `connect`: one that has ended since and
    /// whose pid is another's now is not in the group, or is another process of the same worker.
    pub fn check(&self, socket: impl AsFd) -> Result<(), String> {
        let peer = getsockopt(&socket, PeerCredentials).map_err(|errno| format!("its credentials: {errno}"))?;
        if peer.uid() != self.uid {
            return Err(format!("it has uid {}, the worker has {}", peer.uid(), self.uid));
        }
        match u32::try_from(peer.pid()) {
            Ok(pid) if pid != 0 && self.group.contains(pid) => Ok(()),
            Ok(_) | Err(_) => Err(format!("the process {} is not in the worker's group", peer.pid())),
        }
    }
}
