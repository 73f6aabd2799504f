//! What happens, as it happens: newline-delimited JSON that ends when the client goes, the server stops, or, without
//! `follow`, when everything that was there has been said.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::extract::{InPath, InQuery};
use super::modules::{OfTenant, OneModule, no_module};
use super::{Access, Caller, Shared, bounds, stopped};
use crate::api::{ApiError, Event, LogLine, Streamed};
use crate::engine::{EventLog, Following};

/// Chunks between the one who writes the stream and the connection.
const CHUNKS: usize = 8;

/// Bytes that are gathered into one chunk.
const CHUNK_BYTES: usize = 32 * 1024;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// Only events with this number or a later one; all that are kept without it.
    since: Option<u64>,
    /// Go on with what comes.
    #[serde(default)]
    follow: bool,
    /// Only events of this tenant's modules; all events without it.
    #[param(value_type = Option<String>)]
    tenant: Option<mortise_control::TenantName>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Tail {
    /// How many of the latest lines; 100 without it, 2000 at most.
    #[param(maximum = 2000)]
    tail: Option<usize>,
    /// Go on with what comes.
    #[serde(default)]
    follow: bool,
}

/// Lifecycle events, one JSON object a line. A line `{"missed": n}` stands for events that are no longer kept.
#[utoipa::path(get, path = "/v1/events", tag = "streams", params(Since),
    responses((status = 200, body = Streamed<Event>, content_type = "application/x-ndjson")))]
pub(super) async fn events(
    State(shared): State<Shared>,
    caller: Caller,
    InQuery(asked): InQuery<Since>,
) -> Result<Response, ApiError> {
    let of = OfTenant { tenant: asked.tenant };
    caller.may(of.access())?;
    let log = shared.api.handle.events();
    let wanted = move |event: &Event| match &of.tenant {
        None => true,
        Some(tenant) => event.tenant.as_ref() == Some(tenant),
    };
    let (lines, response) = lines(&shared);
    tokio::spawn(say_events(log, asked.since, asked.follow, wanted, lines));
    Ok(response)
}

/// Output of a module's workers, one JSON object a line. A line `{"missed": n}` stands for lines of any module that went by too fast.
#[utoipa::path(get, path = "/v1/logs/{tenant}/{module}", tag = "streams", params(OneModule, Tail),
    responses((status = 200, body = Streamed<LogLine>, content_type = "application/x-ndjson")))]
pub(super) async fn logs(
    State(shared): State<Shared>,
    caller: Caller,
    InPath(of): InPath<OneModule>,
    InQuery(asked): InQuery<Tail>,
) -> Result<Response, ApiError> {
    caller.may(Access::Read(&of.tenant))?;
    let store = shared.api.handle.logs();
    let tail = asked.tail.unwrap_or(100).min(bounds::TAIL_MAX);
    let installed =
        || shared.api.handle.state().modules.iter().any(|it| it.tenant == of.tenant && it.module == of.module);
    let following = store.follow(&of.tenant, &of.module, tail);
    if following.past.is_empty() && !installed() {
        return Err(no_module(&of));
    }
    let (lines, response) = lines(&shared);
    tokio::spawn(say_lines(following, of, asked.follow, lines));
    Ok(response)
}

async fn say_lines(following: Following<LogLine>, of: OneModule, follow: bool, mut lines: Lines) -> Result<(), Ended> {
    let Following { past, mut coming } = following;
    lines.items(past.iter().map(Arc::as_ref)).await?;
    if !follow {
        return Ok(());
    }
    loop {
        match lines.or_end(coming.recv()).await? {
            Ok(line) if line.tenant == of.tenant && line.module == of.module => {
                lines.items([line.as_ref()]).await?;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => lines.missed::<LogLine>(missed).await?,
            Err(RecvError::Closed) => return Err(Ended),
        }
    }
}

/// A slow follower loses nothing that the log still keeps: it goes on reading there.
async fn say_events(
    log: Arc<EventLog>,
    since: Option<u64>,
    follow: bool,
    wanted: impl Fn(&Event) -> bool,
    mut lines: Lines,
) -> Result<(), Ended> {
    let mut next = since;
    loop {
        let Following { past, mut coming } = log.follow(next.unwrap_or(0));
        if let (Some(next), Some(first)) = (next, past.first())
            && first.seq > next
        {
            lines.missed::<Event>(first.seq - next).await?;
        }
        if let Some(last) = past.last() {
            next = Some(last.seq + 1);
        }
        let chosen: Vec<&Event> = past.iter().map(Arc::as_ref).filter(|it| wanted(it)).collect();
        lines.items(chosen).await?;
        if !follow {
            return Ok(());
        }
        loop {
            match lines.or_end(coming.recv()).await? {
                Ok(event) => {
                    next = Some(event.seq + 1);
                    if wanted(&event) {
                        lines.items([event.as_ref()]).await?;
                    }
                }
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Err(Ended),
            }
        }
    }
}

/// The client is gone or the server stops.
#[derive(Debug)]
struct Ended;

/// The writing end of a stream.
struct Lines {
    chunks: mpsc::Sender<Result<Bytes, Infallible>>,
    stopping: watch::Receiver<bool>,
}

fn lines(shared: &Shared) -> (Lines, Response) {
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    let mut response = Body::from_stream(ReceiverStream::new(receiver)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    (Lines { chunks, stopping: shared.stopping.clone() }, response)
}

impl Lines {
    /// Waits for `next`, but no longer than anybody listens.
    async fn or_end<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Ended> {
        tokio::select! {
            next = next => Ok(next),
            () = self.chunks.closed() => Err(Ended),
            () = stopped(&mut self.stopping) => Err(Ended),
        }
    }

    async fn items<'a, T: Serialize + 'a>(&mut self, items: impl IntoIterator<Item = &'a T>) -> Result<(), Ended> {
        let mut chunk = Vec::new();
        for item in items {
            write_line(&mut chunk, item);
            if chunk.len() >= CHUNK_BYTES {
                self.send(std::mem::take(&mut chunk)).await?;
            }
        }
        if chunk.is_empty() { Ok(()) } else { self.send(chunk).await }
    }

    async fn missed<T: Serialize>(&mut self, missed: u64) -> Result<(), Ended> {
        let mut chunk = Vec::new();
        write_line(&mut chunk, &Streamed::<T>::Missed { missed });
        self.send(chunk).await
    }

    async fn send(&mut self, chunk: Vec<u8>) -> Result<(), Ended> {
        let chunks = self.chunks.clone();
        match self.or_end(chunks.send(Ok(chunk.into()))).await? {
            Ok(()) => Ok(()),
            Err(_) => Err(Ended),
        }
    }
}

fn write_line(chunk: &mut Vec<u8>, item: &impl Serialize) {
    let before = chunk.len();
    // Writing plain data into memory fails only for maps with other keys than text, which the API's types do not have.
    if serde_json::to_writer(&mut *chunk, item).is_err() {
        chunk.truncate(before);
        return;
    }
    chunk.push(b'\n');
}
