//! Bodies much larger than the memory that may hold them.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use hyper::body::Frame;

use super::*;

const LARGE: u64 = 100 << 20;
/// What may be between the two ends: hyper's buffers and a few pieces, and whatever the kernel lets a TCP connection hold.
fn between_most() -> u64 {
    let most = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{file}")).unwrap();
        text.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    let most = (4 << 20) + most("tcp_rmem") + most("tcp_wmem");
    assert!(most < LARGE / 2, "this kernel's socket buffers hold {most} bytes: the body must be larger");
    most
}

/// A body that is made as it is taken, and counts.
struct Made {
    left: u64,
    count: Arc<AtomicU64>,
}

impl Body for Made {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; 64 << 10] = [7; 64 << 10];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let len = self.left.min(PIECE.len() as u64);
        self.left -= len;
        self.count.fetch_add(len, Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..len as usize])))))
    }
}

/// Takes a body and notes the most that was between its two ends.
async fn take(mut body: Incoming, made: &AtomicU64) -> (u64, u64) {
    let (mut taken, mut between) = (0, 0);
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().into_data().unwrap().len() as u64;
        between = between.max(made.load(Relaxed) - taken);
    }
    (taken, between)
}

#[tokio::test]
async fn a_large_body_goes_to_the_worker_as_it_comes() {
    let world = World::start(Limits::default()).await;
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    let worker = world.worker(1, 1, move |request: Request<Incoming>| {
        let made = Arc::clone(&count);
        async move {
            let (taken, between) = take(request.into_body(), &made).await;
            text(format!("{taken} {between}"))
        }
    });
    world.route(&[worker]);
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/").header("host", "a").body(Made { left: LARGE, count: made }).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let answer = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let (taken, between) = answer.split_once(' ').unwrap();
    assert_eq!(taken.parse(), Ok(LARGE));
    assert!(between.parse::<u64>().unwrap() < between_most(), "{between} bytes were on their way");
}

#[tokio::test]
async fn a_large_answer_goes_to_the_client_as_it_comes() {
    let world = World::start(Limits::default()).await;
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    let worker = world.worker(1, 1, move |_| {
        let count = Arc::clone(&count);
        async move { Response::new(Made { left: LARGE, count }) }
    });
    world.route(&[worker]);
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(get("/")).await.unwrap();
    // A client that does not read stops the worker.
    let mut last = u64::MAX;
    while last != made.load(Relaxed) {
        last = made.load(Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(last < between_most(), "{last} bytes were made for a client that reads none");
    let (taken, between) = take(response.into_body(), &made).await;
    assert_eq!(taken, LARGE);
    assert!(between < between_most(), "{between} bytes were on their way");
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let world = World::start(Limits::default()).await;
    let (send, take) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let take = Arc::new(tokio::sync::Mutex::new(take));
    let worker = world.raw_worker(1, move |mut stream, _| {
        let take = Arc::clone(&take);
        async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            while let Some(event) = take.lock().await.recv().await {
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
            }
        }
    });
    world.route(&[worker]);
    let mut client = world.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for event in ["first", "second", "third"] {
        send.send(event).unwrap();
        while !String::from_utf8_lossy(&client.read).contains(event) {
            assert!(client.more().await);
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let world = World::start(Limits::default()).await;
    let worker = world.worker(1, 1, echo);
    world.route(&[worker]);
    let mut client = world.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 100);
    client.send("hello").await;
    let answer = client.answer().await;
    assert!(answer.status == 200 && answer.body.ends_with("hello"), "{answer:?}");
}
