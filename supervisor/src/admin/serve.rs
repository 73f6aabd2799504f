//! Connections: who is there, how many, how long.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service as _;

use super::reserve::Reserve;
use super::{AdminApi, Caller, Roles, Shared, bounds, routes, stopped};

/// What a caller gets when there is no room for its connection: written without waiting, then the connection is closed.
const FULL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n",
    "Connection: close\r\nContent-Length: 133\r\n\r\n",
    r#"{"code":"unavailable","blame":"caller","message":"too many connections to the admin API","remedy":"Close some followers of streams."}"#
);

/// How long to wait when the process has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin API until `shutdown`, then lets open requests end for two seconds.
///
/// The listener's own permissions are the first gate; who passes it is known by `SO_PEERCRED`: root and the user
/// that this process runs as are operators, others have the roles that they are given, everybody else is denied.
pub async fn serve(listener: UnixListener, api: AdminApi, shutdown: impl Future<Output = ()>) {
    let own = nix::unistd::geteuid().as_raw();
    let (stop, stopping) = watch::channel(false);
    let roles = Arc::clone(&api.roles);
    let router = routes::router(Shared::new(api, stopping.clone()));
    let (known, strangers) = (room(bounds::CONNECTIONS), room(bounds::STRANGERS));
    let mut connections = JoinSet::new();
    let mut reserve = Reserve::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) if reserve.shed(&listener, &error).await => continue,
            Err(error) => {
                tracing::warn!(%error, "the admin socket cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        reserve.enough();
        let Ok(peer) = stream.peer_cred() else { continue };
        let who = Who { uid: peer.uid(), own, roles: Arc::clone(&roles) };
        let places = if who.caller().role().is_some() { &known } else { &strangers };
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => {
                connections.spawn(connection(stream, who, router.clone(), stopping.clone(), place));
            }
            Err(_) => {
                let _ = stream.try_write(FULL.as_bytes());
            }
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds::STOP_GRACE, ended).await.is_err() {
        tracing::warn!(open = connections.len(), "the admin API ends with requests open");
    }
}

fn room(places: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(places))
}

/// Who is at the other end of a connection. What they may do is looked up anew for each request.
struct Who {
    uid: u32,
    own: u32,
    roles: Arc<ArcSwap<Roles>>,
}

impl Who {
    fn caller(&self) -> Caller {
        Caller::new(self.uid, self.own, &self.roles.load())
    }
}

async fn connection(
    stream: UnixStream,
    who: Who,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(who.caller());
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds::HEADERS_TIMEOUT)
        .max_buf_size(bounds::HEADERS_BYTES)
        .max_headers(bounds::HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the admin API ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_a_full_house_is_well_formed() {
        let (head, body) = FULL.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        let error: crate::api::ApiError = serde_json::from_str(body).unwrap();
        assert_eq!(error.code.http_status(), 503);
    }
}
