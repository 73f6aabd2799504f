//! Serving: what a worker does once its author's code is set up.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;

use mortise_control::{Phase, ServiceName, ToSupervisor};
use tower::Service;

use super::drain::{self, BeforeDrained};
use super::handover::{Halves, StateWriter};
use super::provider::Provider;
use super::shared::Shared;
use crate::call::ServiceServer;
use crate::{Error, http};

/// What a worker will serve: services, HTTP, both. Nothing is accepted before [`Serving::run`].
#[derive(Debug)]
#[must_use = "nothing is served before run()"]
pub struct Serving {
    shared: Arc<Shared>,
    providers: Vec<Provider>,
    http: Vec<http::Acceptor>,
    pub(crate) handover: Halves,
    fault: Option<Error>,
}

impl Serving {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, providers: Vec::new(), http: Vec::new(), handover: Halves::default(), fault: None }
    }

    /// Also answers the calls of this service.
    pub fn serve<S: ServiceServer>(mut self, server: S) -> Self {
        let provider = ServiceName::new(S::SERVICE).map_err(Error::from).and_then(|service| {
            if self.providers.iter().any(|it| it.service == service) {
                return Err(Error::ServedTwice(service));
            }
            Ok(Provider::new(service, server))
        });
        match provider {
            Ok(provider) => self.providers.push(provider),
            Err(error) => self.fault = self.fault.or(Some(error)),
        }
        self
    }

    /// Also answers HTTP requests: as [`crate::http::serve`].
    pub fn http<S, B>(mut self, service: S) -> Self
    where
        S: Service<::http::Request<hyper::body::Incoming>, Response = ::http::Response<B>>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match http::Acceptor::new(&self.shared, service) {
            Ok(acceptor) => self.http.push(acceptor),
            Err(error) => self.fault = self.fault.or(Some(error)),
        }
        self
    }

    /// Writes the worker's state for a version that is to replace it, in the form `version`: `[handover] version` of its module.toml.
    ///
    /// It runs in a thread of its own, when nobody calls the worker any more and every call has been answered. What the worker does
    /// by itself (a timer, say) after that is lost. If the hand-over fails, this worker is called again: so it writes what there is
    /// and changes nothing.
    pub fn export_state<E: Display>(
        mut self,
        version: u32,
        export: impl Fn(&mut StateWriter) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.handover.export(version, export);
        self
    }

    /// Begins with the state of the version that this worker is to replace: the version of its form, one of `[handover] accepts`, and
    /// its bytes.
    ///
    /// It runs in a thread of its own, after the worker is ready and before anybody calls it. An error, with its reason, keeps the
    /// other version serving, and ends this worker. A worker that was not started by a swap begins without.
    pub fn import_state<E: Display>(
        mut self,
        import: impl Fn(u32, &[u8]) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.handover.import(import);
        self
    }

    /// Runs when the worker has drained: nothing is in flight any more. To flush what is buffered, say.
    pub fn on_drained(self, last: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shared.state().before_drained.push(BeforeDrained::new(last));
        self
    }

    /// Says that the worker is ready, and serves until it is told to end (SIGTERM); what is in flight then is finished first.
    ///
    /// # Errors
    /// Two servers of one service; an HTTP service where module.toml provides none; only one of [`Serving::export_state`] and
    /// [`Serving::import_state`].
    pub async fn run(self) -> Result<(), Error> {
        let Self { shared, providers, http, handover, fault } = self;
        if let Some(error) = fault {
            return Err(error);
        }
        shared.state().handover = handover.whole()?.map(Arc::new);
        shared.add_providers(providers);
        for acceptor in http {
            acceptor.start(&shared)?;
        }
        shared.declare();
        ready(&shared);
        // The sender is in `shared`: the channel cannot be closed.
        let _ = shared.terminate.subscribe().wait_for(|it| *it).await;
        drain::begin(&shared);
        drain::drained(&shared).await;
        Ok(())
    }
}

fn ready(shared: &Shared) {
    let first = shared.phase.send_if_modified(|phase| {
        let first = *phase == Phase::Starting;
        if first {
            *phase = Phase::Ready;
        }
        first
    });
    if first {
        shared.reports.send(ToSupervisor::Ready);
    }
}
