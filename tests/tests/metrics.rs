//! `GET /metrics` says what happened, by the base's count too.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use mortise_tests::{World, as_root, eventually};

/// `GET /metrics`, as a scraper asks for it.
fn metrics(world: &World) -> String {
    let mut socket = UnixStream::connect(world.daemon.socket()).expect("the admin socket");
    socket.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("the request is taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains(" 200 "), "{answer}");
    answer
}

/// The sum of a family over all label sets that have both labels.
fn sum(metrics: &str, family: &str, labels: [&str; 2]) -> f64 {
    let here = |line: &&str| {
        line.strip_prefix(family).is_some_and(|it| it.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    };
    let value = |line: &str| line.rsplit(' ').next().and_then(|it| it.parse::<f64>().ok());
    metrics.lines().filter(here).filter_map(value).sum()
}

#[test]
fn requests_through_the_ingress_are_counted_with_their_latency() {
    as_root!();
    let world = World::start();
    world.deploy("legacy");
    const REQUESTS: f64 = 7.0;
    for _ in 0..REQUESTS as usize {
        assert_eq!(world.get("/guestbook").expect("an answer").0, 200);
    }
    let of_base = [r#"module="base""#, r#"service="http""#];
    let mut shown = String::new();
    let counted = eventually(|| {
        shown = metrics(&world);
        sum(&shown, "mortise_calls_total", of_base) >= REQUESTS
    });
    assert!(counted, "{shown}");
    assert!(sum(&shown, "mortise_call_duration_seconds_count", of_base) >= REQUESTS, "{shown}");
    assert!(sum(&shown, "mortise_call_duration_seconds_sum", of_base) > 0.0, "{shown}");
    world.end();
}
