//! Blobs as messages: each arrives with its own call, whoever else uses the channel, and is read in place for as long as anybody
//! likes.
#![cfg(feature = "tokio")]

use std::thread;
use std::time::{Duration, Instant};

use shm_rpc::{
    Blob, BlobDraft, Call, CallError, CallOptions, Client, Deadline, Encoded, Encoding, End, Frozen, Geometry, Server,
};

const NONE: CallOptions = CallOptions::NONE;

/// A blob that says which it is.
fn numbered(number: u32, len: usize) -> Blob {
    let mut draft = BlobDraft::new(len).unwrap();
    draft.fill(number as u8);
    draft[..4].copy_from_slice(&number.to_le_bytes());
    draft.freeze().unwrap()
}

fn number_of(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    assert!(bytes[4..].iter().all(|it| *it == number as u8), "the bytes of another blob");
    number
}

/// Answers a blob of number n by one of n + 1, and bytes by the same bytes.
fn answer(call: Call<'_>) {
    match call.view().frozen().cloned() {
        Some(blob) => {
            let blob = numbered(number_of(&blob) + 1, 5000);
            call.reply(&blob);
        }
        None => {
            let bytes = call.view().to_vec();
            call.reply(&bytes[..]);
        }
    }
}

fn serving<R>(serve: impl FnMut(Call<'_>) + Send + 'static, use_it: impl FnOnce(&Client) -> R) -> R {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let mut server = Server::new(callee);
    let control = server.control();
    let thread = thread::spawn(move || server.serve(serve));
    let client = Client::new(caller);
    let result = use_it(&client);
    assert_eq!(client.violation(), None);
    drop(client);
    control.close();
    thread.join().unwrap().unwrap();
    result
}

#[test]
fn blobs_go_there_and_back() {
    let kept: Vec<(u32, Frozen)> = serving(answer, |client| {
        let mut kept = Vec::new();
        for number in 0..300 {
            let reply = client.call(1, &NONE, &numbered(number, 10_000)).unwrap();
            let view = reply.view();
            assert_eq!((view.len(), number_of(view.as_slice().unwrap())), (5000, number + 1));
            kept.push((number + 1, view.frozen().unwrap().clone()));
            let reply = client.call(1, &NONE, &number.to_le_bytes()[..]).unwrap();
            assert_eq!(reply.view().as_slice(), Some(&number.to_le_bytes()[..]));
            assert!(reply.view().frozen().is_none());
        }
        kept
    });
    // The channel is gone, its blobs are not.
    assert!(kept.iter().all(|(number, blob)| number_of(blob) == *number));
}

#[test]
fn the_views_of_a_blob_agree() {
    let bytes: Vec<u8> = (0..1000_u32).map(|it| it as u8).collect();
    let blob = Blob::copy_of(&bytes).unwrap();
    let sum = |call: Call<'_>| {
        let view = call.view();
        let bytes = view.as_slice().unwrap();
        assert_eq!(view.to_vec(), bytes);
        let mut part = [0; 10];
        assert_eq!((view.copy_to(995, &mut part), &part[..5]), (5, &bytes[995..]));
        let sum = view.fold(0_u64, |sum, block| block.iter().fold(sum, |sum, it| sum.wrapping_add(*it)));
        let expected = bytes.chunks(8).map(|it| {
            let mut word = [0; 8];
            word[..it.len()].copy_from_slice(it);
            u64::from_le_bytes(word)
        });
        assert_eq!(sum, expected.fold(0, u64::wrapping_add));
        let file = std::fs::File::create("/dev/null").unwrap();
        assert_eq!(view.write_to(10, &file).unwrap(), bytes.len() - 10);
        assert!(call.decode::<String>().is_err());
        call.reply(Encoded(Encoding::Positional, &"the end"));
    };
    serving(sum, |client| {
        assert_eq!(client.call(1, &NONE, &blob).unwrap().decode::<String, ()>().unwrap(), Ok("the end".to_owned()));
    });
    let text = "a long text ".repeat(100);
    let encoded = rmp_serde::to_vec(&text).unwrap();
    let length = |call: Call<'_>| {
        let text: String = call.decode().unwrap();
        call.reply(&text.len().to_le_bytes()[..]);
    };
    serving(length, |client| {
        let reply = client.call(1, &NONE, &Blob::copy_of(&encoded).unwrap()).unwrap();
        assert_eq!(reply.pod::<usize>().unwrap(), text.len());
    });
}

#[test]
fn an_empty_blob_is_an_empty_message() {
    let blob = Blob::copy_of(&[]).unwrap();
    assert!(blob.is_empty() && blob.frozen().is_empty());
    serving(answer, |client| assert_eq!(client.call(1, &NONE, &blob).unwrap().view().as_slice(), Some(&[][..])));
}

#[test]
fn a_blob_that_more_is_written_behind_is_bytes_like_others() {
    let blob = numbered(3, 200);
    serving(answer, |client| {
        let write = shm_rpc::With(|out: &mut shm_rpc::Writer<'_>| {
            shm_rpc::Payload::write(&blob, out)?;
            out.put(b"and more")
        });
        let reply = client.call(1, &NONE, write).unwrap();
        assert_eq!(reply.view().to_vec(), [&blob[..], b"and more"].concat());
    });
}

/// The callee may not have looked yet at the cancellations from before: they are in the ring until it has.
fn when_there_is_room<T>(start: impl Fn() -> Result<T, CallError>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match start() {
            Err(CallError::Overloaded { .. }) if Instant::now() < until => std::thread::yield_now(),
            started => return started.unwrap(),
        }
    }
}

#[test]
fn each_of_many_calls_under_way_has_its_own_blob() {
    serving(answer, |client| {
        for round in 0..20 {
            let mut under_way = Vec::new();
            for number in 0..60_u32 {
                // Every third carries bytes, and every seventh is given up.
                let blob = numbered(number, 4096 * (round + 1));
                let start = || match number % 3 {
                    0 => client.start(1, &NONE, &number.to_le_bytes()[..]),
                    _ => client.start(1, &NONE, &blob),
                };
                under_way.push((number, when_there_is_room(start)));
            }
            for (number, call) in under_way {
                match number % 7 {
                    6 => drop(call),
                    _ if number % 3 == 0 => assert_eq!(call.wait().unwrap().pod::<u32>().unwrap(), number),
                    _ => assert_eq!(number_of(call.wait().unwrap().view().as_slice().unwrap()), number + 1),
                }
            }
            assert!(client.wait_idle(None));
        }
    });
}

#[test]
fn answers_out_of_order_from_other_threads_have_their_own_blobs() {
    let detach = |call: Call<'_>| {
        let call = call.detach();
        thread::spawn(move || answer(call));
    };
    serving(detach, |client| {
        thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for turn in 0..100 {
                        let number = thread * 1000 + turn;
                        let reply = client.call(1, &NONE, &numbered(number, 100)).unwrap();
                        assert_eq!(number_of(reply.view().as_slice().unwrap()), number + 1);
                    }
                });
            }
        });
    });
}

#[test]
fn a_call_that_came_too_late_takes_its_blob_with_it() {
    serving(answer, |client| {
        let over = CallOptions::with_deadline(Deadline::from_nanos(1));
        for number in 0..20 {
            let late = client.call(1, &over, &numbered(500, 4096)).unwrap_err();
            assert!(matches!(late, CallError::Deadline { .. }));
            let reply = client.call(1, &NONE, &numbered(number, 4096)).unwrap();
            assert_eq!(number_of(reply.view().as_slice().unwrap()), number + 1);
        }
    });
}

/// Tasks sleep on the bell, over which the way for blobs comes; threads find blobs' messages beside them and look for the way there.
#[test]
fn threads_and_tasks_on_one_end_miss_no_ring() {
    for _ in 0..50 {
        let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
        let client = Client::new(caller);
        let mut server = Server::new(callee);
        let serving = thread::spawn(move || {
            runtime().block_on(server.serve_async(|call| async move { answer(call) })).unwrap();
        });
        let tasks = client.clone();
        let tasks = thread::spawn(move || {
            runtime().block_on(async {
                tokio::join!(of_a_task(&tasks, 100), of_a_task(&tasks, 200), of_a_task(&tasks, 300));
            });
        });
        for number in 0..20 {
            let reply = client.call(1, &NONE, &numbered(number, 64)).unwrap();
            assert_eq!(number_of(reply.view().as_slice().unwrap()), number + 1);
        }
        tasks.join().unwrap();
        drop(client);
        serving.join().unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn of_a_task(client: &Client, first: u32) {
    for number in first..first + 20 {
        let options = CallOptions::with_deadline(Deadline::after(Duration::from_secs(20)));
        if number % 2 == 0 {
            let reply = client.call_async(1, &options, &number.to_le_bytes()[..]).await.unwrap();
            assert_eq!(reply.pod::<u32>().unwrap(), number);
        } else {
            let reply = client.call_async(1, &options, &numbered(number, 64)).await.unwrap();
            assert_eq!(number_of(reply.view().as_slice().unwrap()), number + 1);
        }
    }
}
