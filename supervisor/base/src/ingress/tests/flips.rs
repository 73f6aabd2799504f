//! Routes that change under load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::*;

#[tokio::test]
async fn what_is_in_flight_ends_at_the_old_worker_and_then_it_is_drained() {
    let mut world = World::start(Limits::default()).await;
    let (release, held) = tokio::sync::watch::channel(false);
    let old = world.worker(1, 1, move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|it| *it).await.unwrap();
            text("old")
        }
    });
    let new = world.worker(2, 1, |_| async { text("new") });
    let id = old.worker;
    world.route(&[old]);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while world.ingress.admission.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    // It has entered the old worker once its answer is awaited: another request after the flip goes to the new one.
    tokio::task::yield_now().await;
    world.route(&[new]);
    assert_eq!(world.get("/").await.body(), "new");
    assert!(world.drained.try_recv().is_err(), "the old worker is busy");
    release.send(true).unwrap();
    assert_eq!(client.answer().await.body, "old");
    assert_eq!(world.drained().await, id);
}

#[tokio::test]
async fn a_worker_counts_as_busy_until_the_last_byte_of_its_answer() {
    let mut world = World::start(Limits::default()).await;
    let (mut more, rest) = tokio::io::duplex(1 << 10);
    let rest = Arc::new(tokio::sync::Mutex::new(rest));
    let worker = world.raw_worker(1, move |mut stream, _| {
        let rest = Arc::clone(&rest);
        async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n1234").await.unwrap();
            let mut four = [0; 4];
            rest.lock().await.read_exact(&mut four).await.unwrap();
            stream.write_all(&four).await.unwrap();
        }
    });
    let id = worker.worker;
    world.route(&[worker]);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while !client.read.ends_with(b"1234") {
        assert!(client.more().await);
    }
    world.route(&[]);
    assert!(world.drained.try_recv().is_err());
    more.write_all(b"5678").await.unwrap();
    assert_eq!(client.answer().await.body, "12345678");
    assert_eq!(world.drained().await, id);
}

#[tokio::test]
async fn idle_connections_to_a_worker_are_closed_when_it_is_no_longer_routed() {
    let mut world = World::start(Limits::default()).await;
    let (closed, mut told) = tokio::sync::mpsc::unbounded_channel();
    let worker = world.raw_worker(1, move |stream, _| {
        let closed = closed.clone();
        async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(echo(request).await) });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            closed.send(()).unwrap();
        }
    });
    let id = worker.worker;
    world.route(&[worker]);
    assert_eq!(world.get("/").await.status(), 200);
    world.route(&[]);
    assert_eq!(world.drained().await, id);
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.expect("told"), Some(()));
}

#[tokio::test]
async fn idle_connections_are_closed_also_while_the_worker_is_busy() {
    let mut world = World::start(Limits::default()).await;
    let (closed, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (release, held) = tokio::sync::watch::channel(false);
    let worker = world.raw_worker(1, move |stream, _| {
        let (closed, held) = (closed.clone(), held.clone());
        async move {
            let service = service_fn(|request: Request<Incoming>| {
                let mut held = held.clone();
                async move {
                    if request.uri().path() == "/held" {
                        held.wait_for(|it| *it).await.unwrap();
                    }
                    Ok::<_, Infallible>(text("done"))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            closed.send(()).unwrap();
        }
    });
    let id = worker.worker;
    world.route(&[worker]);
    let mut client = world.client().await;
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while world.ingress.workers.lock().unwrap().values().all(|it| it.in_flight() == 0) {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.get("/idle").await.body(), "done");
    world.route(&[]);
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.expect("told"), Some(()));
    assert!(world.drained.try_recv().is_err());
    release.send(true).unwrap();
    assert_eq!(client.answer().await.body, "done");
    assert_eq!(world.drained().await, id);
}

#[tokio::test]
async fn a_worker_that_comes_back_before_it_was_drained_goes_on() {
    let mut world = World::start(Limits::default()).await;
    let (release, held) = tokio::sync::watch::channel(false);
    let worker = world.worker(1, 1, move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|it| *it).await.unwrap();
            text("done")
        }
    });
    world.route(std::slice::from_ref(&worker));
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while world.ingress.workers.lock().unwrap().values().all(|it| it.in_flight() == 0) {
        tokio::task::yield_now().await;
    }
    world.route(&[]);
    world.route(std::slice::from_ref(&worker));
    release.send(true).unwrap();
    assert_eq!(client.answer().await.body, "done");
    assert_eq!(world.get("/").await.body(), "done");
    assert!(world.drained.try_recv().is_err(), "it is routed: nobody was told otherwise");
    world.route(&[]);
    assert_eq!(world.drained().await, worker.worker);
}

/// A worker that answers until it is told to stop, as a drained worker is. A request after that is lost.
fn worker(world: &World, generation: u32, stopped: &Arc<AtomicBool>, lost: &Arc<AtomicU64>) -> HttpTarget {
    let (stopped, lost) = (Arc::clone(stopped), Arc::clone(lost));
    world.worker(1, generation, move |request: Request<Incoming>| {
        let (stopped, lost) = (Arc::clone(&stopped), Arc::clone(&lost));
        async move {
            if stopped.load(Relaxed) {
                lost.fetch_add(1, Relaxed);
            }
            let answer = echo(request).await;
            for _ in 0..generation % 3 {
                tokio::task::yield_now().await;
            }
            if stopped.load(Relaxed) {
                lost.fetch_add(1, Relaxed);
            }
            answer
        }
    })
}

/// Two hundred flips, each to a new worker whose predecessor is stopped as soon as it is said to be drained: no request fails, and none
/// reaches a worker that was stopped.
#[tokio::test]
async fn flips_under_load_lose_no_request() {
    let mut world = World::start(Limits::default()).await;
    let (over, lost, answered) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut stopped = Arc::new(AtomicBool::new(false));
    let mut target = worker(&world, 1, &stopped, &lost);
    world.route(std::slice::from_ref(&target));
    let mut load = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (over, answered, address) = (Arc::clone(&over), Arc::clone(&answered), world.address);
        load.spawn(async move {
            let mut client = Client { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() };
            while !over.load(Relaxed) {
                let request = match number % 3 {
                    0 => "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
                    1 => "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                    _ => "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                };
                client.send(request).await;
                let answer = client.answer().await;
                assert_eq!(answer.status, 200, "{answer:?}");
                assert!(number % 3 == 0 || answer.body.ends_with("hello"));
                answered.fetch_add(1, Relaxed);
            }
        });
    }
    for generation in 2..=200 {
        let before = answered.load(Relaxed);
        let next_stopped = Arc::new(AtomicBool::new(false));
        let next = worker(&world, generation, &next_stopped, &lost);
        world.route(std::slice::from_ref(&next));
        assert_eq!(world.drained().await, target.worker);
        stopped.store(true, Relaxed);
        std::fs::remove_file(&target.socket).unwrap();
        (stopped, target) = (next_stopped, next);
        while answered.load(Relaxed) < before + 10 && !load.is_empty() {
            if let Some(Err(error)) = load.try_join_next() {
                panic!("{error}");
            }
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Relaxed);
    while let Some(result) = load.join_next().await {
        result.unwrap();
    }
    assert_eq!(lost.load(Relaxed), 0, "of {}", answered.load(Relaxed));
    assert!(answered.load(Relaxed) > 2000);
}
