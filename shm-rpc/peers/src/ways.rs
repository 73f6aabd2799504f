//! The ways to make a call that are compared.

use crate::limit::Limit;
use crate::other::{Given, Other, Placement};
use crate::page::{self, Page, Sharing, Side};
use crate::{bytes, grpc, iceoryx, ours, servo};

/// How both sides wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Spin,
    Sleep,
}

/// The calling side of a way.
pub trait Caller {
    /// Makes so many calls, one after the other.
    fn call(&mut self, count: u64);
}

/// A way to make a call.
pub struct Way {
    pub name: &'static str,
    pub wait: Wait,
    /// What goes each way.
    pub message: &'static str,
    pub start: fn(Placement) -> (Box<dyn Caller>, Other),
    /// The other process.
    pub serve: fn(&Given),
}

impl Way {
    pub fn is_limit(&self) -> bool {
        self.name.starts_with("limit-")
    }

    pub fn named(name: &str) -> &'static Self {
        WAYS.iter().find(|it| it.name == name).expect("the caller names its own ways")
    }
}

const QUAD: &str = "32 B";
const ORDER: &str = "5 fields";

pub const WAYS: [Way; 12] = [
    Way { name: "limit-spin", wait: Wait::Spin, message: "1 word", start: start_spin, serve: serve_spin },
    Way { name: "shm-rpc", wait: Wait::Spin, message: QUAD, start: ours::start_spin, serve: ours::serve_spin },
    Way { name: "shm-rpc-serde", wait: Wait::Spin, message: ORDER, start: ours::start_serde, serve: ours::serve_spin },
    Way {
        name: "iceoryx2",
        wait: Wait::Spin,
        message: QUAD,
        start: iceoryx::start_polling,
        serve: iceoryx::serve_polling,
    },
    Way { name: "limit-futex", wait: Wait::Sleep, message: "1 word", start: start_futex, serve: serve_futex },
    Way {
        name: "shm-rpc-parked",
        wait: Wait::Sleep,
        message: QUAD,
        start: ours::start_parked,
        serve: ours::serve_parked,
    },
    Way {
        name: "iceoryx2-event",
        wait: Wait::Sleep,
        message: QUAD,
        start: iceoryx::start_event,
        serve: iceoryx::serve_event,
    },
    Way { name: "pipe", wait: Wait::Sleep, message: QUAD, start: bytes::start_pipe, serve: bytes::serve_pipe },
    Way {
        name: "unix-socket",
        wait: Wait::Sleep,
        message: QUAD,
        start: bytes::start_socket,
        serve: bytes::serve_socket,
    },
    Way {
        name: "ipc-channel-bytes",
        wait: Wait::Sleep,
        message: QUAD,
        start: servo::start_bytes,
        serve: servo::serve_bytes,
    },
    Way {
        name: "ipc-channel-typed",
        wait: Wait::Sleep,
        message: ORDER,
        start: servo::start_typed,
        serve: servo::serve_typed,
    },
    Way { name: "tonic", wait: Wait::Sleep, message: QUAD, start: grpc::start, serve: grpc::serve },
];

/// The bare machine.
struct Bare {
    limit: Limit,
    page: Page,
    next: u64,
}

impl Caller for Bare {
    fn call(&mut self, count: u64) {
        // The limits here do without the socket.
        self.limit.ask(&self.page, &std::io::stdin(), self.next, count);
        self.next += count;
    }
}

fn start_bare(name: &str, limit: Limit, placement: Placement) -> (Box<dyn Caller>, Other) {
    let (asks, answers) = (ours::memory(c"asks", page::BYTES), ours::memory(c"answers", page::BYTES));
    let other = Other::start(name, placement, &[&asks, &answers], "");
    let page = Page::map(&asks, &answers, Side::Asking, Sharing::Both);
    (Box::new(Bare { limit, page, next: 1 }), other)
}

fn start_spin(placement: Placement) -> (Box<dyn Caller>, Other) {
    start_bare("limit-spin", Limit::Spin, placement)
}

fn start_futex(placement: Placement) -> (Box<dyn Caller>, Other) {
    start_bare("limit-futex", Limit::Futex, placement)
}

fn serve_spin(given: &Given) {
    let page = Page::map(given.open(0), given.open(1), Side::Answering, Sharing::Both);
    given.ready();
    Limit::Spin.answer(&page, &std::io::stdin());
}

fn serve_futex(given: &Given) {
    let page = Page::map(given.open(0), given.open(1), Side::Answering, Sharing::Both);
    given.ready();
    Limit::Futex.answer(&page, &std::io::stdin());
}
