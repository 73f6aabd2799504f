//! A channel that is used as it is meant to be, without an end.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use mortise_control::{ChannelId, Geometry, ToSupervisor, ToWorker};
use shm_rpc::{CallError, CallOptions, Client, End, OwnSegment, PeerSegment, Pending};

use crate::raw::{Raw, found};

/// So many refusals are enough to say so.
const REFUSALS: u64 = 10_000;

/// A caller's end of the first channel that is opened, and its bell.
fn client(raw: &mut Raw) -> Option<(Client, OwnedFd)> {
    let mut half: Option<(ChannelId, OwnSegment, OwnedFd, Geometry)> = None;
    while let Some((message, mut descriptors)) = raw.hear() {
        match message {
            ToWorker::Attach(attach) if half.is_none() => {
                let [segment, wake] = <[OwnedFd; 2]>::try_from(descriptors).expect("a segment and a wake socket");
                let own = OwnSegment::map(segment, geometry(attach.caller)).expect("the segment can be mapped");
                raw.say(&ToSupervisor::Mapped { channel: attach.channel });
                half = Some((attach.channel, own, wake, attach.callee));
            }
            ToWorker::Open { channel } => {
                let (_, own, wake, callee) = half.take().filter(|it| it.0 == channel)?;
                let peer = PeerSegment::map(descriptors.pop()?, geometry(callee)).expect("the peer's segment is right");
                let bell = wake.try_clone().expect("a descriptor");
                return Some((Client::new(End::new(own, peer, wake)), bell));
            }
            other => raw.answer(&other),
        }
    }
    None
}

fn geometry(from: Geometry) -> shm_rpc::Geometry {
    shm_rpc::Geometry::new(from.slots, from.arena).expect("a geometry")
}

/// Does this with the channel in a thread of its own, and keeps to the protocol beside it.
fn beside(flood: impl FnOnce(Client, OwnedFd) + Send + 'static) {
    let mut raw = Raw::ready();
    let Some((client, bell)) = client(&mut raw) else { return };
    found("a channel", "open");
    std::thread::spawn(move || flood(client, bell));
    raw.go_on();
}

/// As many calls under way as it may have, always. What is beyond is refused.
pub fn calls() {
    beside(|client, _| {
        let mut under_way: VecDeque<Pending> = VecDeque::new();
        flood(&client, |call| {
            under_way.extend(call);
            // Those that are answered make room for the next.
            while let Some(oldest) = under_way.pop_front() {
                if let Err(waits) = oldest.try_wait() {
                    under_way.push_front(waits);
                    break;
                }
            }
        });
    });
}

/// No answer is ever taken.
pub fn keeps_its_answers() {
    beside(|client, _| {
        let mut kept = Vec::new();
        flood(&client, |call| kept.extend(call));
    });
}

/// Every call is cancelled at once.
pub fn cancels() {
    beside(|client, _| flood(&client, drop));
}

/// Calls, and what becomes of each; says how many were refused.
fn flood(client: &Client, mut keep: impl FnMut(Option<Pending>)) {
    let mut refused = 0;
    loop {
        match client.start(1, &CallOptions::NONE, &b"x"[..]) {
            Ok(call) => keep(Some(call)),
            Err(CallError::Overloaded { .. }) => {
                refused += 1;
                if refused == REFUSALS {
                    found("refused at once", refused);
                }
                keep(None);
            }
            Err(error) => return found("the end of the channel", error),
        }
    }
}

/// The bell, and nothing that it would ring for.
pub fn rings() {
    beside(|client, bell| {
        found("the bell", "rings");
        while !matches!(nix::unistd::write(bell.as_fd(), &[1]), Err(nix::errno::Errno::EPIPE)) {}
        drop(client);
    });
}
