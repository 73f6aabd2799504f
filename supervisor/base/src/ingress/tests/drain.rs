//! How the ingress ends.

use super::*;

#[tokio::test]
async fn each_connection_gets_one_last_answer_and_new_ones_none() {
    let world = World::start(Limits { linger_time: PATIENCE, ..Limits::default() }).await;
    let worker = world.worker(1, 1, echo);
    world.route(&[worker]);
    let (mut idle, mut fresh) = (world.client().await, world.client().await);
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!idle.answer().await.head.contains("connection: close"));
    // Accepted before the end begins.
    fresh.send("GET / HT").await;
    while world.ingress.connections.available_permits() > world.ingress.limits.connections - 2 {
        tokio::task::yield_now().await;
    }
    let ingress = Arc::clone(&world.ingress);
    let drain = tokio::spawn(async move { ingress.drain().await });
    while world.ingress.ending().phase() == super::super::Phase::Open {
        tokio::task::yield_now().await;
    }
    fresh.send("TP/1.1\r\nHost: a\r\n\r\n").await;
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for client in [&mut idle, &mut fresh] {
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert!(client.is_closed().await);
    }
    tokio::time::timeout(PATIENCE, drain).await.expect("the end, long before the time to linger").unwrap();
    assert!(TcpStream::connect(world.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn what_is_in_flight_is_finished_and_idle_connections_are_closed() {
    let limits = Limits { linger_time: Duration::from_millis(20), ..Limits::default() };
    let world = World::start(limits).await;
    let (release, held) = tokio::sync::watch::channel(false);
    let worker = world.worker(1, 1, move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|it| *it).await.unwrap();
            text("done")
        }
    });
    world.route(&[worker]);
    let (mut busy, mut idle) = (world.client().await, world.client().await);
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while world.ingress.admission.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let ingress = Arc::clone(&world.ingress);
    let drain = tokio::spawn(async move { ingress.drain().await });
    assert!(idle.is_closed().await);
    assert!(!drain.is_finished());
    release.send(true).unwrap();
    let answer = busy.answer().await;
    assert_eq!(answer.body, "done");
    assert!(answer.head.contains("connection: close"), "{answer:?}");
    tokio::time::timeout(PATIENCE, drain).await.expect("the end").unwrap();
}
