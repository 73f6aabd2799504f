//! The ingress with real sockets in one process: clients that are hyper's or write bytes, workers that are hyper's or misbehave.

mod drain;
mod failures;
mod flips;
mod gate_against_hyper;
mod hostile;
mod requests;
mod streams;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mortise_control::{HttpReach, HttpRoute, HttpTarget, ModuleName, ServiceName, WorkerId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedReceiver;

use super::routes::RouteTable;
use super::{Ingress, Limits};
use crate::BoxError;

/// Long enough for a machine that builds meanwhile; a test that passes does not wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An ingress on a port of its own.
struct World {
    ingress: Arc<Ingress>,
    drained: UnboundedReceiver<WorkerId>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl World {
    async fn start(limits: Limits) -> Self {
        let (ingress, drained) = Ingress::new(limits, RouteTable::default(), None);
        Self::with(ingress, drained).await
    }

    async fn with(ingress: Arc<Ingress>, drained: UnboundedReceiver<WorkerId>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        ingress.listen(listener);
        Self { ingress, drained, address, folder: tempfile::tempdir().unwrap() }
    }

    /// The socket of a worker that is still to be listened on.
    fn target(&self, slot: u32, generation: u32) -> HttpTarget {
        HttpTarget {
            worker: WorkerId { slot, generation },
            module: ModuleName::new("fake").unwrap(),
            version: semver::Version::new(u64::from(generation), 0, 0),
            weight: 1,
            version_weight: 1,
            socket: self.folder.path().join(format!("{slot}.{generation}.sock")),
            reach: HttpReach::Direct,
        }
    }

    /// A worker that answers by a function.
    fn worker<F, R, B>(&self, slot: u32, generation: u32, answer: F) -> HttpTarget
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<B>> + Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let target = self.target(slot, generation);
        let listener = UnixListener::bind(&target.socket).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let answer = answer(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _ = connection.await;
                });
            }
        });
        target
    }

    /// A worker that gets each connection as it comes, with its number.
    fn raw_worker<F, R>(&self, slot: u32, talk: F) -> HttpTarget
    where
        F: Fn(UnixStream, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let target = self.target(slot, 1);
        let listener = UnixListener::bind(&target.socket).unwrap();
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(talk(stream, number));
            }
        });
        target
    }

    /// Routes everything to these.
    fn route(&self, targets: &[HttpTarget]) {
        self.apply(&[route("/", targets)]);
    }

    fn apply(&self, routes: &[HttpRoute]) {
        let mut applied = false;
        self.ingress.apply(routes, || applied = true);
        assert!(applied);
    }

    /// The next worker that is said to be idle for good.
    async fn drained(&mut self) -> WorkerId {
        tokio::time::timeout(PATIENCE, self.drained.recv()).await.expect("told in time").expect("the ingress is there")
    }

    async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), read: Vec::new() }
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    async fn get(&self, path: &str) -> Response<Bytes> {
        self.ask(get(path)).await
    }
}

fn route(prefix: &str, targets: &[HttpTarget]) -> HttpRoute {
    HttpRoute {
        host: None,
        prefix: prefix.to_owned(),
        service: ServiceName::new("fake").unwrap(),
        targets: targets.to_vec(),
        rules: Vec::new(),
        tags: Vec::new(),
    }
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "a.example").body(Full::default()).unwrap()
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).header("host", "a.example").body(Full::new(body.into())).unwrap()
}

fn text(text: impl Into<String>) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from(text.into())))
}

/// Answers with what it got.
async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let body = String::from_utf8_lossy(&body);
    text(format!("{} {} {:?}\n{}\n\n{body}", parts.method, parts.uri, parts.version, headers.join("\n")))
}

/// A client that writes and reads bytes.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer with a Content-Length.
    async fn answer(&mut self) -> Answered {
        let head_len = loop {
            if let Some(at) = self.read.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more().await, "closed in a head: {:?}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read.drain(..head_len).collect()).unwrap().to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        let len = head.lines().find_map(|it| it.strip_prefix("content-length: ")).map_or(0, |it| it.parse().unwrap());
        while self.read.len() < len {
            assert!(self.more().await, "closed in a body");
        }
        let body = String::from_utf8(self.read.drain(..len).collect()).unwrap();
        Answered { status, head, body }
    }

    async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.read);
        tokio::time::timeout(PATIENCE, read).await.expect("something comes").is_ok_and(|len| len > 0)
    }

    /// Everything until the connection is closed.
    async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    async fn is_closed(&mut self) -> bool {
        !self.more().await && self.read.is_empty()
    }
}
