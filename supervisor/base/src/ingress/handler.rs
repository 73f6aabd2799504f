//! HTTP handlers of the base's own, for a prefix of paths.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Incoming};
use tower::{Service, util::Oneshot};

use super::limits::Limits;
use crate::BoxError;

/// The body of a request to a handler: streamed, and an error beyond the limit of the ingress.
pub type HandlerBody = Limited<Incoming>;

type Answering = Pin<Box<dyn Future<Output = Response<UnsyncBoxBody<Bytes, BoxError>>> + Send>>;

/// A tower service behind one type.
pub(crate) struct Handler(Box<dyn Fn(Request<HandlerBody>) -> Answering + Send + Sync>);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

impl Handler {
    pub(crate) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<HandlerBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Box::new(move |request| {
            let service = service.clone();
            Box::pin(async move {
                let Ok(response) = Oneshot::new(service, request).await;
                response.map(|body| body.map_err(Into::into).boxed_unsync())
            })
        }))
    }

    pub(crate) async fn call(
        &self,
        request: Request<Incoming>,
        limits: &Limits,
    ) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
        let most = usize::try_from(limits.body_bytes).unwrap_or(usize::MAX);
        (self.0)(request.map(|body| Limited::new(body, most))).await
    }
}
