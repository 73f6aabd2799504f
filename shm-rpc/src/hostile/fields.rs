//! Every field that a peer writes (LAYOUT.md), in every class of value, before it is read and while it is read: a violation of the kind
//! that LAYOUT.md names, or no harm.

use std::cell::Cell;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{Liar, geometry};
use crate::layout::{
    AT_ABILITIES, AT_ARENA, AT_CLOSED, AT_CPU, AT_MAGIC, AT_PARKED, AT_RELEASED, AT_TAKEN_THROUGH, AT_VERSION_SLOTS,
    slot_offset,
};
use crate::mapped::{OwnSegment, PeerSegment, SegmentError};
use crate::{Call, CallOptions, Client, Deadline, End, Geometry, Pending, Server, Violation, segment};

/// Honest messages before the one that lies.
const BEFORE: u32 = 3;
const SLOTS: u64 = 8;
const ARENA: u64 = 4096;

/// Where a field lies.
#[derive(Clone, Copy, Debug)]
enum At {
    /// At this offset of the control page, which holds this while it is honest.
    Page(usize, u64),
    /// In this word of the next message.
    Word(usize),
}

/// What a value of a field is: None, or the violation.
type Judge = fn(u64) -> Option<&'static str>;

/// A field, the message that the liar sends with or beside it, and what its values are.
struct Field {
    name: &'static str,
    at: At,
    shift: u32,
    bits: u32,
    message: [u64; 8],
    judge: Judge,
}

impl Field {
    fn mask(&self) -> u64 {
        (u64::MAX >> (64 - self.bits)) << self.shift
    }

    fn honest(&self) -> u64 {
        let word = match self.at {
            At::Page(_, word) => word,
            At::Word(index) => self.message[index],
        };
        (word & self.mask()) >> self.shift
    }

    fn set(&self, word: u64, value: u64) -> u64 {
        word & !self.mask() | value << self.shift & self.mask()
    }

    /// The classes: none, few, at and beyond what fits, a lap and a step before and behind, the signs, the most.
    fn values(&self) -> Vec<u64> {
        let (now, most) = (self.honest(), u64::MAX >> (64 - self.bits));
        let near = [now, now.wrapping_add(2), SLOTS, ARENA - 64, ARENA, 28, 40, 48, 512, 1 << 16, 1 << 31, 1 << 32];
        let mut values = vec![0, 1, 2, 16, 17, 18, 19, most, most - 1, most / 2, most / 2 + 1, 4096 << 32, 1 << 63];
        values.extend(near.into_iter().flat_map(|it| [it.wrapping_sub(1), it, it.wrapping_add(1)]));
        values.extend([now.wrapping_sub(SLOTS), now.wrapping_add(SLOTS), now.wrapping_sub(1 << 16), now ^ 1 << 16]);
        values.iter_mut().for_each(|it| *it &= most);
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Sends the message with the field set, or sets the field and sends the message.
    fn lie(&self, liar: &mut Liar, value: u64) {
        let mut message = self.message;
        match self.at {
            At::Page(at, word) => liar.memory.store(at, self.set(word, value), SeqCst),
            At::Word(index) => message[index] = self.set(message[index], value),
        }
        let base = slot_offset(liar.position % SLOTS as u32);
        (1..8).for_each(|index| liar.memory.store(base + 8 * index, message[index], Relaxed));
        liar.memory.store(base, message[0], SeqCst);
        liar.position += 1;
    }

    /// Flips the field between its classes until `stop`.
    fn flip(&self, liar: &Liar, stop: &AtomicBool) {
        let (at, word) = match self.at {
            At::Page(at, word) => (at, word),
            At::Word(index) => (slot_offset(BEFORE) + 8 * index, self.message[index]),
        };
        let values = self.values();
        while !stop.load(Relaxed) {
            for value in &values {
                liar.memory.store(at, self.set(word, *value), SeqCst);
            }
        }
    }

    fn may_find(&self, found: Violation) -> bool {
        let name = name_of(found);
        self.values().into_iter().any(|it| (self.judge)(it) == Some(name))
    }
}

fn name_of(violation: Violation) -> &'static str {
    match violation {
        Violation::Sequence { .. } => "sequence",
        Violation::Kind { .. } => "kind",
        Violation::Flags { .. } => "flags",
        Violation::InlineLength { .. } => "length",
        Violation::Payload { .. } => "payload",
        Violation::Hole { .. } => "hole",
        Violation::ReleasePlace { .. } => "place",
        Violation::UnknownCall { .. } => "call",
        Violation::TakenThrough { .. } => "taken",
        Violation::ClosedAt { .. } => "closed",
        Violation::TooMany { .. } => "many",
        Violation::Context => "context",
        Violation::ErrorReply { .. } => "error",
        Violation::Blob { .. } => "blob",
    }
}

/// The first word of the next message.
const fn head(kind: u64, flags: u64, length: u64) -> u64 {
    (BEFORE as u64 + 1) | kind << 32 | flags << 40 | length << 48
}

const fn harmless(_: u64) -> Option<&'static str> {
    None
}

fn lie_unless(honest: bool, name: &'static str) -> Option<&'static str> {
    (!honest).then_some(name)
}

fn sequence(it: u64) -> Option<&'static str> {
    // The next message's, or that of a lap before: nothing has come.
    lie_unless(it == u64::from(BEFORE) + 1 || it as u32 == (BEFORE + 1).wrapping_sub(SLOTS as u32), "sequence")
}

/// A field of a message: name, word, shift, bits, judge.
type Place = (&'static str, usize, u32, u32, Judge);

/// The page of either side. `taken` is that of `taken_through`, which only a caller reads.
fn page(message: [u64; 8], taken: Judge) -> Vec<Field> {
    let version = 1 | SLOTS << 32;
    [
        ("magic", AT_MAGIC, 64, u64::from_le_bytes(*b"shm-rpc\0"), harmless as Judge),
        ("version and slots", AT_VERSION_SLOTS, 64, version, harmless),
        ("arena bytes", AT_ARENA, 64, ARENA, harmless),
        ("abilities", AT_ABILITIES, 64, 1, harmless),
        ("taken_through", AT_TAKEN_THROUGH, 32, u64::from(BEFORE) + 1, taken),
        ("parked, how", AT_PARKED, 32, 0, harmless),
        ("parked", AT_PARKED, 64, u64::from(BEFORE) << 32 | 1, harmless),
        ("closed", AT_CLOSED, 64, 0, harmless),
        ("CPU", AT_CPU, 64, 1, harmless),
        ("release places 0 and 1", AT_RELEASED, 64, 1, harmless),
    ]
    .into_iter()
    .map(|(name, at, bits, honest, judge)| Field { name, at: At::Page(at, honest), shift: 0, bits, message, judge })
    .collect()
}

fn words(message: [u64; 8], fields: &[Place]) -> Vec<Field> {
    let field = |&(name, word, shift, bits, judge)| Field { name, at: At::Word(word), shift, bits, message, judge };
    fields.iter().map(field).collect()
}

/// What a callee writes. The call under way has id `id`.
fn of_a_callee(id: u64) -> Vec<Field> {
    let reply = [head(16, 0, 48), id << 32, 0, 0, 0, 0, 0, 0];
    let mut fields = page(reply, |it| lie_unless((4..=5).contains(&it), "taken"));
    fields.extend(words(
        reply,
        &[
            ("sequence", 0, 0, 32, sequence),
            ("answer's kind", 0, 32, 8, |it| match it {
                16 | 17 => None,
                18 => Some("error"),
                19 => Some("closed"),
                _ => Some("kind"),
            }),
            ("answer's flags", 0, 40, 8, |it| match it {
                0 | 2 => None,
                8 => Some("blob"),
                _ => Some("flags"),
            }),
            ("answer's length", 0, 48, 16, |it| lie_unless(it <= 48, "length")),
            ("code of a reply", 1, 0, 16, harmless),
            ("release place", 1, 16, 16, |it| lie_unless(it < 512, "place")),
            // The generation and the place of the one call under way: it is the fourth at that place.
            ("id", 1, 32, 32, |it| lie_unless(it == 3 << 16, "call")),
            ("body", 2, 0, 64, harmless),
        ],
    ));
    fields.extend(words(
        [head(16, 2, 0), id << 32, 64 | 64 << 32, 0, 0, 0, 0, 0],
        &[
            ("answer's offset", 2, 0, 32, |it| lie_unless(it <= ARENA - 64, "payload")),
            ("answer's length in the arena", 2, 32, 32, |it| lie_unless(it <= ARENA - 64, "payload")),
        ],
    ));
    // No descriptor has come beside it.
    let blob = [head(16, 8, 0), id << 32, 64, 0, 0, 0, 0, 0];
    fields.extend(words(blob, &[("answer's blob", 2, 0, 64, |_| Some("blob"))]));
    fields.extend(words(
        [head(18, 0, 0), id << 32 | 3, 0, 0, 0, 0, 0, 0],
        &[("code of an error", 1, 0, 16, |it| lie_unless(matches!(it, 1 | 3..=9 | 11 | 0x108 | 0x109), "error"))],
    ));
    fields.extend(words(
        [head(19, 0, 0), 4, 0, 0, 0, 0, 0, 0],
        &[("closed position", 1, 0, 32, |it| lie_unless((3..=4).contains(&it), "closed"))],
    ));
    fields
}

/// What a caller writes.
fn of_a_caller() -> Vec<Field> {
    let call = [head(1, 0, 40), 7 << 32 | 1, 0, 0, 0, 0, 0, 0];
    let mut fields = page(call, harmless);
    fields.extend(words(
        call,
        &[
            ("sequence", 0, 0, 32, sequence),
            ("request's kind", 0, 32, 8, |it| match it {
                1 | 2 | 4 => None,
                // A context that no call follows which says so.
                3 => Some("context"),
                _ => Some("kind"),
            }),
            ("request's flags", 0, 40, 8, |it| match it {
                0..=3 => None,
                4..=7 => Some("context"),
                8 | 9 | 12 | 13 => Some("blob"),
                _ => Some("flags"),
            }),
            ("request's length", 0, 48, 16, |it| lie_unless(it <= 48, "length")),
            ("method", 1, 0, 32, harmless),
            ("id", 1, 32, 32, harmless),
            ("body", 2, 0, 64, harmless),
        ],
    ));
    fields.extend(words(
        [head(1, 1, 40), 7 << 32 | 1, 0, 0, 0, 0, 0, u64::MAX],
        &[
            ("deadline", 7, 0, 64, harmless),
            ("length before a deadline", 0, 48, 16, |it| lie_unless(it <= 40, "length")),
        ],
    ));
    fields.extend(words(
        [head(1, 2, 0), 7 << 32 | 1, 64 | 64 << 32, 0, 0, 0, 0, 0],
        &[
            ("request's offset", 2, 0, 32, |it| lie_unless(it <= ARENA - 64, "payload")),
            ("request's length in the arena", 2, 32, 32, |it| lie_unless(it <= ARENA - 64, "payload")),
        ],
    ));
    let blob = [head(1, 8, 0), 7 << 32 | 1, 64, 0, 0, 0, 0, 0];
    fields.extend(words(blob, &[("request's blob", 2, 0, 64, |_| Some("blob"))]));
    // The call that comes next has no flag for a context, so an honest context is a lie of its own afterwards.
    let context = [head(3, 0, 0), 1, 1, 1, 1 << 8 | 1 << 16, 0, 0, 0];
    fields.extend(words(
        context,
        &[("trace", 1, 0, 64, |_| Some("context")), ("has trace, tags length", 4, 8, 16, |_| Some("context"))],
    ));
    fields.extend(words([head(2, 0, 0), 7 << 32, 0, 0, 0, 0, 0, 0], &[("id of a cancellation", 1, 32, 32, harmless)]));
    fields
}

/// A caller with one call under way, after some honest ones, and its callee.
fn caller() -> (Client, Liar, Pending) {
    let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
    let (client, mut liar) = (Client::new(caller), Liar::new(callee));
    let start = || client.start(1, &CallOptions::NONE, &[7; 100][..]).unwrap();
    for number in 0..BEFORE {
        let call = start();
        let request = liar._rest.0.memory.load(slot_offset(number) + 8, Relaxed);
        liar.memory.store(AT_TAKEN_THROUGH, u64::from(number) + 1, SeqCst);
        liar.publish(16, 0, 0, [request >> 32 << 32, 0, 0, 0, 0, 0, 0]);
        call.try_wait().unwrap().unwrap();
    }
    let call = start();
    liar.memory.store(AT_TAKEN_THROUGH, u64::from(BEFORE) + 1, SeqCst);
    (client, liar, call)
}

/// Everything that reads what the callee writes.
fn use_client(client: &Client, call: Pending) -> Option<Violation> {
    let answer = call.try_wait().map(|it| it.map(|reply| reply.view().to_vec().len()));
    if let Ok(Ok(len)) = &answer {
        assert!(*len <= ARENA as usize, "a view beyond the arena");
    }
    drop(client.start(1, &CallOptions::NONE, ()).map(|call| {
        client.peer_gone();
        call.try_wait().map(drop)
    }));
    client.peer_gone();
    // Nothing is under way now, whatever the callee wrote.
    drop(answer);
    assert_eq!(client.outstanding(), 0);
    client.violation()
}

/// A callee that has answered some honest calls, and its caller.
fn callee() -> (Server, Liar) {
    let (caller, callee) = End::pair(geometry(), geometry()).unwrap();
    let (mut server, mut liar) = (Server::new(callee), Liar::new(caller));
    for id in 0..u64::from(BEFORE) {
        liar.publish(1, 0, 0, [id << 32, 0, 0, 0, 0, 0, 0]);
        server.take_now(answer).unwrap();
    }
    (server, liar)
}

/// Answers out of the arena, so that release places are looked at.
fn answer(call: Call<'_>) {
    let bytes = call.view().to_vec();
    assert!(bytes.len() <= ARENA as usize, "a view beyond the arena");
    let _ = (call.options(), call.method());
    call.reply(&[7; 100][..]);
}

/// Everything that reads what the caller writes, which ends with an honest call.
fn use_server(server: &mut Server, then: impl FnOnce()) -> Option<Violation> {
    // A panic of a handler is answered, and would not be seen.
    let (begun, done) = (Cell::new(0), Cell::new(0));
    let answer = |call: Call<'_>| {
        begun.set(begun.get() + 1);
        answer(call);
        done.set(done.get() + 1);
    };
    let use_it = || {
        server.take_now(answer)?;
        then();
        server.take_now(answer)?;
        server.control().close();
        server.take_now(answer).map(drop)
    };
    let found = use_it().err();
    assert_eq!(begun, done, "a handler panicked");
    found
}

#[test]
fn every_field_of_a_callee_in_every_class() {
    for field in of_a_callee(3 << 16) {
        for value in field.values() {
            let (client, mut liar, call) = caller();
            field.lie(&mut liar, value);
            let found = use_client(&client, call).map(name_of);
            assert_eq!(found, (field.judge)(value), "{} = {value:#x}", field.name);
        }
    }
}

#[test]
fn every_field_of_a_caller_in_every_class() {
    for field in of_a_caller() {
        for value in field.values() {
            let (mut server, mut liar) = callee();
            field.lie(&mut liar, value);
            let found = use_server(&mut server, || liar.publish(1, 0, 0, [9 << 32, 0, 0, 0, 0, 0, 0])).map(name_of);
            assert_eq!(found, (field.judge)(value), "{} = {value:#x}", field.name);
        }
    }
}

/// Runs `victim` while `field` is flipped.
fn while_it_changes<T>(field: &Field, liar: &Liar, victim: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flipping = scope.spawn(|| field.flip(liar, &stop));
        let outcome = victim();
        stop.store(true, Relaxed);
        flipping.join().unwrap();
        outcome
    })
}

const CHANNELS: usize = 20;

#[test]
fn every_field_of_a_callee_while_it_changes() {
    for field in of_a_callee(3 << 16) {
        for _ in 0..CHANNELS {
            let (client, mut liar, call) = caller();
            field.lie(&mut liar, field.honest());
            let found = while_it_changes(&field, &liar, || {
                let options = CallOptions::with_deadline(Deadline::after(std::time::Duration::from_millis(1)));
                let _ = client.call(1, &options, ());
                use_client(&client, call)
            });
            assert!(found.is_none_or(|it| field.may_find(it)), "{}: {found:?}", field.name);
        }
    }
}

#[test]
fn every_field_of_a_caller_while_it_changes() {
    for field in of_a_caller() {
        for _ in 0..CHANNELS {
            let (mut server, mut liar) = callee();
            field.lie(&mut liar, field.honest());
            let found = while_it_changes(&field, &liar, || use_server(&mut server, || ()));
            assert!(found.is_none_or(|it| field.may_find(it)), "{}: {found:?}", field.name);
        }
    }
}

#[test]
fn every_field_of_the_identity_in_every_class_at_mapping() {
    let geometry: Geometry = geometry();
    for field in page([0; 8], harmless).into_iter().take(4) {
        let At::Page(at, honest) = field.at else { unreachable!("the page has no messages") };
        for value in field.values() {
            let fd = segment::create(geometry).unwrap();
            let own = OwnSegment::map(&fd, geometry).unwrap();
            own.memory.store(at, value, SeqCst);
            segment::seal(&fd).unwrap();
            match PeerSegment::map(&fd, geometry) {
                Ok(_) => assert!(value == honest || at == AT_ABILITIES, "{} = {value:#x}", field.name),
                Err(SegmentError::Header { at: named, found, expected }) => {
                    assert_eq!((named, found, expected), (at, value, honest), "{}", field.name);
                }
                Err(error) => panic!("{} = {value:#x}: {error}", field.name),
            }
        }
    }
}
