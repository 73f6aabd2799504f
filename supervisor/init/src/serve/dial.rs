//! Connections to the program for the base: made in here, where the program's network is, and passed out.

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mortise_control::{Phase, socket};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, accept4, connect, getsockopt, setsockopt, sockopt,
};

use super::readable;
use crate::start;

/// Connections under way at once; more wait in the socket's backlog.
const MOST: usize = 256;
/// A program that does not take a connection within this time is overloaded or stuck.
const WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Dials {
    /// The worker's `http` socket. None once nothing more is accepted.
    listener: Option<OwnedFd>,
    address: SocketAddrV4,
    dials: Vec<Dial>,
    served: u64,
}

struct Dial {
    base: OwnedFd,
    program: OwnedFd,
    deadline: Instant,
}

impl Dials {
    pub fn new(listener: OwnedFd, address: SocketAddrV4) -> Result<Self, std::io::Error> {
        fcntl(&listener, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { listener: Some(listener), address, dials: Vec::new(), served: 0 })
    }

    /// Nobody is accepted before the program is ready: a base that connects early waits in the backlog.
    fn accepts(&self, phase: Phase) -> Option<&OwnedFd> {
        self.listener.as_ref().filter(|_| phase != Phase::Starting && self.dials.len() < MOST)
    }

    pub fn poll_fds(&self, phase: Phase) -> Vec<PollFd<'_>> {
        let dials = self.dials.iter().map(|it| PollFd::new(it.program.as_fd(), PollFlags::POLLOUT));
        self.accepts(phase).map(readable).into_iter().chain(dials).collect()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.dials.iter().map(|it| it.deadline).min()
    }

    pub fn served(&self) -> u64 {
        self.served
    }

    pub fn is_idle(&self) -> bool {
        self.dials.is_empty()
    }

    /// Accepts who waits, and passes on what is connected.
    pub fn advance(&mut self, phase: Phase) {
        while let Some(listener) = self.accepts(phase) {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let Ok(base) = accept4(listener.as_raw_fd(), flags) else { break };
            let Ok(base) = start::inherited(base) else { continue };
            match begin(self.address) {
                Ok(program) => self.dials.push(Dial { base, program, deadline: Instant::now() + WITHIN }),
                Err(_) => refuse(&base),
            }
        }
        let mut finished = 0;
        self.dials.retain(|dial| match state(&dial.program) {
            None => true,
            Some(Ok(())) => {
                // A base that has gone meanwhile is nobody's loss.
                let _ = socket::send_bytes(dial.base.as_fd(), &[0], &[dial.program.as_fd()]);
                finished += 1;
                false
            }
            Some(Err(_)) => {
                refuse(&dial.base);
                false
            }
        });
        self.served += finished;
    }

    pub fn give_up(&mut self, now: Instant) {
        self.dials.retain(|dial| {
            let late = dial.deadline <= now;
            if late {
                refuse(&dial.base);
            }
            !late
        });
    }

    /// Who waits in the backlog already is still served; nobody else can come.
    pub fn finish(&mut self) {
        self.advance(Phase::Ready);
        self.listener = None;
    }
}

/// One byte without a descriptor.
fn refuse(base: &OwnedFd) {
    let _ = socket::send_bytes(base.as_fd(), &[0], &[]);
}

/// A connection that is being made.
pub(super) fn begin(address: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    match connect(socket.as_raw_fd(), &SockaddrIn::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Whether a connection is made: none while it is under way.
pub(super) fn state(socket: &OwnedFd) -> Option<Result<(), Errno>> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    match nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO) {
        Ok(0) | Err(Errno::EINTR) => None,
        Ok(_) => Some(match getsockopt(socket, sockopt::SocketError) {
            Ok(0) => Ok(()),
            Ok(errno) => Err(Errno::from_raw(errno)),
            Err(errno) => Err(errno),
        }),
        Err(errno) => Some(Err(errno)),
    }
}
