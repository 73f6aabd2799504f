//! The last words of real processes.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mortise_control::{ToSupervisor, ToWorker, WorkerId};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use tokio::sync::{mpsc, oneshot};

use super::{Control, Identity, Inbound, Outgoing, Packet};
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
    outgoing.send(Packet::new(&ToWorker::Ping { nonce: 1 }, Vec::new()).unwrap());
    let first = next(&mut inbound).await.unwrap();
    assert_eq!(said(&first), Some("the port is taken"), "{first:?}");
    assert!(matches!(next(&mut inbound).await, Some(Inbound::Disconnected { .. })));
}
