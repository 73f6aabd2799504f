//! A real socket: the last words of processes, and messages that are longer than a packet.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mortise_control::parts::{Assembly, cut};
use mortise_control::{
    ChannelId, ChannelReport, ChannelRole, Hello, HttpReach, HttpRoute, HttpTarget, MAX_MESSAGE, MAX_PACKET,
    MAX_REPORT, ModuleName, PROTOCOL, Phase, ServiceName, ToSupervisor, ToWorker, Token, WorkerId, socket as packets,
};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use tokio::sync::{mpsc, oneshot};

use super::{Control, Identity, Inbound, Message, Outgoing};
use crate::cgroup::Group;
use crate::lifecycle::{Exit, ExitStatus};

const WORKER: WorkerId = WorkerId { slot: 3, generation: 1 };
const ROUNDS: usize = 50;
/// Nothing that a test waits for takes this long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that is connected, and whose first process is whatever is run with its connection.
struct Connected {
    _control: Control,
    outgoing: Outgoing,
    connection: OwnedFd,
    inbound: mpsc::Receiver<Inbound>,
    exit: oneshot::Sender<Exit>,
}

fn seqpacket() -> OwnedFd {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

async fn worker(folder: &Path) -> Connected {
    let path = folder.join("control.sock");
    let _ = std::fs::remove_file(&path);
    let address = UnixAddr::new(&path).unwrap();
    let (listener, connection) = (seqpacket(), seqpacket());
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(4).unwrap()).unwrap();
    connect(connection.as_raw_fd(), &address).unwrap();
    let (report, mut inbound) = mpsc::channel(64);
    let (exit, exited) = oneshot::channel();
    let uid = nix::unistd::geteuid().as_raw();
    let identity = Identity { worker: WORKER, uid, group: Group::in_no_hierarchy() };
    let control = super::listen(listener, identity, report, exited).unwrap();
    let Some(Inbound::Connected { outgoing, .. }) = next(&mut inbound).await else { panic!("it is connected") };
    Connected { _control: control, outgoing, connection, inbound, exit }
}

async fn next(inbound: &mut mpsc::Receiver<Inbound>) -> Option<Inbound> {
    tokio::time::timeout(PATIENCE, inbound.recv()).await.expect("something is reported")
}

/// A packet in a file, for a process that copies it to its control connection.
fn word(folder: &Path, reason: &str) -> std::path::PathBuf {
    let path = folder.join("word");
    let message = ToSupervisor::NeverReady { reason: reason.to_owned() };
    std::fs::write(&path, rmp_serde::to_vec_named(&message).unwrap()).unwrap();
    path
}

/// Runs a process that says its last word and ends at once, and waits for its end in this thread, which is the reactor's too: it
/// has not looked at the connection since.
fn speak_and_end(word: &Path, connection: OwnedFd) -> Exit {
    let ended = Command::new("cat").arg(word).stdout(File::from(connection)).status().unwrap();
    Exit { status: ExitStatus::Code(ended.code().unwrap()), ..Exit::default() }
}

fn said(inbound: &Inbound) -> Option<&str> {
    match inbound {
        Inbound::Message { message, .. } => match &**message {
            ToSupervisor::NeverReady { reason } => Some(reason),
            _ => None,
        },
        _ => None,
    }
}

#[tokio::test]
async fn the_last_word_of_a_process_is_heard_before_its_end() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let reason = format!("no database in round {round}");
        let word = word(folder.path(), &reason);
        let Connected { _control, mut inbound, exit, connection, outgoing: _outgoing } = worker(folder.path()).await;
        exit.send(speak_and_end(&word, connection)).unwrap();
        let first = next(&mut inbound).await.unwrap();
        assert_eq!(said(&first), Some(&*reason), "round {round}: {first:?}");
        loop {
            match next(&mut inbound).await.unwrap() {
                Inbound::Disconnected { .. } => {}
                Inbound::Exited { exit, .. } => break assert_eq!(exit.status, ExitStatus::Code(0)),
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_message_that_comes_too_late_for_a_process_does_not_lose_its_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let word = word(folder.path(), "the port is taken");
    let Connected { _control, mut inbound, exit: _exit, connection, outgoing } = worker(folder.path()).await;
    speak_and_end(&word, connection);
    outgoing.send(Message::new(&ToWorker::Ping { nonce: 1 }, &[]).unwrap());
    let first = next(&mut inbound).await.unwrap();
    assert_eq!(said(&first), Some("the port is taken"), "{first:?}");
    assert!(matches!(next(&mut inbound).await, Some(Inbound::Disconnected { .. })));
}

/// The hello of a worker with that many channels.
fn hello(channels: u64) -> ToSupervisor {
    let report = |n| ChannelReport {
        channel: ChannelId(u64::MAX - n),
        role: ChannelRole::Callee,
        service: ServiceName::new("markdown").unwrap(),
        peer: WorkerId { slot: 1000, generation: 17 },
    };
    ToSupervisor::Hello(Hello {
        protocol: PROTOCOL,
        worker: WORKER,
        token: Token([7; 16]),
        phase: Phase::Ready,
        services: vec![],
        clients: vec![],
        state: None,
        channels: (0..channels).map(report).collect(),
    })
}

fn http_route(n: usize) -> HttpRoute {
    HttpRoute {
        host: Some(format!("tenant-{n}.example.org")),
        prefix: format!("/service/{n}"),
        service: ServiceName::new("site").unwrap(),
        targets: vec![HttpTarget {
            worker: WorkerId { slot: n as u32, generation: 1 },
            module: ModuleName::new("site").unwrap(),
            version: semver::Version::new(1, 0, 0),
            weight: 1,
            version_weight: 1,
            socket: format!("/run/mortise/http/{n}.1.sock").into(),
            reach: HttpReach::Direct,
        }],
        rules: vec![],
        tags: vec![],
    }
}

#[tokio::test]
async fn a_hello_with_thousands_of_channels_and_routes_by_the_thousand_arrive_whole() {
    let folder = tempfile::tempdir().unwrap();
    let Connected { _control, mut inbound, exit: _exit, connection, outgoing } = worker(folder.path()).await;
    // A thread is the worker: it says its hello, and reads only then, so that the supervisor has to queue.
    let theirs = std::thread::spawn(move || {
        let bytes = rmp_serde::to_vec_named(&hello(4000)).unwrap();
        assert!(bytes.len() > 4 * MAX_PACKET);
        for packet in cut(bytes, 0, MAX_REPORT).unwrap() {
            packets::send_bytes(connection.as_fd(), &packet.bytes, &[]).unwrap();
        }
        let (mut arriving, mut buffer) = (Assembly::new(MAX_MESSAGE), vec![0; MAX_PACKET]);
        let mut heard = Vec::new();
        while heard.len() < 3 {
            heard.extend(arriving.recv::<ToWorker>(connection.as_fd(), &mut buffer).unwrap().map(|(it, _)| it));
        }
        heard
    });
    let Some(Inbound::Message { message, .. }) = next(&mut inbound).await else { panic!("a hello") };
    let ToSupervisor::Hello(hello) = *message else { panic!("{message:?}") };
    assert_eq!(hello.channels.len(), 4000);
    let routes: Vec<HttpRoute> = (0..5000).map(http_route).collect();
    for message in [ToWorker::HttpRoutes { epoch: 1, routes }, ToWorker::Ping { nonce: 5 }, ToWorker::Ping { nonce: 6 }]
    {
        outgoing.send(Message::new(&message, &[]).unwrap());
    }
    let heard = tokio::task::spawn_blocking(|| theirs.join().unwrap());
    let heard = tokio::time::timeout(PATIENCE, heard).await.expect("all is sent").unwrap();
    let [ToWorker::HttpRoutes { routes, .. }, ToWorker::Ping { nonce: 5 }, ToWorker::Ping { nonce: 6 }] = &heard[..]
    else {
        panic!("{} messages", heard.len())
    };
    assert_eq!(routes[..], (0..5000).map(http_route).collect::<Vec<_>>()[..]);
}

#[tokio::test]
async fn a_worker_that_says_more_than_a_message_may_have_loses_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let Connected { _control, mut inbound, exit: _exit, connection, outgoing: _outgoing } = worker(folder.path()).await;
    let theirs = std::thread::spawn(move || {
        let part = &cut(rmp_serde::to_vec_named(&hello(4000)).unwrap(), 0, MAX_REPORT).unwrap()[0].bytes;
        // For ever, or until it is refused.
        (0..1000).find(|_| packets::send_bytes(connection.as_fd(), part, &[]).is_err())
    });
    assert!(matches!(next(&mut inbound).await, Some(Inbound::Disconnected { .. })));
    let refused = tokio::task::spawn_blocking(|| theirs.join().unwrap()).await.unwrap();
    assert!(refused.is_some());
}
