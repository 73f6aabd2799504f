//! One thread that serves many channels: every call is answered, in turn, and every channel's end is told.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shm_rpc::{
    Call, CallError, CallOptions, Client, Deadline, End, Ended, Geometry, Pod, Serve, ServeError, Served, Server,
    ServerControl, ServerSet, SetControl,
};

fn soon() -> CallOptions {
    CallOptions::with_deadline(Deadline::after(Duration::from_secs(20)))
}

fn pair() -> (Client, Server) {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    (Client::new(caller), Server::new(callee))
}

/// Answers with twice the number, and tells its channel's end.
struct Double {
    channel: usize,
    calls: Sender<usize>,
    ends: Sender<(usize, Result<Served, ServeError>)>,
}

impl Serve for Double {
    fn call(&mut self, call: Call<'_>) {
        let _ = self.calls.send(self.channel);
        match call.pod::<u64>() {
            Ok(0) => panic!("as asked for"),
            Ok(number) => call.reply(Pod(&(2 * number))),
            Err(error) => call.fail(&error),
        }
    }

    fn ended(self, outcome: Result<Served, ServeError>) {
        let _ = self.ends.send((self.channel, outcome));
    }
}

struct Many {
    set: ServerSet<Double>,
    control: SetControl<Double>,
    clients: Vec<Client>,
    servers: Vec<ServerControl>,
    calls: Receiver<usize>,
    ends: Receiver<(usize, Result<Served, ServeError>)>,
}

fn many(channels: usize) -> Many {
    let set = ServerSet::new().unwrap();
    let control = set.control();
    let (calls, calls_seen) = channel();
    let (ends, ends_seen) = channel();
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for channel in 0..channels {
        let (client, server) = pair();
        clients.push(client);
        servers.push(server.control());
        assert!(control.add(server, Double { channel, calls: calls.clone(), ends: ends.clone() }).is_ok());
    }
    Many { set, control, clients, servers, calls: calls_seen, ends: ends_seen }
}

fn double(client: &Client, number: u64) -> Result<u64, CallError> {
    Ok(client.call(0, &soon(), Pod(&number))?.pod().unwrap())
}

#[test]
fn every_channel_is_served_awake_or_asleep() {
    let Many { mut set, control, clients, ends, .. } = many(100);
    let thread = std::thread::spawn(move || set.serve().unwrap());
    // One after the other: each has been asleep for the time of a hundred calls.
    for round in 1..20 {
        for (index, client) in clients.iter().enumerate() {
            assert_eq!(double(client, round + index as u64), Ok(2 * (round + index as u64)));
        }
    }
    // All at once.
    let threads: Vec<_> = clients
        .iter()
        .take(8)
        .map(|client| {
            let client = client.clone();
            std::thread::spawn(move || (1..5000).for_each(|it| assert_eq!(double(&client, it), Ok(2 * it))))
        })
        .collect();
    threads.into_iter().for_each(|it| it.join().unwrap());
    control.close();
    thread.join().unwrap();
    let mut ended: Vec<_> = ends.iter().take(100).map(|(channel, outcome)| (channel, outcome.unwrap())).collect();
    ended.sort_by_key(|it| it.0);
    for (channel, served) in ended {
        assert_eq!(served, Served { served: if channel < 8 { 19 + 4999 } else { 19 }, ended: Ended::Closed });
        assert_eq!(double(&clients[channel], 1), Err(CallError::Draining));
    }
    let (_, server) = pair();
    let late = Double { channel: 100, calls: channel().0, ends: channel().0 };
    assert!(control.add(server, late).is_err(), "a closed set took a channel");
}

#[test]
fn a_full_ring_waits_its_turn() {
    let Many { mut set, control, clients, calls, .. } = many(3);
    let pending: Vec<_> = clients
        .iter()
        .flat_map(|client| (0..60).map(|_| client.start(0, &soon(), Pod(&1_u64)).unwrap()).collect::<Vec<_>>())
        .collect();
    let thread = std::thread::spawn(move || set.serve().unwrap());
    for call in pending {
        call.wait().unwrap();
    }
    control.close();
    thread.join().unwrap();
    let served: Vec<usize> = calls.iter().collect();
    assert_eq!(served.len(), 180);
    // While the others have calls waiting, none gets more than a turn of 16.
    for turn in served[..144].chunks(48) {
        for channel in 0..3 {
            assert_eq!(turn.iter().filter(|it| **it == channel).count(), 16, "{served:?}");
        }
    }
}

#[test]
fn each_end_is_told_and_the_others_go_on() {
    let Many { mut set, control, mut clients, servers, ends, .. } = many(5);
    let thread = std::thread::spawn(move || set.serve().unwrap());
    let end = |expected: usize, ended: Ended| {
        let (channel, outcome) = ends.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((channel, outcome.unwrap().ended), (expected, ended));
    };
    for client in &clients {
        assert!(matches!(double(client, 0), Err(CallError::Internal(_))), "a panic is answered");
    }
    clients[0].close();
    end(0, Ended::CallerDone);
    // The end of its socket is the end of the caller.
    let gone = clients.remove(1);
    let released = gone.released();
    drop(gone);
    assert!(released.wait(soon().deadline));
    end(1, Ended::CallerGone);
    servers[2].close();
    end(2, Ended::Closed);
    servers[3].peer_gone();
    end(3, Ended::CallerGone);
    assert_eq!(double(clients.last().unwrap(), 21), Ok(42));
    // A place that has become free is used again.
    let (client, server) = pair();
    let (calls, seen) = channel();
    let (tell, told) = channel();
    assert!(control.add(server, Double { channel: 5, calls, ends: tell }).is_ok());
    assert_eq!(double(&client, 4), Ok(8));
    assert_eq!(seen.recv(), Ok(5));
    assert_eq!(double(&client, 5), Ok(10));
    control.close();
    thread.join().unwrap();
    end(4, Ended::Closed);
    assert_eq!(told.recv().unwrap().1.unwrap(), Served { served: 2, ended: Ended::Closed });
}

/// Keeps its calls for somebody else.
struct Keep(Arc<Mutex<Vec<Call<'static>>>>, Sender<Served>);

impl Serve for Keep {
    fn call(&mut self, call: Call<'_>) {
        self.0.lock().unwrap().push(call.detach());
    }

    fn ended(self, outcome: Result<Served, ServeError>) {
        self.1.send(outcome.unwrap()).unwrap();
    }
}

#[test]
fn a_closed_channel_ends_with_its_last_answer() {
    let mut set = ServerSet::new().unwrap();
    let control = set.control();
    let (client, server) = pair();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let (tell, told) = channel();
    let one = server.control();
    assert!(control.add(server, Keep(Arc::clone(&kept), tell)).is_ok());
    let thread = std::thread::spawn(move || set.serve().unwrap());
    let pending: Vec<_> = (0..3).map(|it| client.start(it, &soon(), ()).unwrap()).collect();
    one.close();
    // It is closed as soon as a call is refused. Those that come before are given up, and answered.
    let answer_from = |first: usize| {
        let mut kept = kept.lock().unwrap();
        let first = first.min(kept.len());
        kept.drain(first..).for_each(|call| {
            let method = call.method();
            call.reply(Pod(&method));
        });
    };
    loop {
        match client.start(9, &soon(), ()) {
            Err(CallError::Draining) => break,
            Ok(pending) => drop(pending),
            Err(error) => assert!(matches!(error, CallError::Overloaded { .. }), "{error}"),
        }
        answer_from(3);
    }
    control.close();
    assert!(told.try_recv().is_err(), "it ended with calls in other hands");
    // The set may be slow: a call that it takes only now has to be answered, too.
    let ended = loop {
        match told.recv_timeout(Duration::from_millis(1)) {
            Ok(served) => break served.ended,
            Err(_) => answer_from(0),
        }
    };
    assert_eq!(ended, Ended::Closed);
    for (method, pending) in (0..3_u32).zip(pending) {
        assert_eq!(pending.wait().unwrap().pod::<u32>(), Ok(method));
    }
    thread.join().unwrap();
}
