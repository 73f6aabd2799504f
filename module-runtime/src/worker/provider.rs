//! A service that this worker answers, whatever its type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mortise_control::ServiceName;
use shm_rpc::{ServeError, Served, Server};

use crate::call::{Incoming, ServiceServer, Source};

/// Serving one channel until it ends.
pub(crate) type Serving = Pin<Box<dyn Future<Output = Result<Served, ServeError>> + Send>>;

/// One service's server without its type: one box per channel, none per call.
pub(crate) struct Provider {
    pub(crate) service: ServiceName,
    pub(crate) name: &'static str,
    pub(crate) fingerprint: u64,
    serve: Box<dyn Fn(Server, Arc<Source>) -> Serving + Send + Sync>,
}

impl Provider {
    pub(crate) fn new<S: ServiceServer>(service: ServiceName, server: S) -> Self {
        Self {
            service,
            name: S::SERVICE,
            fingerprint: S::fingerprint(),
            serve: Box::new(move |channel, source| Box::pin(serve(server.clone(), channel, source))),
        }
    }

    pub(crate) fn serve(&self, channel: Server, source: Arc<Source>) -> Serving {
        (self.serve)(channel, source)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({}, {:016x})", self.service, self.fingerprint)
    }
}

async fn serve<S: ServiceServer>(server: S, mut channel: Server, source: Arc<Source>) -> Result<Served, ServeError> {
    channel.serve_async(move |call| server.clone().answer(Incoming::new(call, Arc::clone(&source)))).await
}
