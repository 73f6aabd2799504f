//! The control connection: from one supervisor to the next, for as long as the worker lives.
//!
//! ```text
//!   connect ──▶ Hello ──▶ Welcome ──▶ messages both ways ──▶ broken ──▶ wait (20 ms … 500 ms, jitter) ──▶ connect
//! ```
//! Channels and the calls in them do not depend on it. What a lost message would have told is told by the next hello.

mod connection;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mortise_control::socket::SocketError;
use mortise_control::{ToSupervisor, ToWorker};
use tokio::sync::mpsc;

use self::connection::Connection;
use crate::call::random;
use crate::worker::{Report, Shared, drain};

/// The first pause before another attempt to connect.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest.
const PAUSE_MOST: Duration = Duration::from_millis(500);

/// Keeps the worker connected to whichever supervisor there is.
pub(crate) struct Control {
    shared: Arc<Shared>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// Reports that outlive the connection on which they were not sent.
    kept: VecDeque<ToSupervisor>,
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>, reports: mpsc::UnboundedReceiver<Report>) -> Self {
        Self { shared, reports, kept: VecDeque::new() }
    }

    /// Runs as long as the worker does.
    pub(crate) async fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        loop {
            match Connection::open(&self.shared.boot.control) {
                Ok(connection) => {
                    let mut welcomed = false;
                    let error = self.converse(connection, &mut welcomed).await;
                    if welcomed {
                        pause = PAUSE_FIRST;
                    }
                    tracing::info!(%error, "the control connection is gone; calls go on");
                    self.shared.disconnected();
                }
                Err(error) => tracing::debug!(%error, path = %self.shared.boot.control.display(), "no supervisor"),
            }
            self.wait(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    /// Lets time pass before the next attempt. Whoever waits for reports to be sent is not kept waiting.
    async fn wait(&mut self, pause: Duration) {
        let jitter = u64::try_from(pause.as_nanos() / 2).unwrap_or(0).max(1);
        let until = tokio::time::Instant::now() + pause / 2 + Duration::from_nanos(random() % jitter);
        while let Ok(Some(report)) = tokio::time::timeout_at(until, self.reports.recv()).await {
            self.keep(report);
        }
        tokio::time::sleep_until(until).await;
    }

    /// What the next hello does not say by itself is kept.
    fn keep(&mut self, report: Report) {
        match report {
            Report::Message(message @ (ToSupervisor::Violation { .. } | ToSupervisor::NeverReady { .. })) => {
                self.kept.push_back(message);
            }
            Report::Message(_) | Report::Flush(_) => {}
        }
    }

    /// Talks over one connection until it breaks.
    async fn converse(&mut self, mut connection: Connection, welcomed: &mut bool) -> SocketError {
        while let Ok(report) = self.reports.try_recv() {
            self.keep(report);
        }
        let hello = ToSupervisor::Hello(self.shared.hello());
        if let Err(error) = connection.send(&hello).await {
            return error;
        }
        loop {
            // The supervisor hears nothing but the hello before it has welcomed the worker.
            while let Some(message) = self.kept.front().filter(|_| *welcomed) {
                if let Err(error) = connection.send(message).await {
                    return error;
                }
                self.kept.pop_front();
            }
            tokio::select! {
                biased;
                received = connection.recv() => match received {
                    Ok((message, fds)) => {
                        *welcomed |= matches!(message, ToWorker::Welcome(_));
                        take(&self.shared, message, fds);
                    }
                    Err(error) => return error,
                },
                report = self.reports.recv(), if *welcomed => match report {
                    Some(Report::Message(message)) => if let Err(error) = connection.send(&message).await {
                        self.keep(Report::Message(message));
                        return error;
                    },
                    Some(Report::Flush(sent)) => drop(sent.send(())),
                    // `shared` holds a sender.
                    None => return SocketError::Closed,
                },
            }
        }
    }
}

/// Does what the supervisor says.
fn take(shared: &Arc<Shared>, message: ToWorker, fds: Vec<OwnedFd>) {
    match message {
        ToWorker::Welcome(welcome) => shared.welcome(welcome, fds),
        ToWorker::Attach(attach) => shared.attach(attach, fds),
        ToWorker::Open { channel } => shared.open(channel, fds),
        ToWorker::Close { channel } => shared.close(channel),
        ToWorker::Routes { epoch, services } => shared.set_routes(epoch, services),
        // Only the base listens; for others they say nothing.
        ToWorker::HttpRoutes { epoch, routes } => drop(shared.http_routes.send((epoch, routes))),
        ToWorker::Drain { within_ms } => {
            tracing::info!(within_ms, "draining");
            drain::begin(shared);
        }
        ToWorker::Ping { nonce } => shared.reports.send(ToSupervisor::Pong { nonce, healthy: true }),
        ToWorker::ExportState { handover, max_bytes } => shared.export_state(handover, max_bytes, fds),
        ToWorker::ImportState { handover, version, len } => shared.import_state(handover, version, len, fds),
    }
}

#[cfg(test)]
mod tests;
