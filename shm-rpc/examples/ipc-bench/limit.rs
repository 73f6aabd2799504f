//! The limit programs: the least that two processes can do to ask and answer. One function for each side.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::{Acquire, Release, SeqCst};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::page::{LINES, Page, epoll_read_one, futex_wait, futex_wake, spin_until};
use crate::work::Order;

/// The value that ends the answering side.
const END: u64 = u64::MAX;

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// One word each way, both sides spinning.
    Spin,
    /// The same, and the codec work of a call on top.
    SpinAndCodec,
    /// One futex word each way, both sides sleeping.
    Futex,
    /// Two bare epoll loops over a Unix stream socket.
    Epoll,
    /// 1 MiB filled, handed over by one word, summed in place.
    Bulk,
    /// 64 words, each in a line of its own, each way.
    Window,
}

impl Limit {
    pub const ALL: [Self; 6] = [Self::Spin, Self::SpinAndCodec, Self::Futex, Self::Epoll, Self::Bulk, Self::Window];

    pub fn from_number(number: u32) -> Self {
        Self::ALL[number as usize]
    }

    pub fn number(self) -> u32 {
        Self::ALL.iter().position(|it| *it == self).unwrap() as u32
    }

    /// How many calls one round is worth.
    pub fn calls(self) -> u64 {
        if self == Self::Window { LINES as u64 } else { 1 }
    }

    /// Asks once for each number from `first` on, `rounds` times.
    pub fn ask(self, page: &Page, socket: &impl AsFd, first: u64, rounds: u64) {
        let (ping, pong) = (page.word(0, 0), page.word(1, 0));
        match self {
            Self::Spin => {
                for round in first..first + rounds {
                    ping.store(round, Release);
                    spin_until(pong, round);
                }
            }
            Self::SpinAndCodec => {
                let order = Order::sample();
                for round in first..first + rounds {
                    crate::work::codec_alone(&order);
                    ping.store(round, Release);
                    spin_until(pong, round);
                }
            }
            Self::Bulk => {
                for round in first..first + rounds {
                    page.fill(round as u8);
                    ping.store(round, Release);
                    spin_until(pong, round);
                }
            }
            Self::Futex => {
                let (ping, pong) = (page.futex(0), page.futex(1));
                for round in first as u32..(first + rounds) as u32 {
                    ping.store(round, SeqCst);
                    futex_wake(ping);
                    while pong.load(Acquire) != round {
                        futex_wait(pong, round - 1);
                    }
                }
            }
            Self::Epoll => {
                let epoll = listen(socket);
                for _ in 0..rounds {
                    nix::unistd::write(socket, &[1]).unwrap();
                    epoll_read_one(&epoll, socket);
                }
            }
            Self::Window => {
                for round in first..first + rounds {
                    for line in 0..LINES {
                        page.word(2, line).store(round, Release);
                    }
                    for line in 0..LINES {
                        spin_until(page.word(3, line), round);
                    }
                }
            }
        }
    }

    /// Lets the answering side return.
    pub fn end(self, page: &Page, socket: &impl AsFd) {
        match self {
            Self::Futex => {
                page.futex(0).store(u32::MAX, SeqCst);
                futex_wake(page.futex(0));
            }
            Self::Epoll => {
                nix::unistd::write(socket, &[0]).unwrap();
            }
            Self::Window => page.word(2, 0).store(END, Release),
            Self::Spin | Self::SpinAndCodec | Self::Bulk => page.word(0, 0).store(END, Release),
        }
    }

    /// Whether a channel's mappings, which are written by one side each, can make it slower.
    pub const fn depends_on_sharing(self) -> bool {
        matches!(self, Self::Spin | Self::SpinAndCodec | Self::Bulk | Self::Window)
    }

    /// Answers until the other side ends it.
    pub fn answer(self, page: &Page, socket: &impl AsFd) {
        let (ping, pong) = (page.word(0, 0), page.word(1, 0));
        let mut seen = 0;
        match self {
            Self::Spin | Self::SpinAndCodec | Self::Bulk => loop {
                let value = ping.load(Acquire);
                if value == END {
                    return;
                }
                if value != seen {
                    seen = value;
                    if self == Self::Bulk {
                        std::hint::black_box(page.sum());
                    }
                    pong.store(value, Release);
                } else {
                    std::hint::spin_loop();
                }
            },
            Self::Futex => {
                let (ping, pong) = (page.futex(0), page.futex(1));
                let mut seen = 0;
                loop {
                    let value = ping.load(Acquire);
                    if value == u32::MAX {
                        return;
                    }
                    if value == seen {
                        futex_wait(ping, seen);
                        continue;
                    }
                    seen = value;
                    pong.store(value, SeqCst);
                    futex_wake(pong);
                }
            }
            Self::Epoll => {
                let epoll = listen(socket);
                let mut events = [EpollEvent::empty()];
                loop {
                    epoll.wait(&mut events, nix::sys::epoll::EpollTimeout::NONE).unwrap();
                    let mut byte = [0; 8];
                    match nix::unistd::read(socket, &mut byte) {
                        Ok(1) if byte[0] == 0 => return,
                        Ok(n) if n > 0 => {
                            nix::unistd::write(socket, &[1]).unwrap();
                        }
                        _ => {}
                    }
                }
            }
            Self::Window => loop {
                for line in 0..LINES {
                    let mut value = page.word(2, line).load(Acquire);
                    while value == seen {
                        std::hint::spin_loop();
                        value = page.word(2, line).load(Acquire);
                    }
                    if value == END {
                        return;
                    }
                    page.word(3, line).store(value, Release);
                }
                seen += 1;
            },
        }
    }
}

fn listen(socket: &impl AsFd) -> Epoll {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0)).unwrap();
    epoll
}
