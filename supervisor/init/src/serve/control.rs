//! The control connection: made anew whenever it breaks, for the supervisor may come back.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mortise_control::parts::Assembly;
use mortise_control::socket::{self, SocketError};
use mortise_control::{
    Boot, ChannelId, Hello, MAX_MESSAGE, MAX_PACKET, PROTOCOL, Phase, Released, RouteTable, ToSupervisor, ToWorker,
};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect};

const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// Messages that wait for room in the socket. More means a supervisor that does not read: the connection is made anew.
const MOST_WAITING: usize = 64;

pub(super) struct Control {
    boot: Boot,
    socket: Option<OwnedFd>,
    /// When to try again, and the pause after that.
    retry: Instant,
    pause: Duration,
    waiting: VecDeque<ToSupervisor>,
    /// What the last hello said.
    said: Phase,
    welcome: bool,
    buffer: Vec<u8>,
    arriving: Assembly,
}

impl Control {
    pub fn new(boot: Boot) -> Self {
        Self {
            boot,
            socket: None,
            retry: Instant::now(),
            pause: RETRY_FIRST,
            waiting: VecDeque::new(),
            said: Phase::Starting,
            welcome: false,
            buffer: vec![0; MAX_PACKET],
            arriving: Assembly::new(MAX_MESSAGE),
        }
    }

    pub fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let writes = if self.waiting.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        self.socket.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN | writes)).collect()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.socket.is_none().then_some(self.retry)
    }

    /// Connects and says hello, if there is no connection and it is time to try.
    pub fn keep_connected(&mut self, phase: Phase, now: Instant) {
        if self.socket.is_some() || now < self.retry {
            return;
        }
        self.retry = now + self.pause;
        self.pause = (self.pause * 2).min(RETRY_MOST);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let Ok(socket) = nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None) else {
            return;
        };
        let connected = UnixAddr::new(&self.boot.control).and_then(|it| connect(socket.as_raw_fd(), &it));
        if connected.is_err() {
            return;
        }
        self.socket = Some(socket);
        self.arriving = Assembly::new(MAX_MESSAGE);
        self.welcome = false;
        self.said = phase;
        self.waiting.clear();
        self.tell(ToSupervisor::Hello(Hello {
            protocol: PROTOCOL,
            worker: self.boot.worker,
            token: self.boot.token,
            phase,
            services: Vec::new(),
            clients: Vec::new(),
            state: None,
            channels: Vec::new(),
        }));
    }

    /// Everything that has arrived. Descriptors are for SDK workers: they are closed.
    pub fn receive(&mut self) -> Vec<ToWorker> {
        self.flush();
        let mut messages = Vec::new();
        while let Some(socket) = &self.socket {
            match self.arriving.recv::<ToWorker>(socket.as_fd(), &mut self.buffer) {
                Ok(Some((message, _))) => messages.push(message),
                Ok(None) => {}
                Err(SocketError::WouldBlock) => break,
                Err(SocketError::Malformed(_)) => {} // of a newer supervisor, perhaps
                Err(SocketError::Closed | SocketError::TooLarge(_) | SocketError::Os(_)) => self.disconnect(),
            }
        }
        messages
    }

    /// The supervisor has accepted us. What became true since the hello is told now.
    pub fn welcomed(&mut self, phase: Phase) {
        self.welcome = true;
        self.pause = RETRY_FIRST;
        self.tell_ready_if_new(phase);
    }

    /// Once per life of the worker: a later hello says it itself.
    pub fn tell_ready_if_new(&mut self, phase: Phase) {
        if self.welcome && phase == Phase::Ready && self.said == Phase::Starting {
            self.said = phase;
            self.tell(ToSupervisor::Ready);
        }
    }

    pub fn tell_drained(&mut self, served: u64) {
        self.tell(ToSupervisor::Drained { served });
    }

    pub fn tell_pong(&mut self, nonce: u64, healthy: bool) {
        self.tell(ToSupervisor::Pong { nonce, healthy });
    }

    pub fn tell_applied(&mut self, table: RouteTable, epoch: u64) {
        self.tell(ToSupervisor::RoutesApplied { table: Some(table), epoch });
    }

    pub fn tell_released(&mut self, channel: ChannelId) {
        self.tell(ToSupervisor::Released(Released { channel, calls: 0 }));
    }

    fn tell(&mut self, message: ToSupervisor) {
        if self.socket.is_none() {
            return;
        }
        self.waiting.push_back(message);
        self.flush();
        if self.waiting.len() > MOST_WAITING {
            self.disconnect();
        }
    }

    fn flush(&mut self) {
        while let (Some(socket), Some(message)) = (&self.socket, self.waiting.front()) {
            match socket::send(socket.as_fd(), message, &[]) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(SocketError::WouldBlock) => return,
                Err(_) => self.disconnect(),
            }
        }
    }

    fn disconnect(&mut self) {
        self.socket = None;
        self.waiting.clear();
        self.retry = Instant::now() + self.pause;
    }
}
