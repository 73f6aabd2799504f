//! Packages on their way in: received into the package store while they arrive, then registered.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::BodyDataStream;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use bytes::{Buf as _, Bytes};
use mortise_control::TenantName;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt as _;
use utoipa::IntoParams;

use super::extract::InQuery;
use super::operations::{checked_id, is_bases};
use super::{Access, Caller, Shared, bounds};
use crate::api::{self, ApiError, Blame, ErrorCode, Operation, OperationId};
use crate::package::{Digest, Installed, PackageError};

/// Chunks between the connection and the thread that unpacks.
const CHUNKS: usize = 4;

/// How long what is left of a refused package is read and thrown away, so that its sender sees the answer.
const DISCARD: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Incoming {
    /// Whose module it will be.
    #[param(value_type = String)]
    tenant: TenantName,
    /// The client's name for the operation, as in `POST /v1/operations`.
    id: Option<String>,
}

/// Takes a package file, verifies and unpacks it, and registers the version: the operation `install`.
///
/// A package that is refused leaves nothing behind. Sending one twice changes nothing.
#[utoipa::path(post, path = "/v1/packages", tag = "modules", params(Incoming),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "what `mortise pack` writes"),
    responses((status = 202, body = Operation)))]
pub(super) async fn receive(
    State(shared): State<Shared>,
    caller: Caller,
    incoming: Result<InQuery<Incoming>, ApiError>,
    request: Request,
) -> Result<(StatusCode, Json<Operation>), ApiError> {
    let mut body = request.into_body().into_data_stream();
    let accepted = register(&shared, &caller, incoming, &mut body).await;
    if accepted.is_err() {
        // Who is in the middle of sending looks for an answer only when it may send no more, or has sent all.
        let deadline = Instant::now() + DISCARD;
        while let Ok(Some(Ok(_))) = timeout_at(deadline, body.next()).await {}
    }
    Ok((StatusCode::ACCEPTED, Json(accepted?)))
}

async fn register(
    shared: &Shared,
    caller: &Caller,
    incoming: Result<InQuery<Incoming>, ApiError>,
    body: &mut BodyDataStream,
) -> Result<Operation, ApiError> {
    let InQuery(Incoming { tenant, id }) = incoming?;
    caller.may(Access::Change(&tenant))?;
    let id = checked_id(id.map(OperationId))?;
    let Ok(_place) = shared.uploads.try_acquire() else {
        let message = format!("{} packages are arriving already", bounds::UPLOADS);
        return Err(
            ApiError::new(ErrorCode::Unavailable, Blame::Caller, message).remedy("Try again when one has arrived.")
        );
    };
    let arriving = shared.arriving.read().await;
    let installed = unpack(shared, body).await?;
    if is_bases(shared, &tenant, &installed.manifest)
        && let Err(denied) = caller.may(Access::Base)
    {
        drop(arriving);
        discard(shared, installed.digest).await;
        return Err(denied);
    }
    let asked = api::Request::Install { tenant, digest: installed.digest.to_string() };
    let answer = shared.api.handle.submit(id, asked).await;
    drop(arriving);
    if answer.is_err() {
        discard(shared, installed.digest).await;
    }
    answer
}

/// Feeds the body to the store, which reads it in a thread of its own.
async fn unpack(shared: &Shared, body: &mut BodyDataStream) -> Result<Installed, ApiError> {
    let (chunks, received) = mpsc::channel(CHUNKS);
    let api = Arc::clone(&shared.api);
    let reading = tokio::task::spawn_blocking(move || api.packages.install(Arriving { received, chunk: Bytes::new() }));
    feed(body, chunks).await;
    let installed = reading.await.map_err(|error| {
        ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("the package store failed: {error}"))
    })?;
    Ok(installed?)
}

/// Passes on what arrives until it ends, breaks, or the reader has seen enough.
async fn feed(body: &mut BodyDataStream, chunks: mpsc::Sender<io::Result<Bytes>>) {
    let end = Instant::now() + bounds::UPLOAD_TIMEOUT;
    loop {
        let chunk = match timeout_at(end.min(Instant::now() + bounds::UPLOAD_SILENCE), body.next()).await {
            Ok(None) => return,
            Ok(Some(chunk)) => chunk.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it came too slowly")),
        };
        let broken = chunk.is_err();
        if chunks.send(chunk).await.is_err() || broken {
            return;
        }
    }
}

/// The body as the thread that unpacks reads it.
struct Arriving {
    received: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.received.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Removes a package that was not registered, unless it is another version's or may become one right now: what is left then is
/// removed when the supervisor starts again.
async fn discard(shared: &Shared, digest: Digest) {
    let Ok(_alone) = shared.arriving.try_write() else { return };
    let text = digest.to_string();
    let state = shared.api.handle.state();
    if state.modules.iter().flat_map(|it| &it.installed).any(|it| it.digest == text) {
        return;
    }
    let api = Arc::clone(&shared.api);
    let removed: Result<Result<u64, PackageError>, _> =
        tokio::task::spawn_blocking(move || api.packages.remove(&digest)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(%error, package = text, "a package that was not registered is left");
    }
}
