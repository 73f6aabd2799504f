//! One thread that serves any number of channels, at a cost that the idle ones have no part in.
//!
//! ```text
//!                         its bell rings
//!            ┌──────────────────────────────────────────────┐
//!            │                                              ▼
//!   asleep: the bell in the epoll set,             hot: the ring is looked at
//!   the channel's `parked` says so                 in every round
//!            ▲                                              │
//!            └──────────────────────────────────────────────┘
//!              nothing came for as long as spinning has lately paid
//! ```
//!
//! **No word has two writers.** A ready bitmap or a common doorbell, as other servers of many queues have, is a word that
//! every client can write: one could ring for another, wipe out its ring or keep the line from all. Here each channel has what a
//! channel has anyway: the `parked` word in the server's own segment tells its client alone that the server sleeps, and the
//! client wakes it through its own end of the channel's own socket. Which channel rang is known from which socket became
//! readable; the kernel finds that in constant time, however many there are.
//!
//! **What is idle costs nothing.** A sleeping channel is one socket in an epoll set: it is not looked at. Rounds go over the hot
//! channels only. While there are hot ones, the thread asks the epoll set every 20 µs (`pace`) whether a sleeper has rung; when there
//! are none it sleeps there, without a timeout. So a call to a hot channel costs the same with one channel as with a thousand,
//! and a set that has nothing to do does not run at all.
//!
//! **What is busy is served in turn.** A round gives each hot channel up to [`BUDGET`] calls. A client that keeps its ring full
//! makes the others wait for that many calls of its own, and no longer; a client that rings without sending costs two system
//! calls each time, as one that calls does.
//!
//! In a tokio runtime the same is done by one task per channel ([`Server::serve_async`]): the runtime's own epoll set and run queue
//! take the places of the set and the rounds.

mod member;
mod notices;
mod pace;

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{Call, ServeError, Served, Server};
use crate::sync::{Arc, Mutex, lock};
use member::{Member, Next};
use notices::Notices;
use pace::Pace;

pub(super) use notices::Told;

/// The calls of one channel that are served before the next hot channel has its turn.
const BUDGET: u32 = 16;
/// Bells taken from the epoll set at a time.
const EVENTS: usize = 64;
/// The key of the set's own notices: no place has it.
const NOTICES: u64 = u64::MAX;

/// What answers the calls of one channel of a [`ServerSet`]. A closure `|call: Call<'_>| …` is one.
pub trait Serve {
    /// Answers a call, or [detaches](Call::detach) it. The other channels wait meanwhile.
    fn call(&mut self, call: Call<'_>);

    /// The channel has ended, and how.
    fn ended(self, outcome: Result<Served, ServeError>)
    where
        Self: Sized,
    {
        drop(outcome);
    }
}

impl<F: FnMut(Call<'_>)> Serve for F {
    #[inline]
    fn call(&mut self, call: Call<'_>) {
        self(call);
    }
}

/// Channels that one thread serves; see [`ServerSet::serve`].
#[derive(Debug)]
pub struct ServerSet<H> {
    places: Vec<Place<H>>,
    free: Vec<u32>,
    /// The places whose rings are looked at in every round.
    hot: Vec<u32>,
    epoll: Epoll,
    shared: Arc<Shared<H>>,
    pace: Pace,
}

/// Where a member is kept. Keys are place and generation, so that late news of a former member reach nobody.
#[derive(Debug)]
struct Place<H> {
    generation: u32,
    member: Option<Member<H>>,
}

#[derive(Debug)]
struct Shared<H> {
    arrivals: Mutex<Arrivals<H>>,
    notices: Arc<Notices>,
}

#[derive(Debug)]
struct Arrivals<H> {
    waiting: Vec<(Server, H)>,
    is_closed: bool,
}

/// What other threads can do with a [`ServerSet`] while it serves. What concerns one channel is done by its
/// [`ServerControl`](crate::ServerControl).
#[derive(Debug)]
pub struct SetControl<H> {
    shared: Arc<Shared<H>>,
}

impl<H> Clone for SetControl<H> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<H> SetControl<H> {
    /// Adds a channel, before or while the set serves.
    ///
    /// # Errors
    /// The handler comes back if the set is closed. The server is dropped then, so its caller learns that nobody serves it.
    pub fn add(&self, server: Server, handler: H) -> Result<(), H> {
        let mut arrivals = lock(&self.shared.arrivals);
        if arrivals.is_closed {
            return Err(handler);
        }
        arrivals.waiting.push((server, handler));
        drop(arrivals);
        self.shared.notices.tell(NOTICES);
        Ok(())
    }

    /// Closes every channel, as [`ServerControl::close`](crate::ServerControl::close) does, and takes no further ones. Serving ends
    /// when the last has ended.
    pub fn close(&self) {
        lock(&self.shared.arrivals).is_closed = true;
        self.shared.notices.tell(NOTICES);
    }
}

impl<H: Serve> ServerSet<H> {
    /// A set without channels.
    ///
    /// # Errors
    /// What the kernel answers: no descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let notices = Arc::new(Notices::new()?);
        epoll.add(&*notices, EpollEvent::new(EpollFlags::EPOLLIN, NOTICES))?;
        let arrivals = Mutex::new(Arrivals { waiting: Vec::new(), is_closed: false });
        Ok(Self {
            places: Vec::new(),
            free: Vec::new(),
            hot: Vec::new(),
            epoll,
            shared: Arc::new(Shared { arrivals, notices }),
            pace: Pace::new(),
        })
    }

    /// The way to add channels, and to end.
    #[must_use]
    pub fn control(&self) -> SetControl<H> {
        SetControl { shared: Arc::clone(&self.shared) }
    }

    /// Serves in this thread until [`SetControl::close`] is called and every channel has ended. Each channel ends by itself before
    /// that, as with [`Server::serve`]; unlike there, the end of a caller's process is noticed in sleep, too.
    ///
    /// # Errors
    /// The epoll set cannot be waited on. No further channels are taken then.
    pub fn serve(&mut self) -> io::Result<()> {
        let served = self.serve_all();
        // Nobody must wait in a queue that nobody looks at.
        let mut arrivals = lock(&self.shared.arrivals);
        arrivals.is_closed = true;
        let late = std::mem::take(&mut arrivals.waiting);
        drop(arrivals);
        drop(late);
        served
    }

    fn serve_all(&mut self) -> io::Result<()> {
        loop {
            self.round();
            let timeout = if self.hot.is_empty() {
                EpollTimeout::NONE
            } else if self.pace.is_look_due() {
                EpollTimeout::ZERO
            } else {
                continue;
            };
            if self.hear(timeout)? && self.take_notices() {
                return Ok(());
            }
        }
    }

    /// Gives each hot channel its turn.
    #[inline]
    fn round(&mut self) {
        let mut at = 0;
        let mut took = false;
        while let Some(&index) = self.hot.get(at) {
            let Some(member) = self.places[index as usize].member.as_mut() else {
                self.hot.swap_remove(at);
                continue;
            };
            match member.turn(&mut self.pace) {
                Next::Busy => {
                    took = true;
                    at += 1;
                }
                Next::Idle => at += 1,
                Next::Quiet => {
                    self.hot.swap_remove(at);
                }
                Next::Ended(outcome) => {
                    self.hot.swap_remove(at);
                    self.end(index, outcome);
                }
            }
        }
        if !took {
            std::hint::spin_loop();
        }
    }

    /// Takes what has rung. True: there are notices.
    #[cold]
    fn hear(&mut self, timeout: EpollTimeout) -> io::Result<bool> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        self.pace.looked();
        let mut noticed = false;
        for event in &events[..count] {
            match event.data() {
                NOTICES => noticed = true,
                key => {
                    if let Some(member) = self.member(key) {
                        member.hear();
                        self.warm(key as u32);
                    }
                }
            }
        }
        Ok(noticed)
    }

    /// Takes the wishes of other threads. True: the set is closed and every channel has ended.
    fn take_notices(&mut self) -> bool {
        for key in self.shared.notices.take() {
            if self.member(key).is_some() {
                self.warm(key as u32);
            }
        }
        let mut arrivals = lock(&self.shared.arrivals);
        let (waiting, is_closed) = (std::mem::take(&mut arrivals.waiting), arrivals.is_closed);
        drop(arrivals);
        for (server, handler) in waiting {
            self.admit(server, handler);
        }
        if is_closed {
            for place in &self.places {
                if let Some(member) = &place.member {
                    member.close();
                }
            }
        }
        is_closed && self.free.len() == self.places.len()
    }

    fn admit(&mut self, server: Server, handler: H) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, member: None });
            self.places.len() as u32 - 1
        });
        let key = u64::from(index) | u64::from(self.places[index as usize].generation) << 32;
        let added = self.epoll.add(server.bell(), EpollEvent::new(EpollFlags::EPOLLIN, key));
        let member = Member::new(server, handler, Told::new(&self.shared.notices, key));
        self.places[index as usize].member = Some(member);
        match added {
            Ok(()) => self.warm(index),
            Err(error) => self.end(index, Err(ServeError::Bell(error.into()))),
        }
    }

    fn member(&mut self, key: u64) -> Option<&mut Member<H>> {
        let place = self.places.get_mut(key as u32 as usize)?;
        if u64::from(place.generation) == key >> 32 { place.member.as_mut() } else { None }
    }

    /// Gives a channel turns from now on.
    fn warm(&mut self, index: u32) {
        if let Some(member) = self.places[index as usize].member.as_mut()
            && member.warm()
        {
            self.hot.push(index);
        }
    }

    fn end(&mut self, index: u32, outcome: Result<Served, ServeError>) {
        let place = &mut self.places[index as usize];
        let Some(member) = place.member.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        // Calls that are still with other threads keep the socket open, so closing it here would not be enough.
        let _ = self.epoll.delete(member.bell());
        member.end(outcome);
        if self.free.len() == self.places.len() {
            // If the set is closed, this was the last.
            self.shared.notices.tell(NOTICES);
        }
    }
}

impl Server {
    fn bell(&self) -> impl AsFd + '_ {
        &self.shared.port.bell
    }
}
