//! Calls of one thread in a row, and what the others find meanwhile.

mod thread;

use std::sync::mpsc;
use std::time::Duration;

use shm_rpc::{Call, CallError, Client, Encoded, Encoding, End, Geometry, Patience, Pod, Server, With};
use thread::{channel, echo, soon};
use tokio::time::timeout;

/// Nothing that is waited for takes this long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn answers_come_in_the_order_of_the_calls() {
    let (client, control, thread) = channel(echo);
    let mut session = client.session();
    let mut sent = 0..3000_u64;
    let mut expected = 0;
    loop {
        while session.started() < 60
            && let Some(number) = sent.next()
        {
            session.start(1, &soon(), Pod(&number)).unwrap();
        }
        // A call between them overtakes nobody.
        if expected % 100 == 0 {
            assert_eq!(session.call(1, &soon(), &b"between"[..]).unwrap().view().to_vec(), b"between");
        }
        let Some(answer) = session.next() else { break };
        assert_eq!(answer.unwrap().pod::<u64>().unwrap(), expected);
        expected += 1;
    }
    assert_eq!(expected, 3000);
    drop(session);
    assert_eq!(client.outstanding(), 0);
    control.close();
    assert_eq!(thread.join().unwrap().served, 3031);
}

#[test]
fn an_answers_payload_is_the_callees_again_with_the_next_call() {
    let (client, control, thread) = channel(echo);
    let large = vec![7; 50_000];
    let mut session = client.session();
    // The arena holds one of these at a time beside the one that is being read.
    for _ in 0..200 {
        assert_eq!(session.call(1, &soon(), &large[..]).unwrap().view().to_vec(), large);
    }
    session.call(1, &soon(), &large[..]).unwrap();
    let kept = session.take_reply();
    assert_eq!(session.call(1, &soon(), ()).unwrap().view().len(), 0);
    assert_eq!(kept.view().to_vec(), large);
    assert!(session.take_reply().view().is_empty());
    drop(session);
    control.close();
    thread.join().unwrap();
}

#[test]
fn an_error_leaves_nothing_to_be_read() {
    let (client, control, thread) = channel(|call| match call.method() {
        0 => call.fail(&CallError::Internal("x".repeat(100))),
        1 => call.fault(Pod(&5_u32)),
        _ => call.reply(Pod(&6_u32)),
    });
    let mut session = client.session();
    assert_eq!(session.call(2, &soon(), ()).unwrap().pod::<u32>().unwrap(), 6);
    assert_eq!(session.call(0, &soon(), ()).unwrap_err(), CallError::Internal("x".repeat(100)));
    assert!(session.take_reply().view().is_empty());
    assert!(session.call(1, &soon(), ()).unwrap().is_fault());
    drop(session);
    control.close();
    thread.join().unwrap();
}

#[test]
fn others_call_while_a_session_waits() {
    let (client, control, thread) = channel(echo);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut session = client.session();
                for number in 0..2000_u64 {
                    let answer = session.call(1, &soon(), Pod(&number)).unwrap().pod::<u64>();
                    assert_eq!(answer.unwrap(), number);
                }
            });
            scope.spawn(|| {
                for number in 0..2000_u64 {
                    assert_eq!(client.call(1, &soon(), Pod(&!number)).unwrap().pod::<u64>().unwrap(), !number);
                }
            });
        }
    });
    control.close();
    assert_eq!(thread.join().unwrap().served, 8000);
}

#[test]
fn a_session_that_ends_cancels_what_nobody_asked_for() {
    let (send, receive) = mpsc::channel();
    let (client, control, thread) = channel(move |call| match call.method() {
        0 => send.send(call.detach()).unwrap(),
        _ => call.reply(()),
    });
    let mut session = client.session();
    session.start(0, &soon(), ()).unwrap();
    session.flush();
    let call = receive.recv().unwrap();
    drop(session);
    client.call(1, &soon(), ()).unwrap();
    assert!(call.is_cancelled());
    call.reply(());
    assert!(client.wait_idle(soon().deadline));
    control.close();
    assert_eq!(thread.join().unwrap().served, 2);
}

/// The answers' ring goes back and forth between the loop and those who answer elsewhere.
#[test]
fn answers_from_the_loop_and_from_elsewhere_take_turns() {
    let (send, receive) = mpsc::channel::<Call<'static>>();
    let elsewhere = std::thread::spawn(move || {
        for call in receive {
            let number: u64 = call.pod().unwrap();
            call.reply(Pod(&number));
        }
    });
    let (client, control, thread) = channel(move |call| {
        let number: u64 = call.pod().unwrap();
        // Long stretches of either kind, and quick changes.
        if (number / 100 + number % 3).is_multiple_of(2) {
            send.send(call.detach()).unwrap()
        } else {
            call.reply(Pod(&number))
        }
    });
    let mut session = client.session();
    for number in 0..6000_u64 {
        session.start(1, &soon(), Pod(&number)).unwrap();
        if session.started() > 40 {
            assert_eq!(session.next().unwrap().unwrap().pod::<u64>().unwrap(), number - 40);
        }
    }
    while let Some(answer) = session.next() {
        answer.unwrap();
    }
    drop(session);
    control.close();
    assert_eq!(thread.join().unwrap().served, 6000);
    elsewhere.join().unwrap();
}

/// The callee leaves its fence to the caller while there are further calls, and may then be busy with the next for long: nobody
/// may sleep through the first answer. A task, because it has no timer that would help it out.
#[tokio::test]
async fn an_answer_wakes_although_the_next_call_keeps_the_callee() {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let client = Client::with_patience(caller, Patience::Park);
    // Dropped before the client, so that a failure does not leave the callee waiting.
    let (go, may_go) = mpsc::channel();
    let mut server = Server::with_patience(callee, Patience::Park);
    let thread = std::thread::spawn(move || {
        let kept = |call: Call<'_>| {
            if may_go.recv().is_ok() {
                call.reply(());
            }
        };
        server.serve(kept).unwrap()
    });
    for round in 0..500 {
        let (first, next) = (client.start(0, &soon(), ()).unwrap(), client.start(0, &soon(), ()).unwrap());
        // A task of its own: the end of our patience must not poll it, which would find the answer without a wake.
        let first = tokio::spawn(first);
        if round % 2 == 0 {
            // It sleeps when the callee may answer; else the sleep and the answer are a race.
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        timeout(PATIENCE, first).await.expect("nobody sleeps through it").unwrap().unwrap();
        go.send(()).unwrap();
        next.await.unwrap();
    }
    client.close();
    client.idle().await.unwrap();
    thread.join().unwrap();
}

#[test]
fn an_answer_whose_encoding_panics_is_internal() {
    let (client, control, thread) = channel(|call| {
        if call.method() == 0 {
            call.reply(With(|_: &mut shm_rpc::Writer<'_>| std::panic::resume_unwind(Box::new("without the hook"))));
        } else {
            call.reply(Encoded(Encoding::Positional, &1_u8));
        }
    });
    let mut session = client.session();
    assert!(matches!(session.call(0, &soon(), ()).unwrap_err(), CallError::Internal(_)));
    assert_eq!(session.call(1, &soon(), ()).unwrap().decode::<u8, ()>().unwrap(), Ok(1));
    drop(session);
    control.close();
    assert_eq!(thread.join().unwrap().served, 2);
}
