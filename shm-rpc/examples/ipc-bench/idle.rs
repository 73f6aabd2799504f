//! `idle-1000`: a call to a thread that serves a thousand idle channels, too. Its limit is the same call to a thread that serves
//! nothing else.

use shm_rpc::{Call, Client, End, Geometry, Server, ServerSet};

use crate::How;
use crate::measure::{CHUNK, LIMIT_CHUNK, Row, Tally, chunk};
use crate::other::Bench;
use crate::work::Work;

const IDLE: usize = 1000;

/// Measures the row.
pub fn run(name: &'static str, seconds: f64) {
    let (alone, many) = (Bench::start(How::Spin), Bench::start(How::Many));
    let row = Row { name, at_most: 1.2, core_below: 0.0, near_below: 350.0 };
    let measure = |bench: &Bench, time| Work::Pod.calling(&bench.client, |call| chunk(call, 1, time));
    let mut tally = Tally::new(row);
    tally.measure(seconds, &mut || measure(&many, CHUNK), &mut || measure(&alone, LIMIT_CHUNK).p50, None);
    tally.print();
}

/// Serves one channel among [`IDLE`] others, whose clients do nothing.
pub fn serve(server: Server, handle: impl Fn(Call<'_>)) {
    let mut set = ServerSet::new().unwrap();
    let control = set.control();
    let answer = || |call: Call<'_>| handle(call);
    let mut clients = Vec::new();
    for _ in 0..IDLE {
        let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
        clients.push(Client::new(caller));
        assert!(control.add(Server::new(callee), answer()).is_ok());
    }
    assert!(control.add(server, answer()).is_ok());
    set.serve().unwrap();
}
