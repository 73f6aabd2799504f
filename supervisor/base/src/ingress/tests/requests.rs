//! What is passed on, and to whom.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

#[tokio::test]
async fn a_request_and_its_answer_go_through() {
    let world = World::start(Limits::default()).await;
    let worker = world.worker(1, 1, |request| async {
        let mut response = echo(request).await;
        response.headers_mut().insert("server", "secret/1".parse().unwrap());
        response.headers_mut().insert("x-own", "yes".parse().unwrap());
        *response.status_mut() = http::StatusCode::CREATED;
        response
    });
    world.route(&[worker]);
    let mut request = post("/a/b?c=d", "hello");
    request.headers_mut().insert("x-request-id", "my-id".parse().unwrap());
    request.headers_mut().insert("x-forwarded-for", "1.2.3.4".parse().unwrap());
    let response = world.ask(request).await;
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-request-id"], "my-id");
    assert_eq!(response.headers()["x-mortise-module"], "fake@1.0.0");
    assert_eq!(response.headers()["x-own"], "yes");
    assert!(!response.headers().contains_key("server"));
    let seen = String::from_utf8(response.into_body().to_vec()).unwrap();
    assert!(seen.starts_with("POST /a/b?c=d HTTP/1.1\n"), "{seen}");
    assert!(seen.ends_with("\n\nhello"), "{seen}");
    for line in ["host: a.example", "x-request-id: my-id", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http"] {
        assert!(seen.lines().any(|it| it == line), "{line} in {seen}");
    }
    assert!(seen.contains("\ncontent-length: 5\n") && seen.contains("\ntraceparent: 00-"), "{seen}");
    assert!(!seen.contains("1.2.3.4"), "{seen}");
}

#[tokio::test]
async fn both_sides_are_kept_alive() {
    let world = World::start(Limits::default()).await;
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let worker = world.raw_worker(1, move |stream, _| {
        counted.fetch_add(1, Relaxed);
        async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request).await) });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    });
    world.route(&[worker]);
    let mut client = world.client().await;
    for number in 0..20 {
        client.send(format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with(&format!("POST /{number} ")), "{answer:?}");
        assert!(!answer.head.contains("connection: close"));
    }
    assert_eq!(connections.load(Relaxed), 1, "the worker's connection is used again");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::start(Limits::default()).await;
    let worker = world.worker(1, 1, echo);
    world.route(&[worker]);
    let mut client = world.client().await;
    let request =
        |it| format!("POST /{it} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    client.send((0..10).map(request).collect::<String>()).await;
    for number in 0..10 {
        let answer = client.answer().await;
        assert!(answer.body.starts_with(&format!("POST /{number} ")) && answer.body.ends_with("abc"), "{answer:?}");
    }
}

#[tokio::test]
async fn hosts_and_prefixes_choose_the_worker() {
    let world = World::start(Limits::default()).await;
    let a = world.worker(1, 1, |_| async { text("a") });
    let b = world.worker(2, 1, |_| async { text("b") });
    let of_host = HttpRoute { host: Some("b.example".into()), ..route("/", &[b]) };
    world.apply(&[route("/a", &[a]), of_host]);
    assert_eq!(world.get("/a/x").await.body(), "a");
    assert_eq!(world.get("/ab").await.status(), 404);
    let mut client = world.client().await;
    client.send("GET /a HTTP/1.1\r\nHost: B.example:80\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "b");
    client.send("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "b");
    client.send("GET /../a HTTP/1.1\r\nHost: b.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 400);
    client.send("GET /a HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "a");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn head_and_no_content_have_no_body_and_keep_the_connection() {
    let world = World::start(Limits::default()).await;
    let worker = world.worker(1, 1, |request: Request<Incoming>| async move {
        let mut response = text(if request.method() == "HEAD" { "12345" } else { "" });
        if request.method() == "DELETE" {
            *response.status_mut() = http::StatusCode::NO_CONTENT;
        }
        response
    });
    world.route(&[worker]);
    let mut client = world.client().await;
    for _ in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nDELETE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        while client.read.windows(4).filter(|it| it == b"\r\n\r\n").count() < 2 {
            assert!(client.more().await);
        }
        let both = String::from_utf8(std::mem::take(&mut client.read)).unwrap().to_ascii_lowercase();
        assert!(both.contains("content-length: 5\r\n") && both.contains("http/1.1 204"), "{both}");
        assert!(!both.contains("12345"));
    }
}

#[tokio::test]
async fn a_websocket_goes_through_and_nothing_else_does() {
    let mut world = World::start(Limits::default()).await;
    let worker = world.worker(1, 1, |mut request: Request<Incoming>| async move {
        let mut response = text("");
        if request.headers().get("upgrade").is_none() {
            return text("no upgrade");
        }
        let on_upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(on_upgrade.await.unwrap());
            let mut bytes = [0; 5];
            while stream.read_exact(&mut bytes).await.is_ok() {
                bytes.reverse();
                stream.write_all(&bytes).await.unwrap();
            }
        });
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        response
    });
    let old = worker.worker;
    world.route(&[worker]);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "no upgrade");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 101);
    assert!(answer.head.contains("upgrade: websocket"), "{answer:?}");
    // The worker is busy for as long as the socket is open.
    world.route(&[]);
    for _ in 0..3 {
        client.send("GET /").await;
        client.stream.read_exact(&mut [0; 5]).await.unwrap();
    }
    assert!(world.drained.try_recv().is_err());
    drop(client);
    assert_eq!(world.drained().await, old);
}

#[tokio::test]
async fn a_handler_of_the_base_answers_its_prefix() {
    let mut handlers = RouteTable::default();
    let service = tower::service_fn(|request: Request<super::super::HandlerBody>| async move {
        let body = request.into_body().collect().await.map(|it| it.to_bytes());
        Ok::<_, Infallible>(match body {
            Ok(body) => text(format!("{} bytes", body.len())),
            Err(error) => text(error.to_string()),
        })
    });
    assert_eq!(handlers.add(None, "/healthz", super::super::Handler::new(service)), super::super::routes::Added::Yes);
    let limits = Limits { body_bytes: 100, ..Limits::default() };
    let (ingress, events) = Ingress::new(limits, handlers, None);
    let world = World::with(ingress, events).await;
    assert_eq!(world.get("/healthz").await.body(), "0 bytes", "needs no routes");
    world.apply(&[]);
    assert_eq!(world.get("/healthz").await.body(), "0 bytes");
    assert_eq!(world.ask(post("/healthz/x", "hello")).await.body(), "5 bytes");
    assert_eq!(world.ask(post("/healthz/x", vec![0; 101])).await.status(), 413);
    assert_eq!(world.get("/other").await.status(), 404);
}

#[tokio::test]
async fn errors_are_json_for_programs_and_text_for_people() {
    let world = World::start(Limits::default()).await;
    world.apply(&[]);
    let response = world.get("/x").await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (404, &"application/json".parse().unwrap())
    );
    let shape: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(shape["error"], "no-route");
    assert_eq!(shape["request_id"], response.headers()["x-request-id"].to_str().unwrap());
    let mut request = get("/x");
    request.headers_mut().insert("accept", "text/html, */*".parse().unwrap());
    let response = world.ask(request).await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert!(response.body().starts_with(b"no-route: nothing is published at a.example/x"));
}

#[tokio::test]
async fn a_request_that_comes_before_the_first_routes_waits_for_them() {
    let world = World::start(Limits::default()).await;
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while world.ingress.admission.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let worker = world.worker(1, 1, echo);
    world.route(&[worker]);
    assert_eq!(client.answer().await.status, 200);
    let untold = World::start(Limits { gap_time: Duration::from_millis(50), ..Limits::default() }).await;
    assert_eq!(untold.get("/").await.status(), 503);
}
