//! The parts put together: what a base is made of, and its life.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use module_runtime::{Error, ServiceServer, Worker};
use tokio::sync::mpsc::UnboundedReceiver;
use tower::Service;

use crate::BoxError;
use crate::ingress::{Added, Handler, HandlerBody, Ingress, Limits, RouteTable};
use crate::invoke::Invoke;

/// The names of inherited listeners for clients begin so.
const INGRESS: &str = "ingress-";
/// The inherited listener for calls by name.
const INVOKE: &str = "invoke";

/// A base that is being put together.
#[must_use = "nothing is served before run()"]
pub struct Base {
    limits: Limits,
    handlers: RouteTable<Handler>,
    services: Vec<AddService>,
    fault: Option<Error>,
}

type AddService = Box<dyn FnOnce(module_runtime::Serving) -> module_runtime::Serving + Send>;

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base")
            .field("limits", &self.limits)
            .field("services", &self.services.len())
            .finish_non_exhaustive()
    }
}

impl Default for Base {
    fn default() -> Self {
        Self::new()
    }
}

impl Base {
    /// A base with an ingress and nothing else.
    pub fn new() -> Self {
        Self { limits: Limits::default(), handlers: RouteTable::default(), services: Vec::new(), fault: None }
    }

    /// With other limits than [`Limits::default`]. The operator's configuration goes before both.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Also answers the calls of this service. module.toml must provide it.
    pub fn serve<S: ServiceServer>(mut self, server: S) -> Self {
        self.services.push(Box::new(move |serving| serving.serve(server)));
        self
    }

    /// Answers HTTP requests below a path prefix itself, with any tower service (an `axum::Router`, say). It goes before what
    /// modules publish there.
    pub fn handle<S, B>(mut self, prefix: &str, service: S) -> Self
    where
        S: Service<Request<HandlerBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let fault = match self.handlers.add(None, prefix, Handler::new(service)) {
            Added::Yes if prefix.starts_with('/') => None,
            Added::Yes => Some(format!("the prefix {prefix:?} of a handler does not begin with '/'")),
            Added::AlreadyThere => Some(format!("two handlers have the prefix {prefix:?}: give each one of its own")),
        };
        self.fault = self.fault.or(fault.map(Error::other));
        self
    }

    /// Says that the worker is ready and serves until it is told to end. What is in flight then is finished first.
    ///
    /// # Errors
    /// The worker is no base; two handlers or servers for the same; a configuration value that is none.
    pub async fn run(self, worker: Worker) -> Result<(), Error> {
        let Self { limits, handlers, services, fault } = self;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let Some(base) = worker.base() else {
            return Err(Error::other("this module is a base: its module.toml must say runtime = \"base\""));
        };
        let limits = limits.configured(worker.configurations()).map_err(Error::other)?;
        let (ingress, drained) = Ingress::new(limits, handlers, Some(base.http_figures()?));
        let Some(routes) = base.http_routes() else {
            return Err(Error::other("the HTTP routes of this worker were taken before"));
        };
        listen(&worker, &ingress)?;
        let invoke = match worker.inherited().iter().any(|it| it == INVOKE) {
            true => Some(Invoke::new(&worker, &base).listen(worker.take_unix_listener(INVOKE)?)),
            false => None,
        };
        tokio::spawn(Arc::clone(&ingress).sweep());
        tokio::spawn(follow_routes(routes, Arc::clone(&ingress)));
        tokio::spawn(tell_drained(drained, base));
        let serving = services.into_iter().fold(worker.serving(), |serving, add| add(serving));
        let end = tokio::spawn(async move {
            worker.draining().await;
            ingress.drain().await;
            if let Some(invoke) = invoke {
                invoke.drain().await;
            }
        });
        let last = async move {
            if let Err(error) = end.await {
                tracing::error!(%error, "the ingress did not end in order");
            }
        };
        serving.on_drained(last).run().await
    }
}

/// Takes every listener for clients that the worker has inherited.
fn listen(worker: &Worker, ingress: &Arc<Ingress>) -> Result<(), Error> {
    let mut none = true;
    for name in worker.inherited().iter().filter(|it| it.starts_with(INGRESS)) {
        let listener = worker.take_tcp_listener(name)?;
        let address = listener.local_addr().map_or_else(|error| error.to_string(), |it| it.to_string());
        tracing::info!(address, "listening for clients");
        ingress.listen(listener);
        none = false;
    }
    if none {
        tracing::warn!("no client can come: start mortised with --listen ADDRESS");
    }
    Ok(())
}

async fn follow_routes(mut feed: module_runtime::HttpRoutesFeed, ingress: Arc<Ingress>) {
    while let Some(mut set) = feed.next().await {
        let routes = std::mem::take(&mut set.routes);
        ingress.apply(&routes, || set.applied());
    }
}

async fn tell_drained(mut drained: UnboundedReceiver<module_runtime::WorkerId>, base: module_runtime::Base) {
    while let Some(worker) = drained.recv().await {
        base.http_drained(worker);
    }
}
