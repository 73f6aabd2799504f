//! What only the base can do: it learns where HTTP requests go, says when a worker gets no more of them, and asks for routes to
//! services that operators call by name.

use std::sync::Arc;
use std::time::Instant;

use mortise_control::stats::Side;
use mortise_control::{HttpRoute, InvalidName, RouteTable, ServiceName, ToSupervisor, WorkerId};
use tokio::sync::mpsc;

use crate::figures::{Counter, Outcome};
use crate::worker::Shared;

/// The base's own side of the control connection. From [`crate::Worker::base`].
#[derive(Clone, Debug)]
pub struct Base {
    shared: Arc<Shared>,
}

impl Base {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Every set of HTTP routes that the supervisor sends, in order, the first one since the start included. One taker: none for
    /// the second.
    #[must_use]
    pub fn http_routes(&self) -> Option<HttpRoutesFeed> {
        let receiver = self.shared.state().http_routes.take()?;
        Some(HttpRoutesFeed { receiver, shared: Arc::clone(&self.shared) })
    }

    /// Says that the last request that was sent to this worker has been answered and that it gets no more. Told again to a
    /// supervisor that comes back.
    pub fn http_drained(&self, worker: WorkerId) {
        self.shared.note_http_drained(worker);
    }

    /// Asks for routes to a service that module.toml does not require, for [`crate::Worker::generic_client`]. Asking twice does no
    /// harm. Calls wait for the routes within their deadline; where there is no grant they never come.
    pub fn want(&self, service: &ServiceName) {
        if self.shared.state().wanted.insert(service.clone()) {
            self.shared.reports.send(ToSupervisor::Want { service: service.clone() });
        }
    }
}

impl Base {
    /// Counts HTTP requests in the worker's figures.
    ///
    /// # Errors
    /// None: the name of the figures is one.
    pub fn http_figures(&self) -> Result<HttpFigures, InvalidName> {
        Ok(HttpFigures(self.shared.figures.counter(Side::Http, &ServiceName::new("http")?)))
    }
}

/// The figures of the HTTP requests that a base answers.
#[derive(Clone, Debug)]
pub struct HttpFigures(Counter);

impl HttpFigures {
    /// A request begins.
    #[must_use]
    pub fn begin(&self) -> HttpRequestFigure {
        self.0.begin_apart();
        HttpRequestFigure { counter: self.0.clone(), begun: Instant::now(), outcome: Outcome::Answered }
    }
}

/// A request under way. Dropped, it has been answered.
#[derive(Debug)]
pub struct HttpRequestFigure {
    counter: Counter,
    begun: Instant,
    outcome: Outcome,
}

impl HttpRequestFigure {
    /// It will end, or has ended, in an error.
    pub fn failed(&mut self) {
        self.outcome = Outcome::Failed;
    }
}

impl Drop for HttpRequestFigure {
    fn drop(&mut self) {
        self.counter.end(self.begun, self.outcome);
    }
}

/// The HTTP routes as they change.
#[derive(Debug)]
pub struct HttpRoutesFeed {
    receiver: mpsc::UnboundedReceiver<(u64, Vec<HttpRoute>)>,
    shared: Arc<Shared>,
}

impl HttpRoutesFeed {
    /// The next set of routes, which replaces all earlier ones.
    pub async fn next(&mut self) -> Option<HttpRoutes> {
        let (epoch, routes) = self.receiver.recv().await?;
        Some(HttpRoutes { routes, epoch, shared: Arc::clone(&self.shared) })
    }
}

/// One set of HTTP routes. The supervisor waits until it is applied.
#[derive(Debug)]
#[must_use = "the supervisor waits until the routes are applied"]
pub struct HttpRoutes {
    /// The routes; the longest matching host and prefix wins.
    pub routes: Vec<HttpRoute>,
    epoch: u64,
    shared: Arc<Shared>,
}

impl HttpRoutes {
    /// Says that they are in force for every later request.
    pub fn applied(self) {
        self.shared.reports.send(ToSupervisor::RoutesApplied { table: Some(RouteTable::Http), epoch: self.epoch });
    }
}
