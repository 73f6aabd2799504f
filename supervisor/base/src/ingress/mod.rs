//! HTTP/1.1 from clients to workers.
//!
//! ```text
//!  client ──▶ [serve] ──▶ [gate: framing] ──▶ hyper ──▶ [exchange] ──▶ hyper ──▶ [connection: dial] ──▶ worker
//!                          what is a request?           target, headers,          to the worker's socket
//!                          time limits                  routes, upstream:
//!                                                       who answers, how often
//!                                                       tried, what failed
//!         ◀────────────────────────────── [answer] ◀─────────────────────────────────────────────────────
//! ```
//!
//! `Ingress::apply` flips the routes; `upstream` counts what is in flight to each worker, and says when a worker that is no longer
//! routed is idle.

mod admission;
mod answer;
mod connection;
mod dial;
mod ending;
mod exchange;
mod framing;
mod gate;
mod handler;
mod headers;
mod limits;
mod routes;
mod serve;
mod target;
mod upgrade;
mod upload;
mod upstream;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use module_runtime::HttpFigures;
use mortise_control::{HttpRoute, HttpTarget, WorkerId};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};

use admission::Admission;
use routes::Weighted;
use upstream::{Retired, Revived, Upstream};

pub use handler::HandlerBody;
pub use limits::{Forwarded, Limits};

pub(crate) use ending::{Ender, Ending, Phase};
pub(crate) use handler::Handler;
pub(crate) use routes::{Added, RouteTable};

type Route = routes::Route<Arc<Upstream>>;

/// How often idle connections to workers are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// The ingress of one base.
#[derive(Debug)]
pub(crate) struct Ingress {
    limits: Limits,
    routes: ArcSwap<RouteTable<Route>>,
    handlers: RouteTable<Handler>,
    /// Counts the flips.
    changes: watch::Sender<u64>,
    /// Every worker that is routed, or has requests in flight. Held while routes are applied.
    workers: Mutex<HashMap<WorkerId, Arc<Upstream>>>,
    admission: Arc<Admission>,
    connections: Arc<Semaphore>,
    drained: UnboundedSender<WorkerId>,
    ender: Ender,
}

impl Ingress {
    /// An ingress without routes, and the workers that are idle for good, as it finds them.
    pub(crate) fn new(
        limits: Limits,
        handlers: RouteTable<Handler>,
        figures: Option<HttpFigures>,
    ) -> (Arc<Self>, UnboundedReceiver<WorkerId>) {
        let (drained, told) = unbounded_channel();
        let ingress = Arc::new(Self {
            routes: ArcSwap::from_pointee(RouteTable::default()),
            handlers,
            changes: watch::Sender::new(0),
            workers: Mutex::default(),
            admission: Arc::new(Admission::new(limits.in_flight, figures)),
            connections: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            drained,
            ender: Ender::new(),
            limits,
        });
        (ingress, told)
    }

    /// Accepts clients on a listener, in a task of its own.
    pub(crate) fn listen(self: &Arc<Self>, listener: TcpListener) {
        tokio::spawn(serve::listen(Arc::clone(self), listener));
    }

    /// Puts routes in force for every later request, and says so by `applied`. Then turns away from the workers that are no longer
    /// in them, and tells of each when it is idle.
    pub(crate) fn apply(&self, routes: &[HttpRoute], applied: impl FnOnce()) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = RouteTable::default();
        let mut routed = HashMap::new();
        for route in routes {
            let targets = route.targets.iter().map(|target| {
                let upstream = routed.entry(target.worker).or_insert_with(|| self.upstream(&workers, target));
                Weighted {
                    target: Arc::clone(upstream),
                    weight: target.weight,
                    version: target.version.clone(),
                    version_weight: target.version_weight,
                }
            });
            let targets = targets.collect();
            let answered =
                Route::new(route.service.clone(), targets).with_rules(route.rules.clone(), route.tags.clone());
            let added = table.add(route.host.as_deref(), &route.prefix, answered);
            if added == Added::AlreadyThere {
                tracing::warn!(service = %route.service, prefix = route.prefix, "another service has its host and prefix");
            }
        }
        self.routes.store(Arc::new(table));
        self.changes.send_modify(|it| *it = it.wrapping_add(1));
        applied();
        for (worker, upstream) in workers.drain() {
            if routed.get(&worker).is_some_and(|it| Arc::ptr_eq(it, &upstream)) {
                continue;
            }
            match upstream.retire() {
                Retired::Idle => self.tell_drained(worker),
                // It may come back before its last request has ended.
                Retired::Busy => drop(routed.entry(worker).or_insert(upstream)),
                Retired::Ended => {}
            }
        }
        *workers = routed;
    }

    /// The worker of a target as it is known already, or a new one.
    fn upstream(&self, known: &HashMap<WorkerId, Arc<Upstream>>, target: &HttpTarget) -> Arc<Upstream> {
        if let Some(it) = known.get(&target.worker).filter(|it| it.is(target) && it.revive() == Revived::Yes) {
            return Arc::clone(it);
        }
        Arc::new(Upstream::new(target, &self.limits, self.drained.clone()))
    }

    fn tell_drained(&self, worker: WorkerId) {
        // Nobody listens when the base is over.
        let _ = self.drained.send(worker);
    }

    /// Closes idle connections to workers in good time, for as long as the ingress is there.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let workers: Vec<_> = {
                let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
                workers.values().cloned().collect()
            };
            let now = Instant::now();
            workers.iter().for_each(|it| it.lock_pool().sweep(now));
        }
    }

    /// Ends: accepts no further connection, answers what is in flight and one more request per idle connection. How long that may
    /// take in all is the supervisor's to say: it kills a base that does not come to its end.
    pub(crate) async fn drain(&self) {
        self.ender.set(Phase::LastRequests);
        // All may be gone before the time to linger is over.
        if tokio::time::timeout(self.limits.linger_time, self.ender.complete()).await.is_err() {
            self.ender.set(Phase::Over);
            self.ender.complete().await;
        }
    }

    fn ending(&self) -> Ending {
        self.ender.view()
    }
}
