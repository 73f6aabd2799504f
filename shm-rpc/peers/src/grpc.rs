//! Calls through tonic over a Unix stream socket. The messages are bare bytes, so no protobuf compiler is needed and its codec costs
//! nothing.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::other::{Given, Other, Placement};
use crate::ways::Caller;

#[derive(Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn adopt(socket: StdStream) -> UnixStream {
    socket.set_nonblocking(true).unwrap();
    UnixStream::from_std(socket).unwrap()
}

struct Calls {
    runtime: Runtime,
    client: tonic::client::Grpc<Channel>,
}

impl Caller for Calls {
    fn call(&mut self, count: u64) {
        self.runtime.block_on(async {
            for round in 0..count {
                let request = Bytes::copy_from_slice(&[round as u8; 32]);
                self.client.ready().await.unwrap();
                let path = http::uri::PathAndQuery::from_static("/peers.Echo/Echo");
                let answer = self.client.unary(Request::new(request.clone()), path, Plain).await.unwrap();
                assert_eq!(answer.into_inner(), request);
            }
        });
    }
}

pub fn start(placement: Placement) -> (Box<dyn Caller>, Other) {
    let (ours, theirs) = StdStream::pair().unwrap();
    let other = Other::start("tonic", placement, &[&theirs], "");
    drop(theirs);
    let runtime = runtime();
    let channel = runtime.block_on(async {
        let mut socket = Some(TokioIo::new(adopt(ours)));
        let connect = tower::service_fn(move |_| {
            ready(socket.take().ok_or(std::io::Error::from(std::io::ErrorKind::NotConnected)))
        });
        Endpoint::from_static("http://peers.invalid").connect_with_connector(connect).await.unwrap()
    });
    (Box::new(Calls { runtime, client: tonic::client::Grpc::new(channel) }), other)
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "peers.Echo";
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(tonic::server::Grpc::new(Plain).unary(Echo, request).await) })
    }
}

pub fn serve(given: &Given) {
    let socket = StdStream::from(given.take(0));
    runtime().block_on(async {
        let only = tokio_stream::once(Ok::<_, std::io::Error>(adopt(socket))).chain(tokio_stream::pending());
        given.ready();
        tonic::transport::Server::builder().add_service(Echo).serve_with_incoming(only).await.unwrap();
    });
}
