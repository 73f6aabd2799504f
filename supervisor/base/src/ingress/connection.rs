//! Connections to workers: made, kept while idle, used again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mortise_control::HttpReach;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::dial;
use super::upload::{UploadBody, Written};
use super::upstream::Upstream;

/// Bytes of the head of an answer.
const ANSWER_HEAD: usize = 64 << 10;

/// A connection to a worker on which one request can be sent now.
#[derive(Debug)]
pub(crate) struct WorkerConnection {
    pub(crate) sender: SendRequest<UploadBody>,
    pub(crate) written: Written,
    /// Whether it has carried a request before: then the worker may have closed it without our knowing.
    pub(crate) history: History,
}

/// What a connection was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    Fresh,
    Used,
}

/// Why there is no connection. No byte of the request was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoConnection {
    /// Nobody listens, or the program behind the worker's init does not accept.
    #[error("{0}")]
    Refused(io::Error),
    /// The worker's queue of connections is full.
    #[error("the worker's queue of connections is full")]
    QueueFull,
}

impl WorkerConnection {
    /// Connects to the worker's socket.
    pub(crate) async fn open(upstream: &Upstream) -> Result<Self, NoConnection> {
        let stream = UnixStream::connect(&upstream.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => NoConnection::QueueFull,
            _ => NoConnection::Refused(error),
        })?;
        let opened = match upstream.reach {
            HttpReach::Direct => Self::start(stream).await,
            HttpReach::Dial => Self::start(dial::receive(stream).await.map_err(NoConnection::Refused)?).await,
        };
        opened.map_err(|error| NoConnection::Refused(io::Error::other(error)))
    }

    async fn start<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let written = Written::default();
        let counted = Counted { stream, written: written.clone(), broken: false };
        let (sender, connection) = http1::Builder::new()
            .max_header_size(ANSWER_HEAD)
            .handshake::<_, UploadBody>(TokioIo::new(counted))
            .await?;
        tokio::spawn(async move {
            // Who sent a request on it is told of the error; an idle connection that breaks concerns nobody.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, written, history: History::Fresh })
    }

    /// An idle connection to the worker, or a new one.
    pub(crate) async fn take(upstream: &Upstream) -> Result<Self, NoConnection> {
        let idle = upstream.lock_pool().take(Instant::now());
        match idle {
            Some(idle) => Ok(idle),
            None => Self::open(upstream).await,
        }
    }

    /// Keeps it for the next request, once it has finished with this one.
    pub(crate) fn give_back(mut self, upstream: &std::sync::Arc<Upstream>) {
        self.history = History::Used;
        if self.sender.is_ready() {
            upstream.lock_pool().put(self, upstream.is_retired());
        } else if !self.sender.is_closed() {
            let upstream = std::sync::Arc::clone(upstream);
            tokio::spawn(async move {
                if self.sender.ready().await.is_ok() {
                    upstream.lock_pool().put(self, upstream.is_retired());
                }
            });
        }
    }
}

/// Idle connections, the last used at the end.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: Vec<(WorkerConnection, Instant)>,
    most: usize,
    time: Duration,
}

impl Pool {
    pub(crate) fn new(most: usize, time: Duration) -> Self {
        Self { idle: Vec::new(), most, time }
    }

    fn take(&mut self, now: Instant) -> Option<WorkerConnection> {
        while let Some((connection, since)) = self.idle.pop() {
            if now.duration_since(since) >= self.time {
                // The others are idle for longer still.
                self.idle.clear();
                return None;
            }
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&mut self, connection: WorkerConnection, retired: bool) {
        // The worker is retired first and its pool cleared then, both under this lock or before it: nothing is kept that
        // nobody would close.
        if !retired && self.idle.len() < self.most {
            self.idle.push((connection, Instant::now()));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.idle.clear();
    }

    /// Closes what has been idle for too long or was closed by the worker.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let time = self.time;
        self.idle.retain(|(connection, since)| now.duration_since(*since) < time && !connection.sender.is_closed());
    }
}

/// Counts what the kernel takes. When it takes no more of a request that has begun to arrive, the rest is dropped and the answer still
/// read: a worker may answer without reading to the end and close, and what it said lies in the socket.
struct Counted<S> {
    stream: S,
    written: Written,
    broken: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> Counted<S> {
    fn count(&mut self, len: usize, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => self.written.add(bytes),
            Poll::Ready(Err(_)) if !self.written.nothing() => {
                self.broken = true;
                return Poll::Ready(Ok(len));
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.count(parts.iter().map(|it| it.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Ready(Err(_)) if self.broken => Poll::Ready(Ok(())),
            shut => shut,
        }
    }
}
