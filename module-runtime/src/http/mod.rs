//! HTTP inside a worker: any tower service answers on the inherited socket `http`, whose only client is the base.

mod headers;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use mortise_control::stats::Side;
use mortise_control::{Phase, ServiceName};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tower::{Service, ServiceExt};

pub use self::headers::{DEADLINE_HEADER, TAGS_HEADER};
use crate::call::caught;
use crate::figures::{Counter, Outcome};
use crate::worker::Shared;
use crate::{Error, Worker};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The name of the inherited socket, and of the figures.
const HTTP: &str = "http";

/// Serves an application, an `axum::Router` say, and nothing else: says that the worker is ready, answers requests until the
/// worker is told to end, and finishes what is in flight then. For services beside it: [`crate::worker::Serving::http`].
///
/// `traceparent` and `X-Request-Id` of a request are in its log lines and in the calls made for it; its deadline
/// ([`DEADLINE_HEADER`]) is theirs.
///
/// # Errors
/// [`Error::NotInherited`] if module.toml provides no HTTP service.
pub async fn serve<S, B>(worker: Worker, service: S) -> Result<(), Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    worker.serving().http(service).run().await
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

/// An application without its type.
type Application = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// Takes connections once it is started.
pub(crate) struct Acceptor {
    listener: std::os::unix::net::UnixListener,
    application: Application,
    counter: Counter,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acceptor({:?})", self.listener)
    }
}

impl Acceptor {
    pub(crate) fn new<S, B>(shared: &Arc<Shared>, service: S) -> Result<Self, Error>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let listener = Worker::new(Arc::clone(shared)).take_inherited(HTTP)?.into();
        let counter = shared.figures.counter(Side::Http, &ServiceName::new(HTTP)?);
        let application: Application = Arc::new(move |request| {
            let service = service.clone();
            Box::pin(async move {
                let answer = service.oneshot(request).await.map_err(Into::into)?;
                Ok(answer.map(|body| {
                    let bytes = body.map_frame(|frame| frame.map_data(copy_to_bytes));
                    bytes.map_err(Into::into).boxed_unsync()
                }))
            })
        });
        Ok(Self { listener, application, counter })
    }

    pub(crate) fn start(self, shared: &Arc<Shared>) -> Result<(), Error> {
        self.listener.set_nonblocking(true).map_err(Error::os("preparing the http socket"))?;
        let listener = UnixListener::from_std(self.listener).map_err(Error::os("preparing the http socket"))?;
        let server = Server { shared: Arc::clone(shared), application: self.application, counter: self.counter };
        tokio::spawn(Arc::new(server).accept(listener));
        Ok(())
    }
}

fn copy_to_bytes(mut data: impl bytes::Buf) -> Bytes {
    // `Bytes` itself is handed on, not copied.
    data.copy_to_bytes(data.remaining())
}

struct Server {
    shared: Arc<Shared>,
    application: Application,
    counter: Counter,
}

/// Resolves when the worker serves, at once or because it is wanted back.
async fn serves(phase: &mut watch::Receiver<Phase>) {
    // The sender is in `Shared`, which whoever waits holds: the channel cannot be closed.
    drop(phase.wait_for(is_serving).await);
}

/// Resolves when the worker drains.
async fn drains(phase: &mut watch::Receiver<Phase>) {
    drop(phase.wait_for(|it| !is_serving(it)).await);
}

/// Resolves when the process is asked to end.
async fn ends(terminate: &mut watch::Receiver<bool>) {
    drop(terminate.wait_for(|it| *it).await);
}

fn is_serving(phase: &Phase) -> bool {
    match phase {
        Phase::Starting | Phase::Ready => true,
        Phase::Draining | Phase::Drained => false,
    }
}

impl Server {
    /// Takes connections while the worker serves; a drained one that is wanted back takes them again.
    async fn accept(self: Arc<Self>, listener: UnixListener) {
        let mut phase = self.shared.phase.subscribe();
        let mut terminate = self.shared.terminate.subscribe();
        loop {
            tokio::select! {
                biased;
                () = serves(&mut phase) => {}
                () = ends(&mut terminate) => return,
            }
            tokio::select! {
                () = drains(&mut phase) => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(Arc::clone(&self).connection(stream, self.shared.busy.begin()));
                    }
                    Err(error) => {
                        // No descriptors, most likely: those in use come free as requests end.
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    /// Answers the requests of one connection. In a drain the one under way is answered with `Connection: close`.
    async fn connection(self: Arc<Self>, stream: UnixStream, busy: crate::worker::Token) {
        let mut phase = self.shared.phase.subscribe();
        let server = Arc::clone(&self);
        let answer = hyper::service::service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let connection = http1::Builder::new()
            // The one client is the base, which keeps connections for later: one that was closed from this side just as it is
            // used would cost a request its at-most-once.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = drains(&mut phase) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(busy);
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let running = self.counter.begin();
        let context = headers::context(request.headers());
        let (answer, outcome) = context.scope(self.attempt(request)).await;
        running.end(outcome);
        self.shared.served.fetch_add(1, Relaxed);
        answer
    }

    async fn attempt(&self, request: Request<Incoming>) -> (Answer, Outcome) {
        let answer = match caught((self.application)(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::error!(%error, "the application failed");
                failure("the application failed")
            }
            Err(_) => {
                tracing::error!("the application panicked");
                failure("the application failed")
            }
        };
        let outcome = if answer.status().is_server_error() { Outcome::Failed } else { Outcome::Answered };
        (answer, outcome)
    }
}

fn failure(message: &'static str) -> Answer {
    let body = Full::new(Bytes::from_static(message.as_bytes())).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    answer
}

#[cfg(test)]
mod tests;
