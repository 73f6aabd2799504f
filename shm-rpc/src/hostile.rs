//! Peers that lie, driven by bytes: the entry points of the fuzz targets, and the cases that every test run goes through.
//!
//! The liar writes any word of its own segment at any moment; its victim must answer with a result or a [`Violation`], never
//! with a panic, an endless loop or a read outside of the segment.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::geometry::PAGE;
use crate::layout::{arena_offset, slot_offset};
use crate::mapped::End;
use crate::memory::OwnMemory;
use crate::{CallError, CallOptions, Client, Deadline, Geometry, Pending, Reply, Server, Violation};

#[cfg(test)]
mod blobs;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod holes;

/// The words of a slot behind the first.
const CONTENT: usize = 7;

/// A small channel, so that wrapping around and running out are common.
fn geometry() -> Geometry {
    Geometry::new(8, 4096).expect("within the bounds")
}

/// A peer that writes what it likes.
struct Liar {
    memory: OwnMemory,
    /// Keeps the wake socket open.
    _rest: (crate::PeerSegment, std::os::fd::OwnedFd),
    position: u32,
}

impl Liar {
    fn new(end: End) -> Self {
        let liar = Self { memory: end.own.memory, _rest: (end.peer, end.wake), position: 0 };
        // Holes are another lie.
        liar.touch(0);
        liar
    }

    /// Makes a page of the arena one that was written.
    fn touch(&self, page: usize) {
        self.memory.store(arena_offset(geometry().slots()) + page * PAGE, 0, Relaxed);
    }

    /// Publishes a message as an honest peer would, with whatever content.
    fn publish(&mut self, kind: u8, flags: u8, length: u16, content: [u64; CONTENT]) {
        let base = slot_offset(self.position % geometry().slots());
        for (index, word) in content.into_iter().enumerate() {
            self.memory.store(base + 8 + 8 * index, word, Relaxed);
        }
        self.position = self.position.wrapping_add(1);
        let word = u64::from(self.position) | u64::from(kind) << 32 | u64::from(flags) << 40 | u64::from(length) << 48;
        self.memory.store(base, word, SeqCst);
    }

    /// Writes one word anywhere.
    fn scribble(&self, at: u16, value: u64) {
        let words = geometry().bytes() / 8;
        self.memory.store(usize::from(at) % words * 8, value, SeqCst);
    }
}

/// A script of lies.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> u64 {
        // One byte chooses the value's class, so that the interesting ones are not one in 2^64.
        match self.byte().unwrap_or(0) {
            0 => u64::MAX,
            1 => u64::MAX >> 32,
            2 => u64::MAX << 32,
            3 => 4096,
            4 => 4096 << 32 | 1,
            5 => 1 << 32,
            6 => {
                let mut bytes = [0; 8];
                bytes.fill_with(|| self.byte().unwrap_or(0));
                u64::from_le_bytes(bytes)
            }
            small => u64::from(small - 7),
        }
    }

    fn message(&mut self) -> (u8, u8, u16, [u64; CONTENT]) {
        let (kind, flags) = (self.byte().unwrap_or(0), self.byte().unwrap_or(0));
        let length = self.word() as u16;
        (kind, flags, length, std::array::from_fn(|_| self.word()))
    }
}

/// A callee against a caller that lies. Returns how it ended.
pub fn callee_against(script: &[u8]) -> Result<(), Violation> {
    let (caller, callee) = End::pair(geometry(), geometry()).expect("memory for a small channel");
    let mut liar = Liar::new(caller);
    let mut server = Server::new(callee);
    let mut script = Script(script);
    let mut kept = Vec::new();
    while let Some(step) = script.byte() {
        match step % 8 {
            0..=3 => {
                let (kind, flags, length, content) = script.message();
                liar.publish(kind, flags, length, content);
            }
            4 => liar.scribble(script.word() as u16, script.word()),
            5 => kept.truncate(1),
            6 => server.control().close(),
            _ => {}
        }
        server.take_now(|call| {
            let bytes = call.view().to_vec();
            assert!(bytes.len() <= 4096, "a view beyond the arena");
            let _ = (call.decode::<Vec<String>>(), call.pod::<[u64; 6]>(), call.options());
            match step & 0x30 {
                0 => call.reply(&bytes[..]),
                0x10 => kept.push(call.detach()),
                0x20 => call.fail(&CallError::Invalid("x".repeat(bytes.len()))),
                _ => drop(call),
            }
        })?;
    }
    Ok(())
}

/// A caller against a callee that lies. Returns what was found, if anything.
pub fn caller_against(script: &[u8]) -> Option<Violation> {
    let (caller, callee) = End::pair(geometry(), geometry()).expect("memory for a small channel");
    let mut liar = Liar::new(callee);
    let client = Client::new(caller);
    let mut script = Script(script);
    let mut under_way: Vec<Pending> = Vec::new();
    let mut kept: Vec<Reply> = Vec::new();
    while let Some(step) = script.byte() {
        match step % 8 {
            0..=2 => {
                let (kind, flags, length, content) = script.message();
                liar.publish(kind, flags, length, content);
            }
            3 => liar.scribble(script.word() as u16, script.word()),
            4 => under_way.extend(client.start(1, &CallOptions::NONE, &[7; 100][..usize::from(step / 3)]).ok()),
            5 => drop(under_way.pop()),
            6 => kept.truncate(1),
            _ => client.peer_gone(),
        }
        let mut waiting = Vec::new();
        for call in under_way {
            match call.try_wait() {
                Ok(Ok(reply)) => {
                    assert!(reply.view().to_vec().len() <= 4096, "a view beyond the arena");
                    let _ = (reply.decode::<Vec<String>, u8>(), reply.pod::<[u64; 6]>());
                    kept.push(reply);
                }
                Ok(Err(_)) => {}
                Err(call) => waiting.push(call),
            }
        }
        under_way = waiting;
    }
    let over = Some(Deadline::from_nanos(0));
    let idle = client.wait_idle(over);
    assert_eq!(idle, client.outstanding() == 0, "waiting and counting disagree");
    client.violation()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUES: [u64; 12] = [0, 1, 2, 7, 8, 48, 4096, 4097, u32::MAX as u64, 1 << 32, 1 << 63, u64::MAX];

    /// A channel with one call under way, and its id.
    fn one_call() -> (Client, Liar, Pending) {
        let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
        let (client, liar) = (Client::new(caller), Liar::new(callee));
        let call = client.start(1, &CallOptions::NONE, ()).unwrap();
        (client, liar, call)
    }

    /// What an answer must be taken for, by LAYOUT.md alone.
    fn answer_is_honest(kind: u8, flags: u8, length: u16, content: [u64; 2]) -> bool {
        let (low, id) = (content[0] as u32, (content[0] >> 32) as u32);
        let (offset, len) = (content[1] & 0xffff_ffff, content[1] >> 32);
        match kind {
            16 | 17 => {
                let body = match flags {
                    0 => length <= 48,
                    2 => offset + len <= 4096,
                    _ => false,
                };
                body && id == 0 && low >> 16 < 512
            }
            19 => flags == 0 && low <= 1,
            _ => false,
        }
    }

    #[test]
    fn every_field_of_an_answer_in_every_class() {
        let mut honest = 0;
        for kind in (0..=20).chain([127, 128, 255]).filter(|it| *it != 18) {
            for flags in [0, 1, 2, 3, 4, 8, 128, 255] {
                for length in [0, 1, 48, 49, u16::MAX] {
                    for id_and_low in VALUES {
                        for body in VALUES.into_iter().filter(|_| flags == 2 || id_and_low == 0) {
                            let (client, mut liar, call) = one_call();
                            let content = [id_and_low, body];
                            liar.publish(kind, flags, length, [id_and_low, body, 0, 0, 0, 0, 0]);
                            let outcome = call.try_wait();
                            if answer_is_honest(kind, flags, length, content) {
                                honest += 1;
                                assert_eq!(client.violation(), None, "{kind} {flags} {length} {content:x?}");
                                let ended = outcome.is_ok();
                                assert_eq!(ended, kind != 19 || id_and_low & 0xffff_ffff == 0);
                            } else {
                                let violation = client.violation().expect("a lie");
                                let expected = CallError::ProtocolViolation(violation);
                                assert_eq!(outcome.unwrap().unwrap_err(), expected, "{kind} {flags} {content:x?}");
                                let refused = client.start(1, &CallOptions::NONE, ()).unwrap_err();
                                assert_eq!(refused, expected, "the channel is dead");
                            }
                        }
                    }
                }
            }
        }
        assert!(honest > 50, "{honest}");
    }

    #[test]
    fn every_code_of_an_error_answer() {
        for code in 0..0x300_u64 {
            let (client, mut liar, call) = one_call();
            liar.publish(18, 0, 3, [code, 0, 0, 0, 0, 0, 0]);
            let error = call.try_wait().unwrap().unwrap_err();
            let plain = matches!(code, 1 | 3..=9 | 11 | 0x108 | 0x109);
            assert_eq!(client.violation().is_none(), plain, "code {code:#x} gave {error}");
        }
    }

    #[test]
    fn every_class_of_a_slot_word_and_of_the_control_page() {
        for value in VALUES {
            let (client, liar, call) = one_call();
            liar.memory.store(slot_offset(0), value, SeqCst);
            let outcome = call.try_wait();
            let sequence = value as u32;
            match sequence {
                // A slot of a message that is none.
                1 => assert_eq!(client.violation(), Some(Violation::Kind { found: (value >> 32) as u8 })),
                _ => {
                    assert!(matches!(client.violation(), Some(Violation::Sequence { found, .. }) if found == sequence))
                }
            }
            assert!(matches!(outcome, Ok(Err(CallError::ProtocolViolation(_)))));
        }
        for value in VALUES {
            let (client, liar, call) = one_call();
            liar.memory.store(crate::layout::AT_TAKEN_THROUGH, value, SeqCst);
            client.peer_gone();
            let error = call.wait().unwrap_err();
            match value as u32 {
                0 => assert_eq!(error, CallError::NotStarted),
                1 => assert_eq!(error, CallError::MaybeExecuted),
                found => {
                    let violation = Violation::TakenThrough { found, low: 0, high: 1 };
                    assert_eq!(error, CallError::ProtocolViolation(violation));
                }
            }
        }
        for value in VALUES {
            let (client, liar, call) = one_call();
            for at in [crate::layout::AT_PARKED, crate::layout::AT_CPU, crate::layout::AT_RELEASED] {
                liar.memory.store(at, value, SeqCst);
            }
            client.start(1, &CallOptions::NONE, ()).map(drop).unwrap();
            assert_eq!(client.violation(), None);
            drop(call);
        }
    }

    #[test]
    fn every_field_of_a_request_in_every_class() {
        let mut honest = 0;
        for kind in (0..=20).chain([127, 255]) {
            for flags in 0..=255_u8 {
                for length in [0, 40, 41, 48, 49, u16::MAX] {
                    for body in [0, 4096, 1 << 32, 4096 << 32, 4096 << 32 | 1, u64::MAX] {
                        if body != 0 && (flags & 2 == 0 || length != 0) {
                            continue;
                        }
                        let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
                        let (mut liar, mut server) = (Liar::new(caller), Server::new(callee));
                        let mut content = [u64::MAX; CONTENT];
                        content[1] = body;
                        liar.publish(kind, flags, length, content);
                        let mut calls = 0;
                        let result = server.take_now(|call| {
                            calls += 1;
                            let bytes = call.view().to_vec();
                            call.reply(&bytes[..]);
                        });
                        let limit = if flags & 1 == 0 { 48 } else { 40 };
                        let fits = match flags & 2 {
                            0 => length <= limit,
                            _ => (body & 0xffff_ffff) + (body >> 32) <= 4096,
                        };
                        let is_call = kind == 1 && flags <= 3 && fits;
                        let is_other = flags == 0 && (kind == 2 || kind == 4);
                        assert_eq!(result.is_ok(), is_call || is_other, "{kind} {flags} {length} {body:x}: {result:?}");
                        assert_eq!(calls, u32::from(is_call));
                        honest += calls;
                    }
                }
            }
        }
        assert!(honest > 5, "{honest}");
    }

    #[test]
    fn a_context_may_be_seen_before_its_call() {
        let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
        let (mut liar, mut server) = (Liar::new(caller), Server::new(callee));
        let mut options = Vec::new();
        liar.publish(3, 0, 0, [5, 5, 5, 1 << 8 | 1 << 16, 0, 0, 0]);
        server.take_now(|_| panic!("no call yet")).unwrap();
        liar.publish(1, 4, 0, [0; CONTENT]);
        liar.publish(1, 0, 0, [0; CONTENT]);
        server.take_now(|call| options.push(call.options())).unwrap();
        let trace = crate::Trace {
            trace_id: [5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            span_id: 5_u64.to_le_bytes(),
            flags: 0,
        };
        assert_eq!(options[0].trace, Some(trace));
        assert_eq!((options[0].tags.as_bytes(), options[1]), (&[0][..], CallOptions::NONE));
        liar.publish(3, 0, 0, [0; CONTENT]);
        liar.publish(1, 0, 0, [0; CONTENT]);
        assert_eq!(server.take_now(|_| ()).err(), Some(Violation::Context));
    }

    #[test]
    fn a_caller_that_floods_is_found_out() {
        let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
        let (mut liar, mut server) = (Liar::new(caller), Server::new(callee));
        let mut kept = Vec::new();
        let found = (0..20).find_map(|_| {
            liar.publish(1, 0, 0, [0; CONTENT]);
            server.take_now(|call| kept.push(call.detach())).err()
        });
        assert_eq!((found, kept.len()), (Some(Violation::TooMany { limit: 7 }), 7));
    }

    #[test]
    fn a_caller_that_never_stops_cannot_keep_a_close_from_ending() {
        let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
        let (mut liar, mut server) = (Liar::new(caller), Server::new(callee));
        server.control().close();
        let mut served = 0;
        liar.publish(1, 0, 0, [0; CONTENT]);
        let result = server.take_now(|call| {
            served += 1;
            call.reply(());
            liar.publish(1, 0, 0, [0; CONTENT]);
        });
        assert_eq!((result.is_ok(), served), (true, 8));
    }

    #[test]
    fn a_callee_that_changes_an_answer_while_it_is_read_harms_no_one_else() {
        let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
        let (client, mut liar) = (Client::new(caller), Liar::new(callee));
        let call = client.start(1, &CallOptions::NONE, ()).unwrap();
        liar.publish(16, 2, 0, [0, 4096 << 32, 0, 0, 0, 0, 0]);
        let reply = call.try_wait().unwrap().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut value = 0_u64;
                while !stop.load(Relaxed) {
                    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    liar.scribble((value % 1024) as u16, value);
                }
            });
            for _ in 0..2_000 {
                assert_eq!(reply.view().to_vec().len(), 4096);
                let _ = reply.decode::<Vec<String>, String>();
            }
            stop.store(true, Relaxed);
        });
    }

    /// Rings until the bell holds no more, so that a later ring finds no room in it.
    #[cfg(feature = "tokio")]
    fn ring_until_full(bell: &std::os::fd::OwnedFd) {
        use std::os::fd::AsRawFd;
        let ring = || nix::sys::socket::send(bell.as_raw_fd(), &[0; 4096], nix::sys::socket::MsgFlags::MSG_DONTWAIT);
        while ring().is_ok() {}
    }

    /// A ring that finds the bell full counts on its listener to come back for those that are in it.
    #[cfg(feature = "tokio")]
    #[test]
    fn a_full_bell_wakes_a_callee_and_then_a_caller() {
        let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
        ring_until_full(&caller.wake);
        ring_until_full(&callee.wake);
        let (client, mut server) = (Client::new(caller), Server::new(callee));
        let control = server.control();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let serving = std::thread::spawn(move || {
            runtime.block_on(server.serve_async(|call| {
                call.reply(());
                std::future::ready(())
            }))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for _ in 0..3_000 {
                let options = CallOptions::with_deadline(Deadline::after(std::time::Duration::from_secs(60)));
                client.start(1, &options, ()).unwrap().await.unwrap();
            }
        });
        control.close();
        assert_eq!(serving.join().unwrap().unwrap().served, 3_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn no_script_breaks_a_callee(script in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = callee_against(&script);
        }

        #[test]
        fn no_script_breaks_a_caller(script in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = caller_against(&script);
        }
    }
}
