//! Workers that refuse, break off or hang, and what the client is told.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

fn code(response: &Response<Bytes>) -> String {
    let shape: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
    shape["error"].as_str().expect("a code").to_owned()
}

async fn read_head(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|it| it == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            break;
        }
    }
    bytes
}

#[tokio::test]
async fn a_worker_that_refuses_is_passed_over() {
    let world = World::start(Limits::default()).await;
    let good = world.worker(1, 1, echo);
    let dead = world.target(2, 1);
    drop(UnixListener::bind(&dead.socket).unwrap());
    let absent = world.target(3, 1);
    world.route(&[dead, good, absent]);
    for number in 0..20 {
        let response = world.ask(post(&format!("/{number}"), "body")).await;
        assert_eq!(response.status(), 200);
        assert!(response.body().ends_with(b"body"));
    }
}

#[tokio::test]
async fn when_all_refuse_the_request_waits_for_new_routes() {
    let world = World::start(Limits::default()).await;
    let dead = world.target(2, 1);
    let good = world.worker(1, 1, echo);
    world.route(std::slice::from_ref(&dead));
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").await;
    // Until it is under way; it gives no sign of waiting.
    while world.ingress.admission.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    world.route(&[good]);
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn with_new_routes_a_worker_that_refused_is_tried_again() {
    let world = World::start(Limits::default()).await;
    let late = world.target(2, 1);
    world.route(std::slice::from_ref(&late));
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while world.ingress.admission.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.worker(2, 1, echo).worker, late.worker);
    world.route(std::slice::from_ref(&late));
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn nobody_there_is_503_with_retry_after() {
    let world = World::start(Limits { gap_time: Duration::from_millis(50), ..Limits::default() }).await;
    let dead = world.target(2, 1);
    world.route(&[dead]);
    let response = world.get("/").await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!(code(&response), "not-started");
    world.route(&[]);
    let response = world.get("/").await;
    assert_eq!((response.status().as_u16(), code(&response)), (503, "not-started".to_owned()));
}

#[tokio::test]
async fn a_worker_that_breaks_off_may_have_executed() {
    let world = World::start(Limits::default()).await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let worker = world.raw_worker(1, move |mut stream, _| {
        counted.fetch_add(1, Relaxed);
        async move { drop(read_head(&mut stream).await) }
    });
    world.route(&[worker]);
    for request in [get("/"), post("/", "x")] {
        let response = world.ask(request).await;
        assert_eq!((response.status().as_u16(), code(&response)), (502, "maybe-executed".to_owned()));
    }
    assert_eq!(attempts.load(Relaxed), 2, "nothing is sent twice");
}

#[tokio::test]
async fn answers_that_are_none_are_502() {
    let mut world = World::start(Limits::default()).await;
    let answers = [
        "garbage\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200 << 10)),
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n".to_owned(),
    ];
    for (slot, answer) in answers.into_iter().enumerate() {
        let shown = answer.chars().take(60).collect::<String>();
        let worker = world.raw_worker(10 + slot as u32, move |mut stream, _| {
            let answer = answer.clone();
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.read(&mut [0; 1]).await;
            }
        });
        world.apply(&[route(&format!("/{slot}"), &[worker])]);
        let response = world.get(&format!("/{slot}")).await;
        assert_eq!(response.status(), 502, "{shown}");
        while world.drained.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn an_answer_without_reading_to_the_end_arrives() {
    let world = World::start(Limits::default()).await;
    let worker = world.raw_worker(1, |mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge").await.unwrap();
    });
    world.route(&[worker]);
    for number in 0..20 {
        let mut client = world.client().await;
        let length = 8 << 20;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
        let (mut reading, mut writing) = client.stream.into_split();
        // Ends early: nobody takes it all.
        let upload = tokio::spawn(async move { writing.write_all(&vec![0; length]).await.is_ok() });
        let mut answer = vec![0; 12];
        reading.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 413", "request {number}");
        upload.abort();
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    let mut world = World::start(Limits::default()).await;
    for (slot, answer) in [
        (1, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
        (2, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
    ] {
        let worker = world.raw_worker(slot, move |mut stream, _| async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        world.route(&[worker]);
        let mut client = world.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let all = client.rest().await;
        assert!(all.starts_with("HTTP/1.1 200") && all.contains("part"), "{all}");
        assert!(!all.ends_with("0\r\n\r\n"), "{all}");
        while world.drained.try_recv().is_ok() {}
    }
}

/// Answers once, then closes on the second request without reading it: what a server does that closes idle connections.
async fn once(mut stream: UnixStream) {
    read_head(&mut stream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    stream.readable().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_that_turns_out_closed_is_replaced_for_what_may_be_repeated() {
    let world = World::start(Limits::default()).await;
    let worker = world.raw_worker(1, |stream, _| once(stream));
    world.route(&[worker]);
    for number in 0..10 {
        let response = world.get("/").await;
        assert_eq!(response.status(), 200, "request {number}");
    }
    // A POST that may have been read is another matter.
    let response = world.ask(post("/", "x")).await;
    assert_eq!((response.status().as_u16(), code(&response)), (502, "maybe-executed".to_owned()));
}

/// After its first answer the worker takes nothing more on a connection, without closing it: a write fails, and nothing else tells.
#[tokio::test]
async fn a_connection_that_took_no_byte_is_replaced_for_every_request() {
    let mut world = World::start(Limits::default()).await;
    let (deaf, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = world.raw_worker(1, move |mut stream, _| {
        let deaf = deaf.clone();
        async move {
            let mut got = read_head(&mut stream).await;
            while !got.ends_with(b"the end") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            let whole = got.windows(100_000).any(|it| it.iter().all(|it| *it == b'x'));
            let answer = if whole { "200 OK" } else { "400 Bad Request" };
            let stream = stream.into_std().unwrap();
            stream.shutdown(std::net::Shutdown::Read).unwrap();
            let mut stream = UnixStream::from_std(stream).unwrap();
            stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 2\r\n\r\nok").as_bytes()).await.unwrap();
            // Held open, with its end still to come.
            deaf.send(stream).unwrap();
        }
    });
    world.route(&[worker]);
    for number in 0..10 {
        let body = format!("{}the end", "x".repeat(100_000));
        let response = world.ask(post("/", body)).await;
        assert_eq!(response.status(), 200, "request {number}: {:?}", response.body());
    }
    let mut held = 0;
    while told.try_recv().is_ok() {
        held += 1;
    }
    assert_eq!(held, 10, "each took a connection of its own");
    assert!(world.drained.try_recv().is_err());
}

#[tokio::test]
async fn the_deadline_is_504() {
    let world = World::start(Limits { request_time: Duration::from_millis(150), ..Limits::default() }).await;
    let worker = world.worker(1, 1, |_| async {
        std::future::pending::<()>().await;
        text("never")
    });
    world.route(&[worker]);
    let response = world.get("/").await;
    assert_eq!((response.status().as_u16(), code(&response)), (504, "deadline".to_owned()));
    let mut request = get("/");
    request.headers_mut().insert("x-deadline-ms", "20".parse().unwrap());
    let response = world.ask(request).await;
    assert_eq!(response.status(), 504);
    assert!(String::from_utf8_lossy(response.body()).contains("20 ms"));
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut() {
    let mut world = World::start(Limits { stall_time: Duration::from_millis(150), ..Limits::default() }).await;
    let worker = world.raw_worker(1, |mut stream, _| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    });
    let id = worker.worker;
    world.route(&[worker]);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.rest().await.ends_with("part"));
    world.route(&[]);
    assert_eq!(world.drained().await, id);
}

#[tokio::test]
async fn too_much_at_once_is_refused_at_once() {
    let limits = Limits { in_flight: 3, in_flight_per_worker: 2, ..Limits::default() };
    let world = World::start(limits).await;
    let (release, held) = tokio::sync::watch::channel(false);
    let worker = world.worker(1, 1, move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|it| *it).await.unwrap();
            text("done")
        }
    });
    let other = world.worker(2, 1, |_| async { text("other") });
    world.apply(&[route("/", &[worker]), route("/other", &[other])]);
    let mut clients = Vec::new();
    for number in 1..=2 {
        let mut client = world.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        while world.ingress.admission.in_flight() < number {
            tokio::task::yield_now().await;
        }
        clients.push(client);
    }
    let response = world.get("/").await;
    assert_eq!((response.status().as_u16(), code(&response)), (503, "overloaded".to_owned()));
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(world.get("/other").await.body(), "other", "another worker has room");
    release.send(true).unwrap();
    for client in &mut clients {
        assert_eq!(client.answer().await.body, "done");
    }
    assert_eq!(world.get("/").await.body(), "done");
}

mod dialled {
    use std::os::fd::AsFd;

    use mortise_control::socket;

    use super::*;

    /// What init does: a byte and a connection to the program, or a byte alone.
    async fn init(stream: UnixStream, program: Option<SocketAddr>) {
        let connection = match program {
            Some(program) => Some(TcpStream::connect(program).await.unwrap().into_std().unwrap()),
            None => None,
        };
        let fds: Vec<_> = connection.iter().map(|it| it.as_fd()).collect();
        socket::send_bytes(stream.as_fd(), &[0], &fds).unwrap();
    }

    async fn program() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request).await) });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_program_is_reached_by_the_connection_that_its_init_passes() {
        let world = World::start(Limits::default()).await;
        let program = program().await;
        let mut worker = world.raw_worker(1, move |stream, number| {
            assert_eq!(number, 0, "one connection serves all");
            init(stream, Some(program))
        });
        worker.reach = HttpReach::Dial;
        world.route(&[worker]);
        let large = "x".repeat(3 << 20);
        for _ in 0..3 {
            let response = world.ask(post("/a", large.clone())).await;
            assert_eq!(response.status(), 200);
            assert!(response.body().ends_with(large.as_bytes()));
        }
    }

    #[tokio::test]
    async fn a_program_that_does_not_accept_was_not_started() {
        let mut world = World::start(Limits { gap_time: Duration::from_millis(50), ..Limits::default() }).await;
        let mut refusing = world.raw_worker(1, |stream, _| init(stream, None));
        let mut closing = world.raw_worker(2, |stream, _| async { drop(stream) });
        let mut wrong = world.raw_worker(3, |stream, _| async move {
            let file = std::fs::File::open("/dev/null").unwrap();
            socket::send_bytes(stream.as_fd(), &[0], &[file.as_fd()]).unwrap();
        });
        for it in [&mut refusing, &mut closing, &mut wrong] {
            it.reach = HttpReach::Dial;
        }
        for worker in [refusing, closing, wrong] {
            world.route(&[worker]);
            let response = world.ask(post("/", "x")).await;
            assert_eq!((response.status().as_u16(), code(&response)), (503, "not-started".to_owned()));
            while world.drained.try_recv().is_ok() {}
        }
    }

    #[tokio::test]
    async fn a_sender_that_makes_the_connection_blocking_blocks_nobody() {
        let world = World::start(Limits { stall_time: Duration::from_millis(300), ..Limits::default() }).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut worker = world.raw_worker(1, move |stream, _| async move {
            let kept = TcpStream::connect(address).await.unwrap().into_std().unwrap();
            socket::send_bytes(stream.as_fd(), &[0], &[kept.as_fd()]).unwrap();
            // Over and over, on the description that both share.
            loop {
                kept.set_nonblocking(false).unwrap();
                tokio::task::yield_now().await;
            }
        });
        worker.reach = HttpReach::Dial;
        let other = world.worker(2, 1, echo);
        world.apply(&[route("/bad", &[worker]), route("/", &[other])]);
        let mut client = world.client().await;
        // More than the socket holds, to a program that does not read.
        let body = "x".repeat(16 << 20);
        client.send(format!("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        let (reading, mut writing) = client.stream.into_split();
        let upload = tokio::spawn(async move { writing.write_all(body.as_bytes()).await });
        for _ in 0..20 {
            assert_eq!(world.get("/good").await.status(), 200);
        }
        upload.abort();
        drop(upload);
        let _ = reading.try_read(&mut [0; 1]);
    }
}
