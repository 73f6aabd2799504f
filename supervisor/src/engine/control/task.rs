//! The task of one worker's control socket.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use mortise_control::parts::Assembly;
use mortise_control::socket::SocketError;
use mortise_control::{MAX_PACKET, MAX_REPORT, ToSupervisor, WorkerId};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::budget::Budget;
use super::outgoing::{Outgoing, Socket};
use super::peer::Identity;
use super::watched;
use crate::lifecycle::Exit;

/// Packets that a worker may send at once, and the pause that each further one costs it. A callee that a thousand callers are
/// joined to says `Mapped` a thousand times; when quiet, a worker sends a `Pong` now and then.
const PACKETS: (u32, Duration) = (4096, Duration::from_millis(2));

/// The same for connections.
const CONNECTIONS: (u32, Duration) = (16, Duration::from_millis(500));

/// Packets that are still read of a connection that has ended. The kernel's own bound on what lies unread is lower.
const LAST_WORDS: usize = 1024;

/// How long to wait when the process has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What comes from one worker, in the order in which it happened.
#[derive(Debug)]
pub(in crate::engine) enum Inbound {
    /// It has connected: what is sent to it from now on goes there.
    Connected { worker: WorkerId, outgoing: Outgoing },
    /// It said something on the connection before.
    Message { worker: WorkerId, message: Box<ToSupervisor> },
    /// The connection before has ended.
    Disconnected { worker: WorkerId },
    /// Its first process has ended, and everything it had said before is said.
    Exited { worker: WorkerId, exit: Exit },
}

/// A worker's control socket, served as long as this lives.
#[derive(Debug)]
pub(in crate::engine) struct Control {
    task: JoinHandle<()>,
    connected: Arc<AtomicBool>,
}

impl Control {
    /// How many descriptors it holds.
    pub fn descriptors(&self) -> u32 {
        1 + u32::from(self.connected.load(Relaxed))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a worker's control socket. When the worker's first process has ended, `exit` says how, and [`Inbound::Exited`] follows
/// whatever the worker had still said.
///
/// # Errors
/// The listener cannot be watched.
pub(in crate::engine) fn listen(
    listener: OwnedFd,
    identity: Identity,
    inbound: mpsc::Sender<Inbound>,
    exit: oneshot::Receiver<Exit>,
) -> io::Result<Control> {
    // The standard library's listener accepts from any Unix socket, close-on-exec from the first moment.
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = watched::listener(listener)?;
    let connected = Arc::new(AtomicBool::new(false));
    let now = Instant::now();
    let server = Server {
        identity,
        inbound,
        connected: Arc::clone(&connected),
        exit: Some(exit),
        arriving: Assembly::new(MAX_REPORT),
        packets: Budget::new(PACKETS.0, PACKETS.1, now),
        connections: Budget::new(CONNECTIONS.0, CONNECTIONS.1, now),
    };
    Ok(Control { task: tokio::spawn(server.run(listener)), connected })
}

struct Server {
    identity: Identity,
    inbound: mpsc::Sender<Inbound>,
    connected: Arc<AtomicBool>,
    exit: Option<oneshot::Receiver<Exit>>,
    /// What has arrived of a message on the connection there is.
    arriving: Assembly,
    packets: Budget,
    connections: Budget,
}

/// The loop has ended.
struct LoopGone;

impl Server {
    async fn run(mut self, listener: AsyncFd<UnixListener>) {
        let mut current = None;
        while let Ok(next) = self.turn(&listener, current).await {
            current = next;
        }
    }

    /// Waits for one thing to happen and reports it: a connection, a packet, an end.
    async fn turn(
        &mut self,
        listener: &AsyncFd<UnixListener>,
        current: Option<Arc<Socket>>,
    ) -> Result<Option<Arc<Socket>>, LoopGone> {
        let worker = self.identity.worker;
        let happened = tokio::select! {
            // In this order, but the order alone hears nobody out: whether there is something to read is known only once the
            // reactor has looked, and one who has spent its budget is not read for a while.
            biased;
            fresh = accept(listener, &mut self.connections) => Happened::Connected(fresh),
            received = receive(current.as_deref(), &mut self.arriving, &mut self.packets) => Happened::Received(received),
            reason = flush(current.as_deref()) => Happened::Broken(reason),
            exit = ended(&mut self.exit) => Happened::Exited(exit),
        };
        match (happened, current) {
            (Happened::Connected(fresh), current) => self.connect(current, fresh).await,
            (Happened::Received(Ok(message)), current) => {
                self.report(Inbound::Message { worker, message }).await?;
                Ok(current)
            }
            (Happened::Received(Err(error)), Some(socket)) => self.disconnect(&socket, &error.to_string()).await,
            (Happened::Broken(reason), Some(socket)) => {
                self.hear_out(&socket).await?;
                self.disconnect(&socket, &reason).await
            }
            (Happened::Received(Err(_)) | Happened::Broken(_), None) => Ok(None),
            (Happened::Exited(exit), current) => {
                self.exit = None;
                if let Some(socket) = &current {
                    self.hear_out(socket).await?;
                }
                self.report(Inbound::Exited { worker, exit }).await?;
                Ok(current)
            }
        }
    }

    /// Reports what lies unread in a connection whose other end sends nothing more: a worker's last word is why it ended.
    async fn hear_out(&mut self, socket: &Socket) -> Result<(), LoopGone> {
        let worker = self.identity.worker;
        for _ in 0..LAST_WORDS {
            match receive_now(socket, &mut self.arriving) {
                Ok(Some(message)) => self.report(Inbound::Message { worker, message }).await?,
                Ok(None) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// A connection by one of the worker's processes takes the place of the one before; any other is closed.
    async fn connect(&mut self, before: Option<Arc<Socket>>, fresh: OwnedFd) -> Result<Option<Arc<Socket>>, LoopGone> {
        self.connections.spend(Instant::now());
        let worker = self.identity.worker;
        let checked =
            self.identity.check(fresh.as_fd()).and_then(|()| watched::connection(fresh).map_err(|e| e.to_string()));
        let fd = match checked {
            Ok(fd) => fd,
            Err(reason) => {
                tracing::warn!(%worker, %reason, "a connection to a control socket is refused");
                return Ok(before);
            }
        };
        if let Some(before) = before {
            self.disconnect(&before, "the worker has made another").await?;
        }
        let socket = Arc::new(Socket::new(fd));
        self.arriving = Assembly::new(MAX_REPORT);
        self.connected.store(true, Relaxed);
        self.report(Inbound::Connected { worker, outgoing: Outgoing::new(Arc::clone(&socket)) }).await?;
        Ok(Some(socket))
    }

    async fn disconnect(&self, socket: &Socket, reason: &str) -> Result<Option<Arc<Socket>>, LoopGone> {
        let worker = self.identity.worker;
        tracing::info!(%worker, reason, "a control connection ended");
        socket.close(reason);
        self.report(Inbound::Disconnected { worker }).await?;
        self.connected.store(false, Relaxed);
        Ok(None)
    }

    async fn report(&self, inbound: Inbound) -> Result<(), LoopGone> {
        self.inbound.send(inbound).await.map_err(|_| LoopGone)
    }
}

enum Happened {
    Connected(OwnedFd),
    Received(Result<Box<ToSupervisor>, SocketError>),
    Broken(String),
    Exited(Exit),
}

/// The next connection, whoever made it. Takes nothing before it returns, so it may be dropped.
async fn accept(listener: &AsyncFd<UnixListener>, budget: &mut Budget) -> OwnedFd {
    loop {
        budget.available().await;
        let Ok(mut ready) = listener.readable().await else {
            // The reactor is gone: the runtime is shutting down.
            return std::future::pending().await;
        };
        let accepted = listener.get_ref().accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        match accepted {
            Ok(stream) => return stream.into(),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => ready.clear_ready(),
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                _ => {
                    tracing::warn!(%error, "a control socket cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// The next message of the connection there is. What has arrived of it is in `arriving`, so this may be dropped.
async fn receive(
    socket: Option<&Socket>,
    arriving: &mut Assembly,
    budget: &mut Budget,
) -> Result<Box<ToSupervisor>, SocketError> {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        budget.available().await;
        let Ok(mut ready) = socket.fd.readable().await else { return Err(SocketError::Closed) };
        match receive_now(socket, arriving) {
            Err(SocketError::WouldBlock) => ready.clear_ready(),
            Err(error) => return Err(error),
            Ok(received) => {
                budget.spend(Instant::now());
                if let Some(message) = received {
                    return Ok(message);
                }
            }
        }
    }
}

/// One packet. None: there is more of its message to come.
fn receive_now(socket: &Socket, arriving: &mut Assembly) -> Result<Option<Box<ToSupervisor>>, SocketError> {
    thread_local! {
        // One for all workers: it is filled and decoded in one go.
        static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_PACKET].into_boxed_slice());
    }
    let received = BUFFER.with_borrow_mut(|buffer| arriving.recv_without_fds(socket.fd.get_ref().as_fd(), buffer));
    received.map(|message| message.map(Box::new))
}

/// Sends what is queued for the connection there is, until that ends.
async fn flush(socket: Option<&Socket>) -> String {
    match socket {
        Some(socket) => socket.flush().await,
        None => std::future::pending().await,
    }
}

/// The end of the worker's first process. Nothing when nobody waits for it any more.
async fn ended(exit: &mut Option<oneshot::Receiver<Exit>>) -> Exit {
    match exit {
        Some(receiver) => match receiver.await {
            Ok(exit) => exit,
            Err(_) => {
                *exit = None;
                std::future::pending().await
            }
        },
        None => std::future::pending().await,
    }
}
