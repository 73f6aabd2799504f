//! How the rest of the process talks to the loop: requests go in by one bounded channel, the state comes out by reading.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::api::{self, ApiError, Blame, ErrorCode, OperationId, OperationState};
use crate::engine::EventLog;
use crate::logs::LogStore;

/// How old the figures in a snapshot may be.
const FIGURES_AGE: Duration = Duration::from_millis(500);

/// A request on its way into the loop, with the place for its answer.
#[derive(Debug)]
pub struct Submission {
    /// The client's name for it, or none.
    pub id: Option<OperationId>,
    /// What is asked.
    pub request: api::Request,
    /// Answered once the operation is accepted and on disk, or refused.
    pub answer: oneshot::Sender<Result<api::Operation, ApiError>>,
}

/// Fills the kernel's and the workers' own figures into a snapshot: blocking reads, run off the loop.
pub type Figures = dyn Fn(&mut api::Snapshot) + Send + Sync;

/// What the loop publishes and the handles read.
pub struct Published {
    /// The state as of the last change.
    pub state: ArcSwap<api::Snapshot>,
    /// Every operation the loop knows, by id.
    pub operations: ArcSwap<HashMap<OperationId, api::Operation>>,
    /// Counts up with each change of the two above.
    pub changed: watch::Sender<u64>,
    /// Lifecycle events.
    pub events: Arc<EventLog>,
    /// The workers' output.
    pub logs: Arc<LogStore>,
    /// The base's socket for calls by name.
    pub invoke_socket: Option<PathBuf>,
    /// Reads the figures.
    pub figures: Box<Figures>,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Published").field("invoke_socket", &self.invoke_socket).finish_non_exhaustive()
    }
}

/// The engine, as the admin API and the tests see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    submissions: mpsc::Sender<Submission>,
    published: Arc<Published>,
    measured: Arc<Mutex<Option<Measured>>>,
}

#[derive(Debug)]
struct Measured {
    at: Instant,
    change: u64,
    snapshot: Arc<api::Snapshot>,
}

impl EngineHandle {
    /// A handle to the loop that reads `submissions` and writes `published`.
    #[must_use]
    pub fn new(submissions: mpsc::Sender<Submission>, published: Arc<Published>) -> Self {
        Self { submissions, published, measured: Arc::default() }
    }

    /// Asks for a change. Returns once it is accepted and on disk; the work itself goes on (see [`Self::wait`]).
    /// The same `id` always gives the same operation, whether it runs or has ended.
    ///
    /// # Errors
    /// What the lifecycle refuses (nothing has changed then), and `Unavailable` when the supervisor is stopping or overloaded.
    pub async fn submit(&self, id: Option<OperationId>, request: api::Request) -> Result<api::Operation, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.submissions.try_send(Submission { id, request, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                unavailable("the supervisor has too many requests waiting").remedy("Try again in a second.")
            }
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// The operation, as soon as it has ended or `timeout` has passed; none if there is no such operation.
    pub async fn wait(&self, id: &OperationId, timeout: Duration) -> Option<api::Operation> {
        let deadline = Instant::now() + timeout;
        let mut changed = self.published.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let operation = self.published.operations.load().get(id).cloned()?;
            if operation.state != OperationState::Running {
                return Some(operation);
            }
            match tokio::time::timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return self.published.operations.load().get(id).cloned(),
            }
        }
    }

    /// The state as of now, with figures that are at most half a second old.
    pub async fn snapshot(&self) -> Arc<api::Snapshot> {
        // One reader measures while the others wait for its result: a thousand scrapes cost one reading.
        let mut measured = self.measured.lock().await;
        let change = *self.published.changed.borrow();
        if let Some(last) = measured.as_ref()
            && last.change == change
            && last.at.elapsed() < FIGURES_AGE
        {
            return Arc::clone(&last.snapshot);
        }
        let published = Arc::clone(&self.published);
        let reading = tokio::task::spawn_blocking(move || {
            let mut snapshot = api::Snapshot::clone(&published.state.load());
            (published.figures)(&mut snapshot);
            snapshot.measured = Some(jiff::Timestamp::now());
            Arc::new(snapshot)
        });
        let Ok(snapshot) = reading.await else { return self.published.state.load_full() };
        *measured = Some(Measured { at: Instant::now(), change, snapshot: Arc::clone(&snapshot) });
        snapshot
    }

    /// The state as of the last change, without figures of the kernel or the workers: no I/O.
    #[must_use]
    pub fn state(&self) -> Arc<api::Snapshot> {
        self.published.state.load_full()
    }

    /// Counts up with each change of [`Self::state`] and of operations.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.published.changed.subscribe()
    }

    /// Lifecycle events: [`EventLog::since`] and [`EventLog::follow`].
    #[must_use]
    pub fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.published.events)
    }

    /// The workers' output by line: [`LogStore::tail`] and [`LogStore::follow`].
    #[must_use]
    pub fn logs(&self) -> Arc<LogStore> {
        Arc::clone(&self.published.logs)
    }

    /// The Unix stream socket on which the base takes calls by name (`POST /call/SERVICE/METHOD`), if a base is configured.
    #[must_use]
    pub fn invoke_socket(&self) -> Option<PathBuf> {
        self.published.invoke_socket.clone()
    }
}

fn unavailable(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, Blame::Host, message)
}

fn stopping() -> ApiError {
    unavailable("the supervisor is stopping").remedy("Ask again when it has been started again.")
}
