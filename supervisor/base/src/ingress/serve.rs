//! Listeners and client connections.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::Ingress;
use super::answer::Answer;
use super::ending::{Ending, Phase};
use super::exchange;
use super::gate::{Gate, Turnstile};

/// How long a listener rests when the process has no descriptor left or the kernel no memory. Accepting again at once would only
/// burn the time in which connections end.
const REST: Duration = Duration::from_millis(50);

/// Accepts clients until the ingress ends.
pub(crate) async fn listen(ingress: Arc<Ingress>, listener: TcpListener) {
    let ending = ingress.ending();
    let mut full = false;
    loop {
        let accepted = async {
            let Ok(permit) = Arc::clone(&ingress.connections).acquire_owned().await else {
                unreachable!("the semaphore is never closed")
            };
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            it = accepted => it,
            () = ending.begun() => return,
        };
        let (stream, peer) = match accepted {
            Ok(it) => it,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::error!(%error, "accepting connections fails");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let room = ingress.connections.available_permits() > 0;
        if full == room {
            full = !room;
            if full {
                tracing::warn!(connections = ingress.limits.connections, "no further connection is accepted");
            }
        }
        // Small answers would wait for acknowledgements; a connection that is gone already shows when it is read.
        let _ = stream.set_nodelay(true);
        let (ingress, ending) = (Arc::clone(&ingress), ending.clone());
        tokio::spawn(async move {
            serve(ingress, stream, Some(peer.ip()), ending).await;
            drop(permit);
        });
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied)
}

/// Serves one client to its end.
pub(crate) async fn serve<S>(ingress: Arc<Ingress>, stream: S, peer: Option<IpAddr>, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let turnstile = Arc::new(Turnstile::default());
    let gate = Gate::new(stream, &ingress.limits, Arc::clone(&turnstile));
    let service = service_fn(|request: Request<Incoming>| {
        let (ingress, ending, ticket) = (Arc::clone(&ingress), ending.clone(), turnstile.next());
        async move {
            let mut response: Response<Answer> = exchange::answer(&ingress, peer, ticket, request).await;
            if ending.phase() > Phase::Open && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None)
        .max_headers(ingress.limits.headers)
        .max_buf_size(ingress.limits.head_bytes.max(64 << 10))
        .serve_connection(TokioIo::new(gate), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ending.over() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection broke");
    }
}
