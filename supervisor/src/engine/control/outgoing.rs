//! Packets on their way to one worker: sent at once when the kernel takes them, else kept in a bounded queue. Never waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mortise_control::parts::cut;
use mortise_control::socket::{self, SocketError};
use mortise_control::{MAX_MESSAGE, ToWorker};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Packets that a worker may leave unread beside those in the kernel's own buffer. A callee with a thousand callers gets that many
/// `Attach` at once.
const MOST_PACKETS: usize = 4096;

/// Their bytes: one message of the longest, and as much again.
const MOST_BYTES: usize = 2 * MAX_MESSAGE;

/// Descriptors in them.
const MOST_DESCRIPTORS: usize = 8192;

/// A message that can be sent: encoded, within the bounds, with its descriptors, in as many packets as it takes.
#[derive(Debug)]
pub(in crate::engine) struct Message(Vec<Packet>);

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    fds: Vec<Arc<OwnedFd>>,
}

impl Message {
    /// Encodes a message.
    ///
    /// # Errors
    /// One that is too large, or has too many descriptors, is never sent.
    pub fn new(message: &ToWorker, fds: &[Arc<OwnedFd>]) -> Result<Self, SocketError> {
        let bytes = rmp_serde::to_vec_named(message).map_err(|e| SocketError::Malformed(e.to_string()))?;
        let packets = cut(bytes, fds.len(), MAX_MESSAGE)?;
        Ok(Self(packets.into_iter().map(|it| Packet { bytes: it.bytes, fds: fds[it.fds].to_vec() }).collect()))
    }
}

impl Packet {
    fn send(&self, socket: BorrowedFd<'_>) -> Result<(), SocketError> {
        let fds: Vec<_> = self.fds.iter().map(|it| it.as_fd()).collect();
        socket::send_bytes(socket, &self.bytes, &fds)
    }
}

/// One connection of a worker: its socket and what is to be sent on it. Shared by the loop, which sends, and the task that reads.
#[derive(Debug)]
pub(super) struct Socket {
    pub fd: AsyncFd<OwnedFd>,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Packet>,
    bytes: usize,
    descriptors: usize,
    /// Why nothing is sent any more.
    closed: Option<String>,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.packets.len() <= MOST_PACKETS && self.bytes <= MOST_BYTES && self.descriptors <= MOST_DESCRIPTORS
    }

    fn push(&mut self, packet: Packet) {
        self.bytes += packet.bytes.len();
        self.descriptors += packet.fds.len();
        self.packets.push_back(packet);
    }

    fn pop(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            self.bytes -= packet.bytes.len();
            self.descriptors -= packet.fds.len();
        }
    }

    /// The first reason stays.
    fn close(&mut self, reason: impl Into<String>) {
        *self = Self { closed: Some(self.closed.take().unwrap_or_else(|| reason.into())), ..Self::default() };
    }
}

impl Socket {
    pub fn new(fd: AsyncFd<OwnedFd>) -> Self {
        Self { fd, queue: Mutex::default(), changed: Notify::new() }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is queued, whenever the worker takes it; ends when the connection has, with the reason.
    pub async fn flush(&self) -> String {
        loop {
            let changed = self.changed.notified();
            match self.outlook() {
                Outlook::Closed(reason) => return reason,
                Outlook::Empty => changed.await,
                Outlook::Waiting => match self.fd.writable().await {
                    Ok(mut ready) => {
                        if self.send_some() == Err(SendStopped::WouldBlock) {
                            ready.clear_ready();
                        }
                    }
                    Err(error) => self.queue().close(format!("the event loop lost its socket: {error}")),
                },
            }
        }
    }

    fn outlook(&self) -> Outlook {
        let queue = self.queue();
        match &queue.closed {
            Some(reason) => Outlook::Closed(reason.clone()),
            None if queue.packets.is_empty() => Outlook::Empty,
            None => Outlook::Waiting,
        }
    }

    fn send_some(&self) -> Result<(), SendStopped> {
        let mut queue = self.queue();
        while let Some(packet) = queue.packets.front() {
            match packet.send(self.fd.get_ref().as_fd()) {
                Ok(()) => queue.pop(),
                Err(SocketError::WouldBlock) => return Err(SendStopped::WouldBlock),
                Err(error) => {
                    queue.close(error.to_string());
                    return Err(SendStopped::Closed);
                }
            }
        }
        Ok(())
    }

    /// Ends the connection.
    pub fn close(&self, reason: impl Into<String>) {
        self.queue().close(reason);
        // One that the worker has shut down already is no error.
        let _ = shutdown(std::os::fd::AsRawFd::as_raw_fd(self.fd.get_ref()), Shutdown::Both);
        self.changed.notify_one();
    }
}

enum Outlook {
    Closed(String),
    Empty,
    Waiting,
}

#[derive(Debug, PartialEq, Eq)]
enum SendStopped {
    WouldBlock,
    Closed,
}

/// The loop's way to one connection of a worker. Sending on one that has ended does nothing: the report that says so is on its way.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Outgoing(Arc<Socket>);

impl Outgoing {
    pub(super) const fn new(socket: Arc<Socket>) -> Self {
        Self(socket)
    }

    /// Sends a message, or queues what of it cannot be sent now. A worker that lets the queue fill up loses its connection.
    pub fn send(&self, message: Message) {
        let mut queue = self.0.queue();
        if queue.closed.is_some() {
            return;
        }
        for packet in message.0 {
            if queue.packets.is_empty() {
                match packet.send(self.0.fd.get_ref().as_fd()) {
                    Ok(()) => continue,
                    Err(SocketError::WouldBlock) => {}
                    Err(error) => {
                        drop(queue);
                        return self.0.close(error.to_string());
                    }
                }
            }
            queue.push(packet);
        }
        if !queue.has_room() {
            let left = queue.packets.len();
            drop(queue);
            return self.0.close(format!("it does not read its control socket: {left} packets wait for it"));
        }
        let waits = !queue.packets.is_empty();
        drop(queue);
        if waits {
            self.0.changed.notify_one();
        }
    }

    /// Ends the connection.
    pub fn close(&self, reason: impl Into<String>) {
        self.0.close(reason);
    }
}
