//! Calls by name, for `mortise call`: `POST /call/SERVICE/METHOD` with a JSON object of arguments on a Unix socket whose only client
//! is the supervisor's admin API.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use module_runtime::{CallError, Failure, Tags, Worker};
use mortise_control::routing::tags;
use mortise_control::{ServiceName, TenantName};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::ingress::{Ender, Ending, Phase};
use crate::refusal::{Form, Refusal};

/// How long the call may take, in milliseconds.
const TIMEOUT: &str = "mortise-timeout-ms";
/// Whose service it is.
const TENANT: &str = "mortise-tenant";

/// How long a call may take that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that it may say.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a call waits for somebody to answer its service. Less than it may take, so that who has mistyped a name learns it soon.
const ROUTE_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of the arguments.
const ARGUMENTS: usize = 8 << 20;
/// Calls at once.
const CALLS: usize = 256;
/// How long a head, or the arguments, may take to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(10);

/// The uid that an unmapped one is shown as in a user namespace.
const OVERFLOW_UID: u32 = 65_534;

/// Answers calls by name.
#[derive(Clone, Debug)]
pub(crate) struct Invoke {
    worker: Worker,
    base: module_runtime::Base,
    room: Arc<Semaphore>,
    ender: Arc<Ender>,
}

impl Invoke {
    pub(crate) fn new(worker: &Worker, base: &module_runtime::Base) -> Self {
        Self {
            worker: worker.clone(),
            base: base.clone(),
            room: Arc::new(Semaphore::new(CALLS)),
            ender: Arc::new(Ender::new()),
        }
    }

    /// Takes connections in a task of its own, until [`Self::drain`].
    pub(crate) fn listen(self, listener: UnixListener) -> Self {
        tokio::spawn(accept(self.clone(), listener));
        self
    }

    /// Takes no more connections and waits for what is under way.
    pub(crate) async fn drain(&self) {
        self.ender.set(Phase::Over);
        self.ender.complete().await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        // The admin API hands the text on to people; who wants JSON says so.
        let form = match request.headers().contains_key(header::ACCEPT) {
            true => Form::wanted(request.headers()),
            false => Form::Text,
        };
        match self.call(request).await {
            Ok(value) => json(http::StatusCode::OK, &value),
            Err(NoAnswer::Module(error)) => json(http::StatusCode::UNPROCESSABLE_ENTITY, &error),
            Err(NoAnswer::Refused(refusal)) => refusal.response(form, None),
        }
    }

    async fn call(&self, request: Request<Incoming>) -> Result<Value, NoAnswer> {
        let (service, method) = target(&request)?;
        self.check_tenant(request.headers())?;
        let timeout = timeout(request.headers())?;
        let tags = tags_of(request.headers())?;
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Refusal::Overloaded(format!("{CALLS} calls by name are under way")).into());
        };
        let arguments = arguments(request.into_body()).await?;
        self.base.want(&service);
        let client = self.worker.generic_client(&service).with_timeout(timeout).with_tags(tags);
        if !client.is_answered(timeout.min(ROUTE_WITHIN)).await {
            let what = format!("nobody answers {service}: it does not exist, is not published, or has no worker now");
            return Err(Refusal::NoService(what).into());
        }
        client.call(&method, &arguments).await.map_err(|error| match error {
            CallError::Module(error) => NoAnswer::Module(error),
            CallError::Failed(failure) => refusal(&service, &method, failure).into(),
        })
    }

    fn check_tenant(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(found) = headers.get(TENANT) else { return Ok(()) };
        let tenant = found.to_str().ok().and_then(|it| TenantName::new(it).ok());
        let Some(tenant) = tenant else { return Err(Refusal::Invalid(format!("{TENANT}: {found:?} is no name"))) };
        let own = self.worker.tenant();
        if tenant != *own {
            let what = format!("this base calls services of the tenant {own}, not of {tenant}");
            return Err(Refusal::Denied(what));
        }
        Ok(())
    }
}

/// Why a call has no value.
enum NoAnswer {
    /// The method's own error.
    Module(Value),
    Refused(Refusal),
}

impl From<Refusal> for NoAnswer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn json(status: http::StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn target(request: &Request<Incoming>) -> Result<(ServiceName, String), Refusal> {
    let path = request.uri().path();
    let parts = path.strip_prefix("/call/").and_then(|it| it.split_once('/'));
    let (Some((service, method)), &Method::POST) = (parts, request.method()) else {
        return Err(Refusal::NoRoute(format!(
            "{} {path}: only POST /call/SERVICE/METHOD is answered",
            request.method()
        )));
    };
    let service = ServiceName::new(service).map_err(|error| Refusal::Invalid(format!("service: {error}")))?;
    let sound = |it: u8| it.is_ascii_alphanumeric() || it == b'_';
    if !(1..=128).contains(&method.len()) || !method.bytes().all(sound) {
        return Err(Refusal::Invalid(format!("{method:?} cannot be a method: 1 to 128 letters, digits and '_'")));
    }
    Ok((service, method.to_owned()))
}

fn timeout(headers: &HeaderMap) -> Result<Duration, Refusal> {
    let Some(found) = headers.get(TIMEOUT) else { return Ok(DEFAULT_TIMEOUT) };
    let millis: Option<u64> = found.to_str().ok().and_then(|it| it.parse().ok());
    millis.map(Duration::from_millis).filter(|it| !it.is_zero() && *it <= LONGEST_TIMEOUT).ok_or_else(|| {
        let most = LONGEST_TIMEOUT.as_millis();
        Refusal::Invalid(format!("{TIMEOUT}: {found:?} is no number of milliseconds from 1 to {most}"))
    })
}

/// The tags that the call is to have.
fn tags_of(headers: &HeaderMap) -> Result<Tags, Refusal> {
    let Some(found) = headers.get(tags::HEADER) else { return Ok(Tags::default()) };
    let read = found.to_str().map_err(|error| error.to_string()).and_then(tags::read);
    let read = read.map_err(|error| Refusal::Invalid(format!("{}: {error}", tags::HEADER)))?;
    Tags::new(&read).map_err(|error| Refusal::Invalid(format!("{}: {error}", tags::HEADER)))
}

async fn arguments(body: Incoming) -> Result<Value, Refusal> {
    let bytes = match tokio::time::timeout(ARRIVE_WITHIN, Limited::new(body, ARGUMENTS).collect()).await {
        Ok(Ok(all)) => all.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::TooLarge(ARGUMENTS as u64)),
        Ok(Err(error)) => return Err(Refusal::Invalid(format!("the arguments broke off: {error}"))),
        Err(_) => return Err(Refusal::TooSlow("the arguments did not arrive in time")),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Refusal::Invalid("the arguments are no JSON object with their names".to_owned())),
        Err(error) => Err(Refusal::Invalid(format!("the arguments are no JSON: {error}"))),
    }
}

/// A failed call in the terms of HTTP.
fn refusal(service: &ServiceName, method: &str, failure: Failure) -> Refusal {
    let what = format!("{service}.{method}: {failure}");
    match failure {
        Failure::Invalid(_) => Refusal::Invalid(what),
        Failure::TooLarge { limit, .. } => Refusal::TooLarge(limit),
        Failure::NoService => Refusal::NoService(what),
        Failure::Denied => Refusal::Denied(what),
        Failure::NotStarted | Failure::Cancelled { started: false } => Refusal::NotStarted(what),
        Failure::Draining => Refusal::Draining(what),
        Failure::Overloaded { .. } => Refusal::Overloaded(what),
        Failure::MaybeExecuted | Failure::Cancelled { started: true } | Failure::ProtocolViolation(_) => {
            Refusal::MaybeExecuted(format!("{service}.{method} gave no answer: {failure}"))
        }
        Failure::Deadline { .. } => Refusal::Deadline(what),
        Failure::Internal(_) => Refusal::Internal(what),
    }
}

async fn accept(invoke: Invoke, listener: UnixListener) {
    let ending = invoke.ender.view();
    loop {
        let accepted = tokio::select! {
            it = listener.accept() => it,
            () = ending.over() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                if may_ask(&stream) {
                    tokio::spawn(serve(invoke.clone(), stream, ending.clone()));
                }
            }
            Err(error) => {
                // No descriptors, most likely: those in use come free as calls end.
                tracing::error!(%error, "accepting calls by name fails");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Whether the peer can be the supervisor: root, or this worker's own uid where nothing has privileges. In a user namespace that does
/// not map the supervisor's uid it is shown as the overflow uid, like every other that is not mapped; who may connect then is
/// decided by the mode of the socket and its folder alone.
fn may_ask(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if [0, own, OVERFLOW_UID].contains(&peer.uid()) => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a connection for calls by name was refused");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a connection for calls by name was refused: its peer is not known");
            false
        }
    }
}

async fn serve(invoke: Invoke, stream: UnixStream, ending: Ending) {
    let service = service_fn(|request| {
        let invoke = invoke.clone();
        async move { Ok::<_, Infallible>(invoke.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ARRIVE_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ending.over() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection for calls by name broke");
    }
}
