//! Descriptors that a peer sends for blobs: any kind of file, any seal left out, too many, none.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::{ftruncate, pipe, write};

use super::{Liar, geometry};
use crate::blob::{Carriage, send_with};
use crate::port::hear;
use crate::{Blob, CallError, CallOptions, Client, End, Pending, Server, Violation, segment};

const LEN: u32 = 8192;
const ALL: SealFlag =
    SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

fn bare_memfd(flags: MFdFlags) -> Result<OwnedFd, Errno> {
    memfd_create(c"lie", flags | MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
}

fn filled() -> OwnedFd {
    let fd = bare_memfd(MFdFlags::empty()).unwrap();
    write(&fd, &[7; LEN as usize]).unwrap();
    fd
}

fn sealed(fd: OwnedFd, seals: SealFlag) -> OwnedFd {
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    fd
}

/// Every way in which a descriptor is no blob of `LEN` bytes.
fn lies() -> Vec<(&'static str, OwnedFd)> {
    let mut lies = vec![
        ("no seals", filled()),
        (
            "future writes only",
            sealed(filled(), ALL.difference(SealFlag::F_SEAL_WRITE) | SealFlag::F_SEAL_FUTURE_WRITE),
        ),
        ("a pipe", pipe().unwrap().0),
        ("a socket", segment::wake_pair().unwrap().0),
        ("a folder", std::fs::File::open("/").unwrap().into()),
        ("a device", std::fs::File::open("/dev/zero").unwrap().into()),
        ("a program", std::fs::File::open("/proc/self/exe").unwrap().into()),
    ];
    for seal in [SealFlag::F_SEAL_WRITE, SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_SEAL] {
        lies.push(("a seal left out", sealed(filled(), ALL.difference(seal))));
    }
    for len in [0, u64::from(LEN) - 1, u64::from(LEN) + 1, 1 << 40] {
        let fd = bare_memfd(MFdFlags::empty()).unwrap();
        ftruncate(&fd, len as i64).unwrap();
        lies.push(("another length", sealed(fd, ALL)));
    }
    let holes = bare_memfd(MFdFlags::empty()).unwrap();
    ftruncate(&holes, i64::from(LEN)).unwrap();
    lies.push(("all a hole", sealed(holes, ALL)));
    let half = bare_memfd(MFdFlags::empty()).unwrap();
    write(&half, &[7; LEN as usize / 2]).unwrap();
    ftruncate(&half, i64::from(LEN)).unwrap();
    lies.push(("half a hole", sealed(half, ALL)));
    lies
}

/// A liar's message with a blob, for a caller with a call under way.
fn answer(liar: &mut Liar, len: u64) {
    liar.publish(16, 8, 0, [0, len, 0, 0, 0, 0, 0]);
}

fn caller() -> (Client, Liar, Pending) {
    let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
    let (client, liar) = (Client::new(caller), Liar::new(callee));
    let call = client.start(1, &CallOptions::NONE, ()).unwrap();
    (client, liar, call)
}

fn callee() -> (Server, Liar) {
    let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
    (Server::new(callee), Liar::new(caller))
}

/// Sends descriptors as an honest peer would.
struct Way(OwnedFd);

impl Way {
    fn open(liar: &Liar) -> Self {
        let (ours, theirs) = segment::wake_pair().unwrap();
        send_with(&liar._rest.1, &theirs).unwrap();
        Self(ours)
    }

    fn send(&self, fd: &OwnedFd) {
        send_with(&self.0, fd).unwrap();
    }
}

#[test]
fn a_descriptor_that_is_no_blob_is_a_violation() {
    for (name, fd) in lies() {
        let (client, mut liar, call) = caller();
        Way::open(&liar).send(&fd);
        answer(&mut liar, u64::from(LEN));
        let outcome = call.try_wait().unwrap();
        assert!(matches!(client.violation(), Some(Violation::Blob { .. })), "{name}: {outcome:?}");
        assert_eq!(outcome.unwrap_err(), CallError::ProtocolViolation(client.violation().unwrap()));

        let (mut server, mut liar) = callee();
        Way::open(&liar).send(&fd);
        liar.publish(1, 8, 0, [1, u64::from(LEN), 0, 0, 0, 0, 0]);
        let ended = server.take_now(|_| panic!("{name}"));
        assert!(matches!(ended, Err(Violation::Blob { .. })), "{name}: {ended:?}");
    }
    // What all of them are not.
    let (mut server, mut liar) = callee();
    Way::open(&liar).send(&sealed(filled(), ALL));
    liar.publish(1, 8, 0, [1, u64::from(LEN), 0, 0, 0, 0, 0]);
    let mut seen = 0;
    server.take_now(|call| seen = call.view().as_slice().unwrap().len()).unwrap();
    assert_eq!(seen, LEN as usize);
}

#[test]
fn huge_pages_from_a_pool_are_no_blob() {
    let huge = bare_memfd(MFdFlags::MFD_HUGETLB).and_then(|fd| ftruncate(&fd, 2 << 20).map(|()| fd));
    let Ok(huge) = huge else {
        eprintln!("skipped: this kernel makes no memfds of huge pages");
        return;
    };
    let huge = sealed(huge, ALL);
    let (mut server, mut liar) = callee();
    Way::open(&liar).send(&huge);
    liar.publish(1, 8, 0, [1, 2 << 20, 0, 0, 0, 0, 0]);
    let ended = server.take_now(|_| panic!("it was taken"));
    assert!(matches!(ended, Err(Violation::Blob { .. })), "{ended:?}");
}

#[test]
fn a_blobs_message_needs_a_way_and_a_descriptor_on_it() {
    let without_way: fn(&Liar) -> Option<Way> = |_| None;
    let silent: fn(&Liar) -> Option<Way> = |liar| Some(Way::open(liar));
    let bytes: fn(&Liar) -> Option<Way> = |liar| {
        let way = Way::open(liar);
        nix::unistd::write(&way.0, &[0; 100]).unwrap();
        Some(way)
    };
    let no_socket: fn(&Liar) -> Option<Way> = |liar| {
        send_with(&liar._rest.1, &pipe().unwrap().0).unwrap();
        None
    };
    for way in [without_way, silent, bytes, no_socket] {
        let (client, mut liar, call) = caller();
        let way_open = way(&liar);
        answer(&mut liar, u64::from(LEN));
        drop(call.try_wait());
        assert!(matches!(client.violation(), Some(Violation::Blob { .. })));
        drop(way_open);
    }
}

#[test]
fn a_blob_whose_length_lies_is_found_before_its_descriptor_is_looked_at() {
    for len in [0, (1 << 30) + 1, 1 << 32, u64::MAX] {
        let (client, mut liar, call) = caller();
        Way::open(&liar).send(&sealed(filled(), ALL));
        answer(&mut liar, len);
        drop(call.try_wait());
        assert!(matches!(client.violation(), Some(Violation::Blob { .. })), "{len}");
    }
}

/// Descriptors that this process has open.
fn descriptors_of(file: &str) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links.filter(|it| std::fs::read_link(it.as_ref().unwrap().path()).is_ok_and(|it| it.ends_with(file))).count()
}

#[test]
fn descriptors_that_nobody_names_are_not_kept() {
    let file = std::env::temp_dir().join(format!("flood-{}", std::process::id()));
    let fd: OwnedFd = std::fs::File::create(&file).unwrap().into();
    let name = file.file_name().unwrap().to_str().unwrap();
    let (ours, theirs) = segment::wake_pair().unwrap();
    let carriage = Carriage::default();
    for _ in 0..100 {
        send_with(&theirs, &fd).unwrap();
        let _ = hear(&ours, &carriage);
        let _ = hear(&ours, &carriage);
    }
    // Our own, and the one that was taken for the way.
    assert_eq!(descriptors_of(name), 2);
    drop(carriage);
    assert_eq!(descriptors_of(name), 1);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn the_way_is_found_behind_rings() {
    let (client, mut liar, call) = caller();
    for _ in 0..150 {
        send(liar._rest.1.as_raw_fd(), &[0], MsgFlags::MSG_DONTWAIT).unwrap();
    }
    Way::open(&liar).send(&sealed(filled(), ALL));
    answer(&mut liar, u64::from(LEN));
    let reply = call.try_wait().unwrap().unwrap();
    assert_eq!(reply.view().as_slice().map(<[u8]>::len), Some(LEN as usize));
    assert_eq!(client.violation(), None);
}

#[test]
fn a_blob_can_be_changed_by_nobody() {
    let blob = Blob::copy_of(&[7; LEN as usize]).unwrap();
    let fd = blob.as_fd();
    assert_eq!(write(fd, b"x"), Err(Errno::EPERM));
    assert_eq!(ftruncate(fd, 0), Err(Errno::EPERM));
    assert_eq!(ftruncate(fd, 1 << 20), Err(Errno::EPERM));
    let hole = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
    assert_eq!(nix::fcntl::fallocate(fd, hole, 0, 4096), Err(Errno::EPERM));
    assert!(memmap2::MmapOptions::new().map_raw(&fd).is_err());
    assert_eq!(&blob[..], &[7; LEN as usize]);
}

#[test]
fn a_draft_that_is_still_mapped_elsewhere_is_not_frozen() {
    let draft = crate::BlobDraft::new(4096).unwrap();
    let second = memmap2::MmapOptions::new().map_raw(&draft.fd).unwrap();
    assert!(draft.freeze().is_err());
    drop(second);
}

/// Looking for the way takes rings off the bell; a task that sleeps for one of them must be armed anew, or the peer, who has rung
/// already, never rings again.
#[cfg(feature = "tokio")]
mod rings {
    use std::future::pending;

    use tokio::task::yield_now;

    use super::*;
    use crate::layout::{AT_PARKED, slot_offset};

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    /// What the victim sleeps for, as its peer sees it.
    fn parked(liar: &Liar) -> u64 {
        liar._rest.0.memory.load(AT_PARKED, std::sync::atomic::Ordering::SeqCst)
    }

    /// Rings, and sends the way and a blob behind that.
    fn ring_and_send(liar: &Liar) {
        send(liar._rest.1.as_raw_fd(), &[0], MsgFlags::MSG_DONTWAIT).unwrap();
        Way::open(liar).send(&sealed(filled(), ALL));
    }

    #[test]
    fn a_waiting_task_arms_the_callers_bell_anew() {
        run(async {
            let (client, mut liar, mut first) = caller();
            let second = client.start(1, &CallOptions::NONE, ()).unwrap();
            tokio::select! { biased; _ = &mut first => panic!("nobody answered"), () = yield_now() => {} }
            let before = parked(&liar);
            assert_ne!(before, 0);
            ring_and_send(&liar);
            let id = liar._rest.0.memory.load(slot_offset(1) + 8, std::sync::atomic::Ordering::SeqCst) >> 32;
            liar.publish(16, 8, 0, [id << 32, u64::from(LEN), 0, 0, 0, 0, 0]);
            assert_eq!(second.try_wait().unwrap().unwrap().view().len(), LEN as usize);
            for _ in 0..10 {
                tokio::select! { biased; _ = &mut first => panic!("nobody answered"), () = yield_now() => {} }
            }
            assert_ne!(parked(&liar), before);
            assert_ne!(parked(&liar), 0);
        });
    }

    #[test]
    fn a_serving_task_arms_its_bell_anew() {
        run(async {
            let (mut server, mut liar) = callee();
            let (wake, woken) = tokio::sync::oneshot::channel();
            let mut woken = Some(woken);
            let mut serving = std::pin::pin!(server.serve_async(move |call| {
                let woken = woken.take();
                async move {
                    if let Some(woken) = woken {
                        woken.await.unwrap();
                    }
                    call.reply(());
                    pending::<()>().await;
                }
            }));
            liar.publish(1, 0, 0, [1, 0, 0, 0, 0, 0, 0]);
            tokio::select! { biased; _ = &mut serving => panic!("it ended"), () = yield_now() => {} }
            let before = parked(&liar);
            assert_ne!(before, 0);
            ring_and_send(&liar);
            liar.publish(1, 8, 0, [1 | 1 << 32, u64::from(LEN), 0, 0, 0, 0, 0]);
            // Something else wakes it.
            wake.send(()).unwrap();
            for _ in 0..10 {
                tokio::select! { biased; _ = &mut serving => panic!("it ended"), () = yield_now() => {} }
            }
            assert_ne!(parked(&liar), before);
            assert_ne!(parked(&liar), 0);
        });
    }
}
