//! Calls through shm-rpc.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use shm_rpc::{Client, End, Geometry, OwnSegment, Patience, PeerSegment, Server, segment};

use crate::other::{Given, Other, Placement};
use crate::ways::Caller;
use crate::work::Work;

const GEOMETRY: Geometry = Geometry::DEFAULT;

struct Calls {
    client: Client,
    work: Work,
}

impl Caller for Calls {
    fn call(&mut self, count: u64) {
        self.work.calling(&self.client, |call| call(count));
    }
}

/// Memory that both processes write.
pub fn memory(name: &CStr, bytes: usize) -> OwnedFd {
    let memory = memfd_create(name, MFdFlags::MFD_CLOEXEC).unwrap();
    ftruncate(&memory, bytes as i64).unwrap();
    memory
}

fn start(way: &str, placement: Placement, patience: Patience, work: Work) -> (Box<dyn Caller>, Other) {
    let (ours, theirs) = (segment::create(GEOMETRY).unwrap(), segment::create(GEOMETRY).unwrap());
    let (our_bell, their_bell) = segment::wake_pair().unwrap();
    let mut other = Other::begin(way, placement, &[&theirs, &ours, &their_bell], "");
    let own = OwnSegment::map(&ours, GEOMETRY).unwrap();
    other.wait_ready();
    segment::seal(&ours).unwrap();
    segment::seal(&theirs).unwrap();
    other.go_on();
    let peer = PeerSegment::map(&theirs, GEOMETRY).unwrap();
    let client = Client::with_patience(End::new(own, peer, our_bell), patience);
    (Box::new(Calls { client, work }), other)
}

fn serve(given: &Given, patience: Patience) {
    let own = OwnSegment::map(given.open(0), GEOMETRY).unwrap();
    given.ready();
    given.wait_for_go_on();
    let peer = PeerSegment::map(given.open_to_read(1), GEOMETRY).unwrap();
    let mut server = Server::with_patience(End::new(own, peer, given.take(2)), patience);
    server.serve(Work::answer).unwrap();
}

pub fn start_spin(placement: Placement) -> (Box<dyn Caller>, Other) {
    start("shm-rpc", placement, Patience::Adaptive, Work::Pod)
}

pub fn start_serde(placement: Placement) -> (Box<dyn Caller>, Other) {
    start("shm-rpc-serde", placement, Patience::Adaptive, Work::Serde)
}

pub fn start_parked(placement: Placement) -> (Box<dyn Caller>, Other) {
    start("shm-rpc-parked", placement, Patience::Park, Work::Pod)
}

pub fn serve_spin(given: &Given) {
    serve(given, Patience::Adaptive);
}

pub fn serve_parked(given: &Given) {
    serve(given, Patience::Park);
}
