//! Clients that send what they should not, or not at all.

use super::*;

fn quick() -> Limits {
    Limits {
        head_time: Duration::from_millis(200),
        stall_time: Duration::from_millis(200),
        idle_time: Duration::from_millis(200),
        head_bytes: 8 << 10,
        body_bytes: 1000,
        ..Limits::default()
    }
}

async fn world(limits: Limits) -> World {
    let world = World::start(limits).await;
    let worker = world.worker(1, 1, echo);
    world.route(&[worker]);
    world
}

#[tokio::test]
async fn smuggling_is_refused_and_ends_the_connection() {
    let world = world(Limits::default()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for headers in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 6, 6",
        "Content-Length: +6",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "X: y\nContent-Length: 6",
        "Host: b",
    ] {
        let mut client = world.client().await;
        let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(format!("{good}POST /bad HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n0\r\n\r\nX{smuggled}")).await;
        let answer = client.answer().await;
        assert!(answer.body.starts_with("GET /good "), "the request before it is answered in its turn: {answer:?}");
        let answer = client.answer().await;
        assert_eq!(answer.status, 400, "{headers}: {answer:?}");
        assert!(answer.body.contains("\"error\":\"invalid\""), "{answer:?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert_eq!(client.rest().await, "", "{headers}: nothing is answered behind it");
    }
}

#[tokio::test]
async fn malformed_chunks_end_the_request_and_the_connection() {
    let world = world(Limits::default()).await;
    for chunks in ["5\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "zz\r\n", "5;\nx\r\nhello\r\n0\r\n\r\n"] {
        let mut client = world.client().await;
        client.send(format!("POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await;
        client.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let all = client.rest().await;
        assert!(all.starts_with("HTTP/1.1 400"), "{chunks:?}: {all}");
        assert!(!all.contains("/smuggled"), "{all}");
    }
}

#[tokio::test]
async fn heads_too_large_or_without_a_host_are_refused() {
    let world = world(quick()).await;
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9 << 10)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(20 << 10)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)), 431),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(), 501),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 501),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n".to_owned(), 417),
        ("\x16\x03\x01\x02\0\x01\r\n\r\n".to_owned(), 400),
    ] {
        let mut client = world.client().await;
        client.send(&request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{:?}: {answer:?}", &request[..request.len().min(60)]);
    }
}

#[tokio::test]
async fn a_head_that_trickles_is_given_up_and_an_idle_connection_closed() {
    let world = world(quick()).await;
    let mut slow = world.client().await;
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    let answer = slow.answer().await;
    assert_eq!((answer.status, answer.body.contains("too-slow")), (408, true));
    assert!(slow.is_closed().await);
    let mut idle = world.client().await;
    assert!(idle.is_closed().await, "without a word");
    let mut used = world.client().await;
    used.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(used.answer().await.status, 200);
    assert!(used.is_closed().await);
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_the_idle_time_is_given() {
    let world = World::start(quick()).await;
    let worker = world.worker(1, 1, |_| async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        text("late")
    });
    world.route(&[worker]);
    assert_eq!(world.get("/").await.body(), "late");
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let world = world(quick()).await;
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_body_too_large_is_refused_announced_or_not() {
    let world = world(quick()).await;
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 413);
    assert!(client.is_closed().await);
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    // The answer must not be lost to the reset that unread bytes would cause.
    for _ in 0..3 {
        client.send(format!("190\r\n{}\r\n", "x".repeat(400))).await;
    }
    assert_eq!(client.answer().await.status, 413);
    let mut fits = world.client().await;
    fits.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000))).await;
    assert_eq!(fits.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_on_sending_is_not_reset() {
    let world = world(quick()).await;
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 413);
    for _ in 0..50 {
        client.send([0; 1000]).await;
        tokio::task::yield_now().await;
    }
    client.stream.shutdown().await.unwrap();
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let world = World::start(Limits::default()).await;
    let (gone, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = world.raw_worker(1, move |mut stream, _| {
        let gone = gone.clone();
        async move {
            let mut bytes = Vec::new();
            stream.read_buf(&mut bytes).await.unwrap();
            gone.send("got it").unwrap();
            while stream.read_buf(&mut bytes).await.is_ok_and(|len| len > 0) {}
            gone.send("closed").unwrap();
        }
    });
    world.route(&[worker]);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(told.recv().await, Some("got it"));
    drop(client);
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.expect("told"), Some("closed"));
}

#[tokio::test]
async fn no_more_connections_than_the_limit_are_served() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let world = world(limits).await;
    let (mut a, mut b) = (world.client().await, world.client().await);
    for client in [&mut a, &mut b] {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut third = world.client().await;
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(tokio::time::timeout(Duration::from_millis(100), third.stream.readable()).await.is_err());
    drop(a);
    assert_eq!(third.answer().await.status, 200);
}
