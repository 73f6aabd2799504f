//! A channel's memory, before and after it is sealed.
#![allow(unsafe_code, reason = "writes over a mapping that nobody else in this process knows")]

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};
use mortise_control::{Attach, ChannelId, ChannelRole, Geometry, ToSupervisor, ToWorker};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::unistd::ftruncate;

use crate::numbers::Numbers;
use crate::raw::{Raw, found};

/// What is done to a segment while it can still be done.
#[derive(Clone, Copy)]
pub enum Tamper {
    Shrink,
    Grow,
    Seal,
}

/// The end of a channel that this worker was given.
struct End {
    segment: OwnedFd,
    wake: OwnedFd,
    memory: MmapRaw,
}

fn take(attach: &Attach, descriptors: Vec<OwnedFd>) -> End {
    let [segment, wake] = <[OwnedFd; 2]>::try_from(descriptors).expect("a segment and a wake socket");
    let Geometry { slots, arena } = match attach.role {
        ChannelRole::Caller => attach.caller,
        ChannelRole::Callee => attach.callee,
    };
    let geometry = shm_rpc::Geometry::new(slots, arena).expect("a geometry");
    // As an honest worker does it, header and all; the second mapping is for what an honest worker does not do.
    let honest = shm_rpc::OwnSegment::map(&segment, geometry).expect("the segment can be mapped");
    let memory = MmapOptions::new().map_raw(segment.as_raw_fd()).expect("the segment can be mapped twice");
    drop(honest);
    End { segment, wake, memory }
}

/// Answers until the first channel is open; what this worker has of it, and the peer's segment.
fn open(raw: &mut Raw, mut meanwhile: impl FnMut(&End)) -> Option<(End, OwnedFd)> {
    let mut ends: HashMap<ChannelId, End> = HashMap::new();
    while let Some((message, mut descriptors)) = raw.hear() {
        match message {
            ToWorker::Attach(attach) => {
                let end = take(&attach, descriptors);
                meanwhile(&end);
                ends.insert(attach.channel, end);
                raw.say(&ToSupervisor::Mapped { channel: attach.channel });
            }
            ToWorker::Open { channel } => return Some((ends.remove(&channel)?, descriptors.pop()?)),
            other => raw.answer(&other),
        }
    }
    None
}

/// After the seal: what can still be done to its own segment and to the peer's.
pub fn opens_segments_again() {
    let mut raw = Raw::ready();
    let Some((end, peer)) = open(&mut raw, |_| {}) else { return };
    for (whose, segment) in [("its own", &end.segment), ("the peer's", &peer)] {
        let said = |what: &str, result: Result<(), Errno>| {
            found(&format!("{what} {whose}"), result.map_or_else(|errno| format!("{errno:?}"), |()| "done".into()));
        };
        said("shrinking", ftruncate(segment, 0));
        said("growing", ftruncate(segment, 1 << 30));
        said("writing to", nix::unistd::write(segment, b"x").map(drop));
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        said("a hole in", fallocate(segment, hole, 0, 4096));
        said("more seals on", fcntl(segment.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).map(drop));
        let path = format!("/proc/self/fd/{}", segment.as_raw_fd());
        let again = OpenOptions::new().read(true).write(true).open(path);
        let mapped = again.and_then(|it| MmapOptions::new().map_raw(&it));
        let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
        said("a second writable mapping of", mapped.map(drop).map_err(errno));
    }
    found("everything", "tried");
    raw.go_on();
}

/// Before the seal: a segment that is not what the supervisor made.
pub fn tampers(tamper: Tamper) {
    let mut raw = Raw::ready();
    let opened = open(&mut raw, |end| {
        let done = match tamper {
            Tamper::Shrink => ftruncate(&end.segment, 0),
            Tamper::Grow => ftruncate(&end.segment, 1 << 30),
            Tamper::Seal => fcntl(end.segment.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).map(drop),
        };
        done.expect("nothing forbids it yet");
    });
    if opened.is_some() {
        raw.go_on();
    }
}

/// Takes its end and never says so.
pub fn never_maps() {
    let mut raw = Raw::ready();
    while let Some((message, _)) = raw.hear() {
        if !matches!(message, ToWorker::Attach(_)) {
            raw.answer(&message);
        }
    }
}

/// Any word of its own segment has any value at any time, and the bell never stops.
pub fn scribbles() {
    let mut raw = Raw::ready();
    let Some((end, _peer)) = open(&mut raw, |_| {}) else { return };
    found("a channel", "open");
    let mut threads = Vec::new();
    for seed in [11, 12] {
        let words = end.memory.len() / 8;
        let memory = end.memory.as_mut_ptr() as usize;
        threads.push(std::thread::spawn(move || {
            let mut numbers = Numbers(seed);
            loop {
                // Mostly the ring and its control page, which come first, and mostly values that mean something.
                let at =
                    (numbers.next() as usize) % if numbers.next().is_multiple_of(4) { words } else { words.min(4096) };
                let value = match numbers.next() % 4 {
                    0 => numbers.next() % 300,
                    1 => u64::MAX - numbers.next() % 300,
                    2 => (numbers.next() % 300) | (numbers.next() << 32),
                    _ => numbers.next(),
                };
                let word = (memory + at * 8) as *mut u64;
                // SAFETY: inside the mapping, which this process keeps until its end, and aligned. The two threads write over each
                // other by atomic stores.
                unsafe { std::sync::atomic::AtomicU64::from_ptr(word) }
                    .store(value, std::sync::atomic::Ordering::SeqCst);
            }
        }));
    }
    std::thread::spawn({
        let wake = end.wake.try_clone().expect("a descriptor");
        move || while !matches!(nix::unistd::write(&wake, &[1; 4096]), Err(Errno::EPIPE)) {}
    });
    raw.go_on();
}
