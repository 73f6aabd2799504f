//! Payloads in pages that their sender never wrote: who reads one would pay for it.

use super::*;
use crate::mapped::{OwnSegment, PeerSegment};
use crate::segment;
use std::os::fd::OwnedFd;

const PAGES: u32 = 8;
const PAGE_BYTES: u32 = PAGE as u32;

fn wide() -> Geometry {
    Geometry::new(geometry().slots(), PAGES * PAGE_BYTES).unwrap()
}

/// A liar with a wide arena, its segment's descriptor, and its victim's end.
fn liar_and_victim() -> (Liar, OwnedFd, End) {
    let (theirs, ours) = (segment::create(wide()).unwrap(), segment::create(geometry()).unwrap());
    let (their_own, our_own) = (OwnSegment::map(&theirs, wide()).unwrap(), OwnSegment::map(&ours, geometry()).unwrap());
    segment::seal(&theirs).unwrap();
    segment::seal(&ours).unwrap();
    let (their_bell, our_bell) = segment::wake_pair().unwrap();
    let victim = End::new(our_own, PeerSegment::map(&theirs, wide()).unwrap(), our_bell);
    let liar = Liar {
        memory: their_own.memory,
        _rest: (PeerSegment::map(&ours, geometry()).unwrap(), their_bell),
        position: 0,
    };
    (liar, theirs, victim)
}

/// Pages that a segment has.
fn pages(segment: &OwnedFd) -> i64 {
    nix::sys::stat::fstat(segment).unwrap().st_blocks * 512 / i64::from(PAGE_BYTES)
}

/// The word of a payload in the arena.
fn at(offset: u32, len: u32) -> u64 {
    u64::from(offset) | u64::from(len) << 32
}

/// What a caller's request with this payload does to its callee that reads all of it, or how long it was.
fn request(liar: &mut Liar, server: &mut Server, payload: u64) -> Result<usize, Violation> {
    liar.publish(1, 2, 0, [1, payload, 0, 0, 0, 0, 0]);
    let mut len = 0;
    server.take_now(|call| {
        len = call.view().to_vec().len();
        call.reply(());
    })?;
    Ok(len)
}

#[test]
fn a_payload_that_was_never_written_is_not_read() {
    for (touched, payload, hole) in [
        (&[][..], at(0, 1), Some(at(0, 1))),
        (&[][..], at(0, PAGES * PAGE_BYTES), Some(at(0, PAGES * PAGE_BYTES))),
        (&[0, 1][..], at(PAGE_BYTES, PAGE_BYTES), None),
        (&[0, 1][..], at(PAGE_BYTES, PAGE_BYTES + 1), Some(at(PAGE_BYTES, PAGE_BYTES + 1))),
        // An honest writer leaves no hole before what it sends.
        (&[0, 2][..], at(2 * PAGE_BYTES, 8), Some(at(2 * PAGE_BYTES, 8))),
        (&[0, 1, 2, 3, 4, 5, 6, 7][..], at(0, PAGES * PAGE_BYTES), None),
        (&[][..], at(0, 0), None),
    ] {
        let expected = hole.map_or(Ok((payload >> 32) as usize), |it| {
            Err(Violation::Hole { offset: it as u32, len: (it >> 32) as u32 })
        });
        let (mut liar, segment, victim) = liar_and_victim();
        touched.iter().for_each(|page| liar.touch(*page));
        let before = pages(&segment);
        let mut server = Server::new(victim);
        assert_eq!(request(&mut liar, &mut server, payload), expected, "{payload:#x}");
        assert_eq!(pages(&segment), before, "{payload:#x}: its reader paid");

        let (mut liar, segment, victim) = liar_and_victim();
        touched.iter().for_each(|page| liar.touch(*page));
        let client = Client::new(victim);
        let call = client.start(1, &CallOptions::NONE, ()).unwrap();
        liar.publish(16, 2, 0, [0, payload, 0, 0, 0, 0, 0]);
        let outcome = call.try_wait().unwrap().map(|it| it.view().to_vec().len());
        assert_eq!(outcome, expected.map_err(CallError::ProtocolViolation), "{payload:#x}");
        assert_eq!(pages(&segment), before, "{payload:#x}: its reader paid");
    }
}

#[test]
fn an_arena_that_is_filled_bit_by_bit_is_read_as_far_as_it_is() {
    let (mut liar, _, victim) = liar_and_victim();
    let mut server = Server::new(victim);
    for page in 0..PAGES {
        liar.touch(page as usize);
        assert_eq!(request(&mut liar, &mut server, at(page * PAGE_BYTES, PAGE_BYTES)), Ok(PAGE_BYTES as usize));
    }
    assert_eq!(request(&mut liar, &mut server, at(0, 1)), Ok(1));
    let beyond = at(PAGES * PAGE_BYTES - 1, 2);
    assert!(matches!(request(&mut liar, &mut server, beyond), Err(Violation::Payload { .. })));
}

#[test]
fn what_an_honest_sender_lends_and_does_not_write_is_no_hole() {
    let (caller, callee) = End::pair(wide(), wide()).unwrap();
    let (client, mut server) = (Client::new(caller), Server::new(callee));
    let len = 5 * PAGE_BYTES as usize;
    // The second begins in the middle of a page that the first has touched; the first is never sent.
    let first = client.loan(PAGE_BYTES as usize + 64).unwrap();
    let call = client.start(1, &CallOptions::NONE, client.loan(len).unwrap()).unwrap();
    server
        .take_now(|call| {
            assert_eq!(call.view().to_vec(), vec![0; len]);
            let loan = call.loan(len).unwrap();
            call.reply(loan);
        })
        .unwrap();
    assert_eq!(call.try_wait().unwrap().unwrap().view().to_vec(), vec![0; len]);
    drop(first);
}

#[test]
fn what_grows_in_place_is_touched_before_it_is_written_and_never_after() {
    let (caller, _callee) = End::pair(wide(), wide()).unwrap();
    let client = Client::new(caller);
    let mut first = client.loan(64).unwrap();
    first.extend_to(3 * PAGE).unwrap();
    first.fill(7);
    let second = client.loan(PAGE).unwrap();
    assert_eq!(&first[..], &[7; 3 * PAGE]);
    drop(second);
}
