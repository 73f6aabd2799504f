//! The readers of one worker's FIFOs.

use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::limit::Bucket;
use super::split::LineSplitter;
use super::worker::WorkerLog;
use super::{LogSink, LogSource};
use crate::api::LogStream;

/// What one read takes at most: a whole FIFO.
const READ_BYTES: usize = 64 << 10;

/// What is read of one worker in a second, over time. More would be the supervisor's time for lines that are dropped anyway: the
/// worker waits at its full FIFO instead.
const PACE: u32 = 16 << 20;

/// What is still read of each stream when the worker's first process has ended. Others may be left that go on writing.
const REST_BYTES: usize = 4 << 20;

/// How long lines may be dropped before it is said, if no line comes that could say it.
const TELL_AFTER: Duration = Duration::from_secs(1);

thread_local! {
    /// One buffer for all readers of a thread: nothing is kept in it between two reads.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Reads the output of one worker as long as it is there. Dropping it ends that.
#[derive(Debug)]
pub struct WorkerOutput {
    log: Arc<WorkerLog>,
    readers: JoinSet<()>,
    ending: watch::Sender<bool>,
}

impl WorkerOutput {
    /// Starts to read both FIFOs (non-blocking reading ends). To be called in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When a descriptor is no FIFO that can be read.
    pub fn read(source: LogSource, stdout: OwnedFd, stderr: OwnedFd, sink: &Arc<LogSink>) -> io::Result<Self> {
        let log = Arc::new(WorkerLog::new(source, Arc::clone(sink), now()));
        let pace = Arc::new(Mutex::new(Bucket::full(PACE, PACE, now())));
        let (ending, _) = watch::channel(false);
        let mut readers = JoinSet::new();
        for (fifo, stream) in [(stdout, LogStream::Stdout), (stderr, LogStream::Stderr)] {
            let reader = Reader {
                fifo: Receiver::from_owned_fd(fifo)?,
                stream,
                lines: LineSplitter::default(),
                log: Arc::clone(&log),
                pace: Arc::clone(&pace),
            };
            readers.spawn(reader.run(ending.subscribe()));
        }
        Ok(Self { log, readers, ending })
    }

    /// The latest lines, oldest first: for the reason of an exit.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        self.log.latest()
    }

    /// The worker's first process has ended: reads what is in the FIFOs, for at most `within`, and gives the latest lines.
    pub async fn end(mut self, within: Duration) -> Vec<String> {
        self.ending.send_replace(true);
        let rest = async { while self.readers.join_next().await.is_some() {} };
        // What is not read by then is lost with the FIFOs.
        let _ = tokio::time::timeout(within, rest).await;
        self.log.tell_dropped();
        self.log.latest()
    }
}

/// The runtime's clock, which tests hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

struct Reader {
    fifo: Receiver,
    stream: LogStream,
    lines: LineSplitter,
    log: Arc<WorkerLog>,
    pace: Arc<Mutex<Bucket>>,
}

/// What a reader was waiting for.
enum Woken {
    Ending,
    Readable,
    Broken,
    Silence,
}

/// What came of a try to read.
enum Got {
    Bytes(usize),
    NothingYet,
    /// Nobody can write any more, or the FIFO cannot be read.
    End,
}

impl Reader {
    async fn run(mut self, mut ending: watch::Receiver<bool>) {
        loop {
            let woken = tokio::select! {
                biased;
                _ = ending.wait_for(|it| *it) => Woken::Ending,
                ready = self.fifo.readable() => ready.map_or(Woken::Broken, |()| Woken::Readable),
                () = self.silence() => Woken::Silence,
            };
            match woken {
                Woken::Ending => break self.rest().await,
                Woken::Broken => break,
                Woken::Silence => {
                    self.log.tell_dropped();
                    continue;
                }
                Woken::Readable => {}
            }
            match self.read_by(|fifo, buffer| fifo.try_read(buffer)) {
                Got::Bytes(bytes) => {
                    let wait = self.pace.lock().unwrap_or_else(PoisonError::into_inner).owe(bytes, now());
                    if !wait.is_zero() {
                        // The end is not waited for: it says itself when there is no more to read.
                        let _ = tokio::time::timeout(wait, ending.wait_for(|it| *it)).await;
                    }
                }
                Got::NothingYet => {}
                Got::End => break,
            }
        }
        let (log, stream) = (&self.log, self.stream);
        self.lines.end(|line| log.take(stream, line, now()));
    }

    /// Ends when lines were dropped and nothing came that would say it.
    async fn silence(&self) {
        if self.log.has_dropped() {
            tokio::time::sleep(TELL_AFTER).await;
        } else {
            pending::<()>().await;
        }
    }

    /// What is in the FIFO now. The runtime may not have noticed yet that something is: the kernel itself is asked.
    async fn rest(&mut self) {
        let mut left = REST_BYTES;
        while left > 0 {
            match self.read_by(|fifo, buffer| Ok(nix::unistd::read(fifo, buffer)?)) {
                Got::Bytes(bytes) => left = left.saturating_sub(bytes),
                Got::NothingYet | Got::End => return,
            }
            tokio::task::yield_now().await;
        }
    }

    fn read_by(&mut self, read: impl FnOnce(&Receiver, &mut [u8]) -> io::Result<usize>) -> Got {
        BUFFER.with_borrow_mut(|buffer| match read(&self.fifo, buffer) {
            Ok(0) => Got::End,
            Ok(bytes) => {
                let (log, stream, now) = (&self.log, self.stream, now());
                self.lines.feed(&buffer[..bytes], |line| log.take(stream, line, now));
                Got::Bytes(bytes)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Got::NothingYet
            }
            Err(error) => {
                tracing::warn!(%error, stream = ?self.stream, "the output of a worker cannot be read any more");
                Got::End
            }
        })
    }
}

#[cfg(test)]
mod tests;
