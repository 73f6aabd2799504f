//! Packets on their way to one worker: sent at once when the kernel takes them, else kept in a bounded queue. Never waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mortise_control::socket::{self, SocketError};
use mortise_control::{MAX_FDS, MAX_PACKET, ToWorker};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Packets that a worker may leave unread beside those in the kernel's own buffer. A callee with a thousand callers gets that many
/// `Attach` at once.
const MOST_PACKETS: usize = 4096;

/// Their bytes.
const MOST_BYTES: usize = 4 << 20;

/// Descriptors in them.
const MOST_DESCRIPTORS: usize = 8192;

/// A message that can be sent: encoded, within the bounds, with its descriptors.
#[derive(Debug)]
pub(in crate::engine) struct Packet {
    bytes: Vec<u8>,
    fds: Vec<Arc<OwnedFd>>,
}

impl Packet {
    /// Encodes a message.
    ///
    /// # Errors
    /// One that is too large, or has too many descriptors, is a defect of ours and is never sent.
    pub fn new(message: &ToWorker, fds: Vec<Arc<OwnedFd>>) -> Result<Self, SocketError> {
        let bytes = rmp_serde::to_vec_named(message).map_err(|e| SocketError::Malformed(e.to_string()))?;
        if bytes.len() > MAX_PACKET || fds.len() > MAX_FDS {
            return Err(SocketError::TooLarge(bytes.len()));
        }
        Ok(Self { bytes, fds })
    }

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
    fn has_room_for(&self, packet: &Packet) -> bool {
        self.packets.len() < MOST_PACKETS
            && self.bytes + packet.bytes.len() <= MOST_BYTES
            && self.descriptors + packet.fds.len() <= MOST_DESCRIPTORS
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

    /// Sends a packet, or queues it. A worker that lets the queue fill up loses its connection.
    pub fn send(&self, packet: Packet) {
        let mut queue = self.0.queue();
        if queue.closed.is_some() {
            return;
        }
        if queue.packets.is_empty() {
            match packet.send(self.0.fd.get_ref().as_fd()) {
                Ok(()) => return,
                Err(SocketError::WouldBlock) => {}
                Err(error) => {
                    drop(queue);
                    return self.0.close(error.to_string());
                }
            }
        }
        if !queue.has_room_for(&packet) {
            let left = queue.packets.len();
            drop(queue);
            return self.0.close(format!("it does not read its control socket: {left} packets wait for it"));
        }
        queue.push(packet);
        drop(queue);
        self.0.changed.notify_one();
    }

    /// Ends the connection.
    pub fn close(&self, reason: impl Into<String>) {
        self.0.close(reason);
    }
}
