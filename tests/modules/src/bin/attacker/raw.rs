//! The control protocol by hand.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use mortise_control::socket::{self, SocketError};
use mortise_control::{
    Boot, Hello, MAX_PACKET, PROTOCOL, Phase, Released, ServiceDeclaration, ServiceName, ToSupervisor, ToWorker,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect};

/// What the supervisor has told this worker.
pub fn boot() -> Boot {
    let mut bytes = Vec::new();
    let record = File::open(format!("/proc/self/fd/{}", mortise_control::BOOT_FD));
    record.and_then(|mut it| it.read_to_end(&mut bytes)).expect("the boot record can be read");
    rmp_serde::from_slice(&bytes).expect("the boot record")
}

/// A control connection.
pub struct Raw {
    pub boot: Boot,
    pub socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects, and says nothing.
    pub fn connect() -> Self {
        Self::try_connect().expect("the control socket takes a connection")
    }

    pub fn try_connect() -> nix::Result<Self> {
        let boot = boot();
        let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&boot.control)?)?;
        Ok(Self { boot, socket, buffer: vec![0; MAX_PACKET] })
    }

    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            worker: self.boot.worker,
            token: self.boot.token,
            phase: Phase::Starting,
            services: Vec::new(),
            clients: Vec::new(),
            state: None,
            channels: Vec::new(),
        }
    }

    /// Connects and does what an honest worker does until it is ready.
    pub fn ready() -> Self {
        let mut raw = Self::connect();
        raw.say(&ToSupervisor::Hello(raw.hello()));
        while !matches!(raw.hear(), Some((ToWorker::Welcome(_), _))) {}
        let services = raw.boot.configuration.get("serves").and_then(|it| ServiceName::new(it).ok());
        let services = services.map(|service| ServiceDeclaration { service, fingerprint: 0 });
        raw.say(&ToSupervisor::Declare { services: services.into_iter().collect(), clients: Vec::new(), state: None });
        raw.say(&ToSupervisor::Ready);
        raw
    }

    /// Says something; whether anybody listens.
    pub fn say(&self, message: &ToSupervisor) -> bool {
        socket::send(self.socket.as_fd(), message, &[]).is_ok()
    }

    /// The next message. None: the connection has ended.
    pub fn hear(&mut self) -> Option<(ToWorker, Vec<OwnedFd>)> {
        match socket::recv(self.socket.as_fd(), &mut self.buffer) {
            Ok(heard) => Some(heard),
            Err(SocketError::Malformed(why)) => panic!("{why}"),
            Err(_) => None,
        }
    }

    /// Answers as an honest worker would that holds no channel.
    pub fn answer(&self, message: &ToWorker) {
        let answer = match message {
            ToWorker::Welcome(_) | ToWorker::Open { .. } => return,
            ToWorker::Attach(attach) => ToSupervisor::Released(Released { channel: attach.channel, calls: 0 }),
            ToWorker::Close { channel } => ToSupervisor::Released(Released { channel: *channel, calls: 0 }),
            ToWorker::Routes { epoch, .. } | ToWorker::HttpRoutes { epoch, .. } => {
                ToSupervisor::RoutesApplied { table: None, epoch: *epoch }
            }
            ToWorker::Drain { .. } => ToSupervisor::Drained { served: 0 },
            ToWorker::Ping { nonce } => ToSupervisor::Pong { nonce: *nonce, healthy: true },
            ToWorker::ExportState { .. } | ToWorker::ImportState { .. } => return,
        };
        self.say(&answer);
    }

    /// Goes on as an honest worker until it is told to drain or the connection ends.
    pub fn go_on(mut self) {
        while let Some((message, _)) = self.hear() {
            self.answer(&message);
            if matches!(message, ToWorker::Drain { .. }) {
                return;
            }
        }
    }
}

/// Says what was found out.
pub fn found(what: &str, is: impl std::fmt::Display) {
    println!("found {what}: {is}");
}
