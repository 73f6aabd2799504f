//! One request: to whom, how often tried, and what its failure means.

use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use module_runtime::http::{DEADLINE_HEADER, TAGS_HEADER};
use module_runtime::{Deadline, WorkerId};
use mortise_control::routing::{Asked, HttpHead, tags_of};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Download, Held};
use super::connection::{History, NoConnection, WorkerConnection};
use super::framing::Malformed;
use super::gate::{BodyFault, Ticket};
use super::headers::{self, Known};
use super::limits::Limits;
use super::target::RequestTarget;
use super::upgrade;
use super::upload::{Restart, Upload, UploadFault};
use super::upstream::{Entered, Lease, Upstream};
use super::{Ingress, Route};
use crate::refusal::{Form, Refusal};

/// Which module answered, as `NAME@VERSION`.
const ANSWERED_BY: header::HeaderName = header::HeaderName::from_static("x-mortise-module");

/// A request that can be sent, and sent again.
struct Exchange<'a> {
    ingress: &'a Arc<Ingress>,
    target: RequestTarget,
    method: Method,
    headers: http::HeaderMap,
    upload: Upload,
    websocket: Option<OnUpgrade>,
    /// The deadline as workers are told it.
    told_deadline: u64,
}

/// What routes see of a request.
struct Head<'a> {
    target: &'a RequestTarget,
    headers: &'a http::HeaderMap,
}

impl HttpHead for Head<'_> {
    fn host(&self) -> Option<&str> {
        self.target.host.as_deref()
    }

    fn path(&self) -> &str {
        self.target.path()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The routes have stayed as they were for as long as a request waits.
struct NoChange;

/// How one attempt ended that gave no answer.
enum Failure {
    /// No worker has started anything; the same request may go elsewhere.
    NotStarted,
    /// It may not.
    Final(Refusal),
}

/// Answers one request of a client.
pub(crate) async fn answer(
    ingress: &Arc<Ingress>,
    peer: Option<IpAddr>,
    ticket: Ticket,
    request: Request<Incoming>,
) -> Response<Answer> {
    let request_id = headers::request_id(request.headers());
    let form = Form::wanted(request.headers());
    if let Some(why) = ticket.refusal {
        let refusal = malformed(why, &ingress.limits);
        return refuse(&refusal, form, &request_id, Held { _ticket: ticket, admitted: None });
    }
    let Some(mut admitted) = ingress.admission.admit() else {
        let refusal = Refusal::Overloaded(format!("{} requests are in flight", ingress.limits.in_flight));
        return refuse(&refusal, form, &request_id, Held { _ticket: ticket, admitted: None });
    };
    match attempt_all(ingress, peer, &ticket, request, &request_id).await {
        Ok(response) => {
            if response.status().is_server_error() {
                admitted.failed();
            }
            response.map(|it| it.with(Held { _ticket: ticket, admitted: Some(admitted) }))
        }
        Err(refusal) => {
            if refusal.status().is_server_error() {
                admitted.failed();
                tracing::warn!(code = refusal.code(), request_id = ?request_id, "{refusal}");
            }
            refuse(&refusal, form, &request_id, Held { _ticket: ticket, admitted: Some(admitted) })
        }
    }
}

/// A body without what it holds yet.
enum Bare {
    Handler(http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, crate::BoxError>),
    Worker(Download),
    Switched,
}

impl Bare {
    fn with(self, held: Held) -> Answer {
        match self {
            Self::Handler(body) => Answer::handler(body, held),
            Self::Worker(body) => Answer::worker(body, held),
            Self::Switched => Answer::own(http_body_util::Full::default(), held),
        }
    }
}

fn refuse(refusal: &Refusal, form: Form, request_id: &HeaderValue, held: Held) -> Response<Answer> {
    let mut response = refusal.response(form, Some(request_id)).map(|it| Answer::own(it, held));
    response.headers_mut().insert(headers::REQUEST_ID, request_id.clone());
    response
}

fn malformed(why: Malformed, limits: &Limits) -> Refusal {
    match why {
        Malformed::HeadTooLarge => Refusal::HeadTooLarge(limits.head_bytes),
        Malformed::HeadTime => Refusal::TooSlow("the request line and headers did not arrive in time"),
        other => Refusal::Invalid(other.to_string()),
    }
}

async fn attempt_all(
    ingress: &Arc<Ingress>,
    peer: Option<IpAddr>,
    ticket: &Ticket,
    mut request: Request<Incoming>,
    request_id: &HeaderValue,
) -> Result<Response<Bare>, Refusal> {
    let limits = &ingress.limits;
    check_head(&request)?;
    let target = RequestTarget::of(request.uri(), request.headers()).map_err(|it| Refusal::Invalid(it.to_owned()))?;
    if request.body().size_hint().lower() > limits.body_bytes {
        return Err(Refusal::TooLarge(limits.body_bytes));
    }
    let time = headers::deadline(request.headers(), limits.request_time);
    let deadline = Instant::now() + time;
    let told_deadline = Deadline::after(time).as_nanos();
    let late = |_| Refusal::Deadline(format!("no answer within {} ms", time.as_millis()));

    if let Some(handler) = ingress.handlers.find(target.host.as_deref(), target.path()) {
        request.headers_mut().insert(headers::REQUEST_ID, request_id.clone());
        let response = timeout_at(deadline, handler.call(request, limits)).await.map_err(late)?;
        let (mut parts, body) = response.into_parts();
        headers::for_client(&mut parts.headers, request_id);
        return Ok(Response::from_parts(parts, Bare::Handler(body)));
    }

    let websocket = headers::asks_for_websocket(request.headers()) && request.method() == Method::GET;
    let on_upgrade = websocket.then(|| hyper::upgrade::on(&mut request));
    let (Parts { method, mut headers, .. }, body) = request.into_parts();
    let known = Known { request_id, authority: target.authority.as_ref(), peer, forwarded: limits.forwarded };
    headers::for_worker(&mut headers, &known);
    if websocket {
        headers::set_websocket(&mut headers);
    }
    let upload = Upload::new(body, limits.body_bytes);
    let mut exchange = Exchange { ingress, target, method, headers, upload, websocket: on_upgrade, told_deadline };
    let result = match timeout_at(deadline, exchange.run(ticket)).await {
        Ok(result) => result,
        Err(elapsed) => Err(late(elapsed)),
    };
    let mut response = result.map_err(|refusal| exchange.blame(refusal, ticket))?;
    headers::for_client(response.headers_mut(), request_id);
    if matches!(response.body(), Bare::Switched) {
        headers::set_websocket(response.headers_mut());
    }
    Ok(response)
}

fn check_head(request: &Request<Incoming>) -> Result<(), Refusal> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Refusal::NotImplemented("CONNECT and TRACE are not carried"));
    }
    if request.headers().get(header::EXPECT).is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::Expectation);
    }
    Ok(())
}

impl Exchange<'_> {
    /// Tries workers until one has started.
    async fn run(&mut self, ticket: &Ticket) -> Result<Response<Bare>, Refusal> {
        let ingress = self.ingress;
        let mut changes = ingress.changes.subscribe();
        let (mut refused, mut full) = (Vec::<WorkerId>::new(), Vec::<WorkerId>::new());
        let mut gap_ends = None;
        loop {
            // Marked as seen before the routes are loaded: a change after this wakes the wait below.
            let flips = *changes.borrow_and_update();
            if flips == 0 {
                // A base that has just started, beside an old one perhaps that shares its listener: what it does not know yet may
                // well be published.
                self.wait(&mut changes, &mut gap_ends)
                    .await
                    .map_err(|NoChange| Refusal::NotStarted("the base has not been told any routes yet".to_owned()))?;
                continue;
            }
            let routes = ingress.routes.load_full();
            let Some(route) = routes.find(self.target.host.as_deref(), self.target.path()) else {
                return Err(Refusal::NoRoute(format!("nothing is published at {}", self.place())));
            };
            if !route.is_answered() {
                return Err(Refusal::NotStarted(format!("nobody answers for {} now", route.service)));
            }
            let may = |it: &Arc<Upstream>| !refused.contains(&it.worker) && !full.contains(&it.worker);
            let head = Head { target: &self.target, headers: &self.headers };
            let tags = tags_of(&route.tags, &head);
            let asked = Asked { tags: &tags, http: Some(&head) };
            let Some(upstream) = route.choose(&asked, may, |it| it.in_flight()) else {
                if !full.is_empty() {
                    return Err(Refusal::Overloaded(format!(
                        "every worker of {} has as much as it may",
                        route.service
                    )));
                }
                self.wait(&mut changes, &mut gap_ends)
                    .await
                    .map_err(|NoChange| Refusal::NotStarted(format!("no worker of {} accepts", route.service)))?;
                refused.clear();
                continue;
            };
            let lease = match upstream.enter(ingress.limits.in_flight_per_worker) {
                Entered::Lease(lease) => lease,
                Entered::Retired => continue,
                Entered::Full => {
                    full.push(upstream.worker);
                    continue;
                }
            };
            let connection = match WorkerConnection::take(upstream).await {
                Ok(connection) => connection,
                Err(NoConnection::QueueFull) => {
                    full.push(upstream.worker);
                    continue;
                }
                Err(NoConnection::Refused(error)) => {
                    tracing::debug!(worker = %upstream.worker, module = %upstream.module, %error, "no connection");
                    refused.push(upstream.worker);
                    continue;
                }
            };
            let history = connection.history;
            match self.attempt(connection, lease, route, &tags, ticket).await {
                Ok(response) => return Ok(response),
                // It had been closed while idle. The worker itself may be well.
                Err(Failure::NotStarted) if history == History::Used => {}
                Err(Failure::NotStarted) => refused.push(upstream.worker),
                Err(Failure::Final(refusal)) => return Err(refusal),
            }
        }
    }

    /// Waits for new routes, until `ends` (set at the first wait).
    async fn wait(&self, changes: &mut watch::Receiver<u64>, ends: &mut Option<Instant>) -> Result<(), NoChange> {
        let ends = *ends.get_or_insert_with(|| Instant::now() + self.ingress.limits.gap_time);
        match timeout_at(ends, changes.changed()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NoChange),
        }
    }

    async fn attempt(
        &mut self,
        mut connection: WorkerConnection,
        lease: Lease,
        route: &Route,
        tags: &[u8],
        ticket: &Ticket,
    ) -> Result<Response<Bare>, Failure> {
        let mut request = Request::new(self.upload.attempt(connection.written.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.path_and_query.clone();
        *request.headers_mut() = self.headers.clone();
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(DEADLINE_HEADER, HeaderValue::from(self.told_deadline));
        if let Ok(tags) = HeaderValue::from_bytes(tags)
            && !tags.is_empty()
        {
            request.headers_mut().insert(TAGS_HEADER, tags);
        }
        let upstream = Arc::clone(lease.upstream());
        let mut response = match connection.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut failed) => {
                // hyper gives the message back when it never came to write it.
                let unsent = failed.take_message().is_some() || connection.written.nothing();
                let error = failed.into_error();
                return Err(self.judge(unsent, connection.history, &upstream, route, &error));
            }
        };
        response.headers_mut().insert(ANSWERED_BY, answered_by(&upstream));
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = self.websocket.take().filter(|_| headers::asks_for_websocket(response.headers())) else {
                let what = format!("{} changed to a protocol that nobody asked for", upstream.module);
                return Err(Failure::Final(Refusal::MaybeExecuted(what)));
            };
            ticket.upgrade();
            let worker = hyper::upgrade::on(&mut response);
            upgrade::join(client, worker, lease, self.ingress.ending());
            return Ok(response.map(|_| Bare::Switched));
        }
        let stall = self.ingress.limits.stall_time;
        Ok(response.map(|body| Bare::Worker(Download::new(body, connection, lease, stall))))
    }

    /// What an attempt without an answer means.
    fn judge(
        &self,
        unsent: bool,
        history: History,
        upstream: &Upstream,
        route: &Route,
        error: &hyper::Error,
    ) -> Failure {
        // A connection that had been idle and broke without an answer was most likely closed before the request came. For a
        // method that may be repeated by its definition that is enough; for another it is not.
        let stale = history == History::Used && self.method.is_idempotent();
        if (unsent || stale) && self.upload.restart() == Restart::Possible {
            return Failure::NotStarted;
        }
        tracing::warn!(worker = %upstream.worker, module = %upstream.module, %error, "a request was lost");
        let what = format!("{} of {} gave no answer: {error}", upstream.module, route.service);
        Failure::Final(Refusal::MaybeExecuted(what))
    }

    /// What the client got wrong goes before what came of it.
    fn blame(&self, refusal: Refusal, ticket: &Ticket) -> Refusal {
        match (self.upload.fault(), ticket.body_fault()) {
            (_, Some(BodyFault::Malformed(why))) => malformed(why, &self.ingress.limits),
            (_, Some(BodyFault::Stalled)) => Refusal::TooSlow("the body stood still"),
            (Some(UploadFault::TooLarge), None) => Refusal::TooLarge(self.ingress.limits.body_bytes),
            (Some(UploadFault::Broken), None) => Refusal::Invalid("the body broke off".to_owned()),
            (Some(UploadFault::Superseded) | None, None) => refusal,
        }
    }

    fn place(&self) -> String {
        let path: String = self.target.path().chars().take(200).collect();
        format!("{}{path}", self.target.host.as_deref().unwrap_or_default())
    }
}

fn answered_by(upstream: &Upstream) -> HeaderValue {
    // A name and a semantic version are visible ASCII.
    HeaderValue::from_str(&format!("{}@{}", upstream.module, upstream.version))
        .unwrap_or_else(|_| HeaderValue::from_static("-"))
}
