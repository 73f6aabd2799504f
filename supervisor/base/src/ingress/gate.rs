//! The client's connection as hyper gets to see it: checked requests only, one head at a time, with time limits.
//!
//! ```text
//!   socket ──▶ [framing] ──▶ hyper ──▶ service
//!                 │ a refused head goes on as a stand-in request, so that its answer comes in its turn,
//!                 │ after those of the requests before it; `Ticket::refusal` tells the service
//!                 ▼
//!              closed for further bytes
//! ```

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::framing::{self, Body, Head, Malformed, Taken};
use super::limits::Limits;

/// What hyper reads in the place of a refused request.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// How much of what a client still sends is read and dropped after the last answer, so that the answer is not lost to the reset
/// that closing with unread bytes causes.
const DISCARD_BYTES: usize = 1 << 20;
/// And for how long.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Room for what is read ahead.
const CARRY: usize = 8 << 10;

/// What the gate and the service of one connection know of each other.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    /// Heads that hyper was given.
    passed: AtomicU64,
    /// Requests that the service was given.
    served: AtomicU64,
    /// Requests whose answers are complete.
    ended: AtomicU64,
    refusal: Mutex<Option<(u64, Malformed)>>,
    body_fault: Mutex<Option<BodyFault>>,
    upgraded: AtomicBool,
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// It stood still for too long.
    Stalled,
    /// It is not what it says it is.
    Malformed(Malformed),
}

/// A request's place in the order of its connection.
#[derive(Debug)]
pub(crate) struct Ticket {
    turnstile: Arc<Turnstile>,
    /// Some: this is the stand-in of a request that was refused.
    pub(crate) refusal: Option<Malformed>,
}

impl Turnstile {
    /// The next request: to be called once per request, in order.
    pub(crate) fn next(self: &Arc<Self>) -> Ticket {
        let number = self.served.fetch_add(1, Relaxed);
        let refused = lock(&self.refusal).filter(|(it, _)| *it == number);
        Ticket { turnstile: Arc::clone(self), refusal: refused.map(|(_, why)| why) }
    }

    fn busy(&self) -> bool {
        self.passed.load(Relaxed) > self.ended.load(Relaxed)
    }
}

impl Ticket {
    /// What the gate found wrong with the body.
    pub(crate) fn body_fault(&self) -> Option<BodyFault> {
        *lock(&self.turnstile.body_fault)
    }

    /// From now on the connection carries something else than HTTP.
    pub(crate) fn upgrade(&self) {
        self.turnstile.upgraded.store(true, Relaxed);
    }
}

/// The answer is complete or given up.
impl Drop for Ticket {
    fn drop(&mut self) {
        self.turnstile.ended.fetch_add(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    socket: S,
    turnstile: Arc<Turnstile>,
    times: Times,
    head_bytes: usize,
    headers: usize,
    /// Bytes read and not given to hyper yet.
    carry: Vec<u8>,
    /// So many of them may go.
    cleared: usize,
    /// So many of a partial head have been scanned.
    seen: usize,
    reading: Reading,
    read_timer: Timer<Wait>,
    write_timer: Timer<()>,
    discard: Discard,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    idle: Duration,
    head: Duration,
    stall: Duration,
}

#[derive(Debug)]
enum Reading {
    Head,
    Body(Body),
    /// A request was refused, or a body was: hyper gets nothing more.
    Closed,
    /// Upgraded.
    Raw,
}

/// What the client is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Only the time since the last answer counts, so the number of answers is part of the reason.
    Request {
        answers: u64,
    },
    RestOfHead,
    Body,
}

#[derive(Clone, Copy, Debug)]
enum Discard {
    NotYet,
    Until { left: usize },
    Done,
}

impl<S> Gate<S> {
    pub(crate) fn new(socket: S, limits: &Limits, turnstile: Arc<Turnstile>) -> Self {
        Self {
            socket,
            turnstile,
            times: Times { idle: limits.idle_time, head: limits.head_time, stall: limits.stall_time },
            head_bytes: limits.head_bytes,
            headers: limits.headers,
            carry: Vec::new(),
            cleared: 0,
            seen: 0,
            reading: Reading::Head,
            read_timer: Timer::default(),
            write_timer: Timer::default(),
            discard: Discard::NotYet,
        }
    }

    /// Looks at the bytes in `carry` and clears what hyper may have of them.
    fn examine(&mut self) -> io::Result<()> {
        match &mut self.reading {
            Reading::Head => {
                // RFC 9112, 2.2: empty lines before a request are ignored.
                let empty = self.carry.chunks_exact(2).take_while(|it| it == b"\r\n").count() * 2;
                if empty > 0 {
                    self.carry.drain(..empty);
                    self.seen = 0;
                }
                match framing::head(&self.carry, &mut self.seen, self.head_bytes, self.headers) {
                    Ok(Head::Partial) => {}
                    Ok(Head::Complete { len, body }) => {
                        self.cleared = len;
                        self.turnstile.passed.fetch_add(1, Relaxed);
                        self.reading = if body == Body::Length(0) { Reading::Head } else { Reading::Body(body) };
                        self.read_timer.disarm();
                    }
                    Err(why) => self.refuse(why),
                }
            }
            Reading::Body(body) => match body.take(&self.carry) {
                Ok(Taken::All) => self.cleared = self.carry.len(),
                Ok(Taken::Ended(len)) => {
                    self.cleared = len;
                    self.reading = Reading::Head;
                }
                Err(why) => return Err(self.spoil(BodyFault::Malformed(why))),
            },
            Reading::Raw => self.cleared = self.carry.len(),
            Reading::Closed => self.carry.clear(),
        }
        Ok(())
    }

    fn refuse(&mut self, why: Malformed) {
        let number = self.turnstile.passed.fetch_add(1, Relaxed);
        *lock(&self.turnstile.refusal) = Some((number, why));
        self.carry.clear();
        self.carry.extend_from_slice(STAND_IN);
        self.cleared = STAND_IN.len();
        self.reading = Reading::Closed;
    }

    fn spoil(&mut self, why: BodyFault) -> io::Error {
        *lock(&self.turnstile.body_fault) = Some(why);
        self.carry.clear();
        self.reading = Reading::Closed;
        match why {
            BodyFault::Stalled => io::ErrorKind::TimedOut.into(),
            BodyFault::Malformed(why) => io::Error::new(io::ErrorKind::InvalidData, why),
        }
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let len = self.cleared.min(buffer.remaining());
        buffer.put_slice(&self.carry[..len]);
        self.carry.drain(..len);
        self.cleared -= len;
    }

    /// What hyper waits for, and how long it may take; none while that is up to the service.
    fn wait(&self) -> Option<(Wait, Duration)> {
        match &self.reading {
            Reading::Head if self.carry.is_empty() => {
                Some((Wait::Request { answers: self.turnstile.ended.load(Relaxed) }, self.times.idle))
            }
            Reading::Head => Some((Wait::RestOfHead, self.times.head)),
            Reading::Body(_) => Some((Wait::Body, self.times.stall)),
            Reading::Closed | Reading::Raw => None,
        }
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads from the socket into `carry`. Ready(0) at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [const { std::mem::MaybeUninit::uninit() }; CARRY];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        self.carry.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// The next bytes of a body, read where hyper wants them. What belongs to the next request is carried.
    fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        self.read_timer.disarm();
        if let Reading::Body(body) = &mut self.reading {
            match body.take(&buffer.filled()[before..]) {
                Ok(Taken::All) => {}
                Ok(Taken::Ended(len)) => {
                    self.carry.extend_from_slice(&buffer.filled()[before + len..]);
                    buffer.set_filled(before + len);
                    self.reading = Reading::Head;
                }
                Err(why) => {
                    buffer.set_filled(before);
                    return Poll::Ready(Err(self.spoil(BodyFault::Malformed(why))));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing came: is it time to stop waiting?
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some((wait, time)) = self.wait() else { return Poll::Pending };
            ready!(self.read_timer.poll(cx, wait, time));
            self.read_timer.disarm();
            match wait {
                Wait::Request { .. } if self.turnstile.busy() => continue,
                Wait::Request { .. } => self.reading = Reading::Closed,
                Wait::RestOfHead => self.refuse(Malformed::HeadTime),
                Wait::Body => return Poll::Ready(Err(self.spoil(BodyFault::Stalled))),
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.turnstile.upgraded.load(Relaxed) && !matches!(this.reading, Reading::Raw) {
                this.reading = Reading::Raw;
                this.cleared = this.carry.len();
            }
            if this.cleared > 0 {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            if !this.carry.is_empty() {
                this.examine()?;
                if this.cleared > 0 {
                    continue;
                }
            }
            let read = match this.reading {
                Reading::Body(_) | Reading::Raw => this.poll_body(cx, buffer),
                Reading::Head => match this.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => Poll::Ready(Ok(())),
                    Poll::Ready(Ok(_)) => continue,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                },
                // No end of file: hyper would take it for a client that left, and drop the answers that are on their way. It
                // closes the connection itself, after the stand-in's answer.
                Reading::Closed => Poll::Pending,
            };
            if let Poll::Ready(read) = read {
                return Poll::Ready(read);
            }
            ready!(this.poll_late(cx))?;
            if matches!(this.reading, Reading::Closed) && this.cleared == 0 {
                // It was idle for too long. Nothing is on its way, so this ends it.
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gate<S> {
    /// Waits for the peer to take bytes, for so long as it does take some now and then.
    fn poll_write_late<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer.disarm();
            return written;
        }
        if matches!(self.reading, Reading::Raw) {
            return Poll::Pending;
        }
        ready!(self.write_timer.poll(cx, (), self.times.stall));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads what is still coming, until the client closes or it is enough.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Discard::Until { left } = self.discard else { return Poll::Ready(Ok(())) };
            self.carry.clear();
            match self.poll_fill(cx) {
                Poll::Ready(Ok(len @ 1..)) if len < left => self.discard = Discard::Until { left: left - len },
                Poll::Ready(_) => self.discard = Discard::Done,
                Poll::Pending => {
                    ready!(self.write_timer.poll(cx, (), DISCARD_TIME));
                    self.discard = Discard::Done;
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.poll_write_late(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, parts);
        this.poll_write_late(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if matches!(this.discard, Discard::NotYet) {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            this.write_timer.disarm();
            // A client that sends nothing is not waited for.
            let quiet = matches!(this.reading, Reading::Head) && this.carry.is_empty();
            this.discard = if quiet { Discard::Done } else { Discard::Until { left: DISCARD_BYTES } };
        }
        this.poll_discard(cx)
    }
}

/// A timer that is armed for one reason at a time and made on first use.
#[derive(Debug)]
struct Timer<R> {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<R>,
}

impl<R> Default for Timer<R> {
    fn default() -> Self {
        Self { sleep: None, armed: None }
    }
}

impl<R: PartialEq> Timer<R> {
    fn disarm(&mut self) {
        self.armed = None;
    }

    /// Ready when `time` has passed since it was first polled for this reason.
    fn poll(&mut self, cx: &mut Context<'_>, reason: R, time: Duration) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        if self.armed.as_ref() != Some(&reason) {
            sleep.as_mut().reset(Instant::now() + time);
            self.armed = Some(reason);
        }
        sleep.as_mut().poll(cx)
    }
}
