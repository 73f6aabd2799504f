//! The admin API's client: one connection a request, over the Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::fault::Fault;
use crate::api::{ApiError, Blame, ErrorCode};

/// The largest answer that is not a stream.
const ANSWER_BYTES: usize = 64 << 20;

/// The longest line of a stream: a log line has 8 KiB of text, which JSON may double.
const LINE_BYTES: usize = 256 * 1024;

/// How long an ordinary answer may take.
const PATIENCE: Duration = Duration::from_secs(35);

/// What a request may carry.
pub type Payload = BoxBody<Bytes, std::io::Error>;

/// A supervisor, by its socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The one behind `socket`.
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `GET`, answered by JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        self.get_within(path, PATIENCE).await
    }

    /// The same with more patience, for requests that wait.
    pub async fn get_within<T: DeserializeOwned>(&self, path: &str, patience: Duration) -> Result<T, Fault> {
        decode(&self.bytes(Method::GET, path, None, empty(), patience).await?)
    }

    /// `POST` of JSON, answered by JSON.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Fault> {
        let body = serde_json::to_vec(body).map_err(|error| unwritten(&error))?;
        decode(&self.bytes(Method::POST, path, Some("application/json"), full(body), PATIENCE).await?)
    }

    /// `POST` of bytes that are JSON already, answered by such.
    pub async fn post_json(&self, path: &str, body: Vec<u8>, patience: Duration) -> Result<Bytes, Fault> {
        self.bytes(Method::POST, path, Some("application/json"), full(body), patience).await
    }

    /// `POST` of a body that is sent while it is read, answered by JSON.
    pub async fn upload<T: DeserializeOwned>(&self, path: &str, body: Payload, patience: Duration) -> Result<T, Fault> {
        decode(&self.bytes(Method::POST, path, Some("application/octet-stream"), body, patience).await?)
    }

    /// `GET` of a stream of lines.
    pub async fn lines(&self, path: &str) -> Result<Lines, Fault> {
        let asked = self.ask(Method::GET, path, None, empty());
        let response = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| self.silent(PATIENCE))??;
        Ok(Lines { body: response.into_body(), rest: Vec::new(), read: 0 })
    }

    async fn bytes(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Payload,
        patience: Duration,
    ) -> Result<Bytes, Fault> {
        let deadline = Instant::now() + patience;
        let answer = async {
            let response = self.ask(method, path, content_type, body).await?;
            collect(response.into_body()).await
        };
        tokio::time::timeout_at(deadline, answer).await.map_err(|_| self.silent(patience))?
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Payload,
    ) -> Result<Response<Incoming>, Fault> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|it| Fault::unreachable(&self.socket, &it))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|it| Fault::torn(&it))?;
        // Ends by itself when the answer has been read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|error| {
            Fault::from(ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("request {path}: {error}")))
        })?;
        let response = sender.send_request(request).await.map_err(|it| Fault::torn(&it))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = collect(response.into_body()).await?;
        Err(refusal(status, &body))
    }

    fn silent(&self, patience: Duration) -> Fault {
        let message = format!("{} did not answer within {} s", self.socket.display(), patience.as_secs());
        ApiError::new(ErrorCode::Deadline, Blame::Host, message)
            .remedy("See whether mortised gets CPU time, and what its log says.")
            .into()
    }
}

/// A body of nothing.
fn empty() -> Payload {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn full(bytes: Vec<u8>) -> Payload {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

async fn collect(body: Incoming) -> Result<Bytes, Fault> {
    match Limited::new(body, ANSWER_BYTES).collect().await {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Fault::torn(&format!("more than {ANSWER_BYTES} bytes"))),
        Err(error) => Err(Fault::torn(&error)),
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the supervisor's answer is not understood: {error}");
        ApiError::new(ErrorCode::Internal, Blame::Mortise, message)
            .remedy("See whether `mortise --version` and the version in `mortise status` are the same.")
            .into()
    })
}

fn unwritten(error: &serde_json::Error) -> Fault {
    ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("the request could not be written as JSON: {error}"))
        .into()
}

fn refusal(status: StatusCode, body: &[u8]) -> Fault {
    serde_json::from_slice::<ApiError>(body).map_or_else(|_| Fault::torn(&format!("status {status}")), Fault::from)
}

/// A stream, line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    read: usize,
}

impl Lines {
    /// The next line; none at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        loop {
            if let Some(length) = self.rest[self.read..].iter().position(|it| *it == b'\n') {
                let line = &self.rest[self.read..self.read + length];
                let item = decode(line);
                self.read += length + 1;
                return item.map(Some);
            }
            self.rest.drain(..self.read);
            self.read = 0;
            if self.rest.len() > LINE_BYTES {
                return Err(Fault::torn(&format!("a line of more than {LINE_BYTES} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Fault::torn(&error)),
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(Fault::torn(&"the last line has no end")),
            }
        }
    }
}
