//! Calls between threads and tasks of one process: every way to send, to answer and to wait.

mod thread;

use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shm_rpc::{
    Call, CallError, CallOptions, Client, Deadline, Encoded, Encoding, End, Ended, Geometry, Pod, Served, Server,
    Started, Tags, Trace,
};
use thread::{channel, echo, soon};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Debug, PartialEq, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Point {
    x: u64,
    y: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    name: String,
    items: Vec<u32>,
    #[serde(default)]
    note: Option<String>,
}

#[test]
fn every_length_arrives_whole() {
    let (client, control, thread) = channel(echo);
    let bytes: Vec<u8> = (0..100_000_u32).map(|it| (it * 7 / 8) as u8).collect();
    for len in (0..130).chain([1000, 4096, 65_537, 100_000]) {
        for options in [CallOptions::NONE, soon()] {
            let reply = client.call(1, &options, &bytes[..len]).unwrap();
            assert_eq!(reply.view().to_vec(), bytes[..len]);
            let mut part = [0; 50];
            let count = reply.view().copy_to(len / 2, &mut part);
            assert_eq!(part[..count], bytes[len / 2..][..count]);
            assert_eq!(count, 50.min(len - len / 2));
            assert_eq!(reply.view().copy_to(len + 1, &mut part), 0);
        }
    }
    assert_eq!((client.outstanding(), client.finished()), (0, 2 * 134));
    control.close();
    assert_eq!(thread.join().unwrap(), Served { served: 2 * 134, ended: Ended::Closed });
}

#[test]
fn plain_old_data_and_serde_values_go_both_ways() {
    let (client, control, thread) = channel(|call| match call.method() {
        1 => match call.pod::<Point>() {
            Ok(Point { x, y }) => call.reply(Pod(&Point { x: y, y: x })),
            Err(error) => call.fail(&error),
        },
        2 => match call.decode::<Order>() {
            Ok(order) if order.items.is_empty() => call.fault(Encoded(Encoding::ByName, &order.name)),
            Ok(order) => call.reply(Encoded(Encoding::Positional, &order)),
            Err(error) => call.fail(&error),
        },
        _ => call.fail(&CallError::NoService),
    });
    let point: Point = client.call(1, &soon(), Pod(&Point { x: 1, y: 2 })).unwrap().pod().unwrap();
    assert_eq!(point, Point { x: 2, y: 1 });
    for items in [1, 10, 10_000] {
        let order = Order { id: 7, name: "seven".into(), items: (0..items).collect(), note: None };
        for encoding in [Encoding::Positional, Encoding::ByName] {
            let reply = client.call(2, &soon(), Encoded(encoding, &order)).unwrap();
            assert_eq!(reply.decode::<Order, String>().unwrap().unwrap(), order);
        }
    }
    let empty = Order { id: 7, name: "nothing".into(), items: vec![], note: None };
    let reply = client.call(2, &soon(), Encoded(Encoding::Positional, &empty)).unwrap();
    assert!(reply.is_fault());
    assert_eq!(reply.decode::<Order, String>().unwrap(), Err("nothing".to_string()));
    assert!(matches!(reply.pod::<Point>(), Err(CallError::Internal(_))));
    assert_eq!(client.call(3, &soon(), ()).unwrap_err(), CallError::NoService);
    assert!(matches!(client.call(1, &soon(), &b"short"[..]).unwrap_err(), CallError::Invalid(_)));
    assert!(matches!(client.call(2, &soon(), &b"\xc1"[..]).unwrap_err(), CallError::Invalid(_)));
    control.close();
    thread.join().unwrap();
}

#[test]
fn every_error_survives_the_way_back() {
    let errors = [
        CallError::Invalid("x".repeat(100)),
        CallError::TooLarge { len: 5, limit: 4 },
        CallError::NoService,
        CallError::Denied,
        CallError::NotStarted,
        CallError::Draining,
        CallError::MaybeExecuted,
        CallError::Deadline { started: true },
        CallError::Deadline { started: false },
        CallError::Cancelled { started: true },
        CallError::Overloaded { retry_after: Duration::from_millis(1500) },
        CallError::Internal("ä".repeat(30)),
    ];
    let sent = errors.clone();
    let (client, control, thread) = channel(move |call| {
        let error = &sent[call.method() as usize];
        call.fail(error);
    });
    for (method, error) in errors.iter().enumerate() {
        assert_eq!(client.call(method as u32, &soon(), ()).unwrap_err(), *error);
    }
    control.close();
    thread.join().unwrap();
}

#[test]
fn trace_tags_mark_and_deadline_reach_the_handler() {
    let (send, receive) = mpsc::channel();
    let (client, control, thread) = channel(move |call| {
        send.send(call.options()).unwrap();
        call.reply(());
    });
    let trace = Trace { trace_id: [3; 16], span_id: [4; 8], flags: 1 };
    for tags in [&b""[..], b"canary", &[9; Tags::MAX]] {
        for trace in [None, Some(trace)] {
            for deadline in [None, soon().deadline] {
                for shadow in [false, true] {
                    let options = CallOptions { deadline, trace, tags: Tags::new(tags).unwrap(), shadow };
                    client.call(0, &options, &[1; 40][..]).unwrap();
                    assert_eq!(receive.recv().unwrap(), options);
                }
            }
        }
    }
    control.close();
    thread.join().unwrap();
}

#[test]
fn loans_are_filled_in_place_and_come_back() {
    let (client, control, thread) = channel(|call| {
        let mut loan = call.loan(call.view().len()).unwrap();
        call.view().copy_to(0, &mut loan);
        loan.reverse();
        call.reply(loan);
    });
    let arena = Geometry::DEFAULT.arena() as usize;
    for round in 0..20_u8 {
        let mut loan = client.loan(arena).unwrap();
        loan.fill(round);
        loan[0] = 255;
        let reply = client.call(0, &soon(), loan).unwrap();
        let bytes = reply.view().to_vec();
        assert_eq!((bytes.len(), bytes[0], bytes[arena - 1]), (arena, round, 255));
    }
    let held = client.loan(arena).unwrap();
    assert!(matches!(client.loan(1), Err(CallError::Overloaded { .. })));
    assert!(matches!(client.loan(arena + 1), Err(CallError::TooLarge { .. })));
    drop(held);
    assert!(client.loan(1).is_ok());
    control.close();
    thread.join().unwrap();
}

#[test]
fn a_reply_that_is_held_keeps_its_payload_while_others_come_and_go() {
    let (client, control, thread) = channel(echo);
    let first = client.call(0, &soon(), &[1; 1000][..]).unwrap();
    for round in 0..300_u32 {
        let reply = client.call(0, &soon(), &[round as u8; 5000][..]).unwrap();
        assert!(reply.view().to_vec().iter().all(|it| *it == round as u8));
    }
    assert_eq!(first.view().to_vec(), [1; 1000]);
    control.close();
    thread.join().unwrap();
}

#[test]
fn many_threads_and_pending_calls_share_a_channel() {
    let (client, control, thread) = channel(echo);
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..500_u64 {
                    let mut pending = Vec::new();
                    for window in 0..8_u64 {
                        let text = [worker, round, window];
                        pending.push((text, client.start(0, &soon(), Pod(&text)).unwrap()));
                    }
                    for (text, pending) in pending.into_iter().rev() {
                        assert_eq!(pending.wait().unwrap().pod::<[u64; 3]>().unwrap(), text);
                    }
                }
            });
        }
    });
    assert!(client.wait_idle(soon().deadline));
    control.close();
    assert_eq!(thread.join().unwrap().served, 4 * 500 * 8);
}

#[test]
fn a_full_window_is_overloaded_at_once() {
    let (gate, wait) = mpsc::channel::<()>();
    let (client, control, thread) = channel(move |call| {
        let _ = wait.recv();
        call.reply(());
    });
    let mut pending = Vec::new();
    let error = loop {
        match client.start(0, &soon(), ()) {
            Ok(call) => pending.push(call),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CallError::Overloaded { .. }) && error.started() == Started::No);
    assert_eq!(pending.len(), 63);
    drop(gate);
    for call in pending {
        call.wait().unwrap();
    }
    control.close();
    assert_eq!(thread.join().unwrap().served, 63);
}

#[test]
fn calls_are_answered_later_and_out_of_order_from_other_threads() {
    let (send, receive) = mpsc::channel::<Call<'static>>();
    let (client, control, thread) = channel(move |call| send.send(call.detach()).unwrap());
    let pending: Vec<_> = (0..10).map(|it| client.start(it, &soon(), ()).unwrap()).collect();
    let calls: Vec<_> = (0..10).map(|_| receive.recv().unwrap()).collect();
    control.close();
    for call in calls.into_iter().rev() {
        let method = call.method();
        call.reply(Pod(&method));
    }
    for (method, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.wait().unwrap().pod::<u32>().unwrap() as usize, method);
    }
    assert_eq!(thread.join().unwrap(), Served { served: 10, ended: Ended::Closed });
}

#[test]
fn an_expired_call_never_starts() {
    let (client, control, thread) = channel(|call| panic!("started: {call:?}"));
    let past = CallOptions::with_deadline(Deadline::from_nanos(1));
    let pending = client.start(0, &past, ()).unwrap();
    // The callee decides: a caller that gave up before it had answered would rightly say that it had taken the request.
    assert!(client.wait_idle(soon().deadline));
    assert_eq!(pending.wait().unwrap_err(), CallError::Deadline { started: false });
    control.close();
    assert_eq!(thread.join().unwrap().served, 1);
}

#[test]
fn a_deadline_that_passes_meanwhile_says_that_the_call_had_started() {
    let (send, receive) = mpsc::channel::<Call<'static>>();
    let (client, control, thread) = channel(move |call| send.send(call.detach()).unwrap());
    let options = CallOptions::with_deadline(Deadline::after(Duration::from_millis(30)));
    let error = client.call(0, &options, &[7; 500][..]).unwrap_err();
    let call = receive.recv().unwrap();
    assert_eq!(error, CallError::Deadline { started: true });
    assert_eq!((client.outstanding(), call.view().to_vec()), (1, vec![7; 500]), "in quarantine until it is answered");
    control.close();
    drop(call);
    assert!(client.wait_idle(soon().deadline));
    thread.join().unwrap();
}

#[test]
fn a_dropped_call_is_cancelled_at_the_callee() {
    let (send, receive) = mpsc::channel::<Call<'static>>();
    let (client, control, thread) = channel(move |call| match call.method() {
        0 => send.send(call.detach()).unwrap(),
        _ => call.reply(()),
    });
    let pending = client.start(0, &soon(), ()).unwrap();
    let call = receive.recv().unwrap();
    assert!(!call.is_cancelled());
    drop(pending);
    client.call(1, &soon(), ()).unwrap();
    assert!(call.is_cancelled());
    call.reply(());
    assert!(client.wait_idle(soon().deadline));
    control.close();
    assert_eq!(thread.join().unwrap().served, 2);
}

#[test]
fn a_handler_that_panics_or_forgets_answers_internal() {
    let (client, control, thread) = channel(|call| {
        if call.method() == 0 {
            drop(call);
        } else {
            std::panic::resume_unwind(Box::new("without the hook"));
        }
    });
    for method in 0..2 {
        assert!(matches!(client.call(method, &soon(), ()).unwrap_err(), CallError::Internal(_)));
    }
    control.close();
    assert_eq!(thread.join().unwrap().served, 2);
}

#[test]
fn close_is_where_serving_ends_and_calls_after_it_never_start() {
    for _ in 0..50 {
        let (client, control, thread) = channel(echo);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || {
                    let mut answered = 0;
                    loop {
                        match client.call(0, &soon(), ()) {
                            Ok(_) => answered += 1,
                            Err(error) => break (answered, error),
                        }
                    }
                })
            })
            .collect();
        while control.served() < 20 {
            std::thread::yield_now();
        }
        control.close();
        let served = thread.join().unwrap();
        let mut answered = 0;
        for caller in callers {
            let (count, error) = caller.join().unwrap();
            assert_eq!(error, CallError::Draining);
            answered += count;
        }
        assert_eq!((served.served, served.ended), (answered, Ended::Closed));
        assert!(!client.is_open());
    }
}

#[test]
fn a_caller_that_closes_ends_the_server() {
    let (client, control, thread) = channel(echo);
    client.call(0, &soon(), ()).unwrap();
    client.close();
    assert_eq!(client.call(0, &soon(), ()).unwrap_err(), CallError::Draining);
    assert_eq!(thread.join().unwrap(), Served { served: 1, ended: Ended::CallerDone });
    let (ours, theirs) = (client.released(), control.released());
    drop(control);
    assert!(theirs.wait(soon().deadline));
    assert!(!ours.wait(Some(Deadline::from_nanos(0))));
    drop(client);
    assert!(ours.wait(soon().deadline));
}

#[test]
fn a_callee_that_is_gone_decides_every_fate() {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let client = Client::new(caller);
    let mut server = Server::new(callee);
    let control = server.control();
    let (send, receive) = mpsc::channel::<Call<'static>>();
    let thread = std::thread::spawn(move || {
        let mut calls = 0;
        server.serve(|call| {
            calls += 1;
            match calls {
                1 => call.reply(()),
                _ => send.send(call.detach()).unwrap(),
            }
        })
    });
    let first = client.start(0, &CallOptions::NONE, ()).unwrap();
    let second = client.start(0, &CallOptions::NONE, ()).unwrap();
    let call = receive.recv().unwrap();
    control.peer_gone();
    assert_eq!(thread.join().unwrap().unwrap().ended, Ended::CallerGone);
    // Nobody serves any more.
    let third = client.start(0, &CallOptions::NONE, ()).unwrap();
    client.peer_gone();
    assert!(first.wait().is_ok());
    assert_eq!(second.wait().unwrap_err(), CallError::MaybeExecuted);
    assert_eq!(third.wait().unwrap_err(), CallError::NotStarted);
    assert_eq!(client.call(0, &CallOptions::NONE, ()).unwrap_err(), CallError::NotStarted);
    drop(call);
}

#[test]
fn the_end_of_the_wake_socket_is_noticed_by_a_waiting_thread() {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let client = Client::new(caller);
    let pending = client.start(0, &CallOptions::NONE, ()).unwrap();
    drop(callee);
    assert_eq!(pending.wait().unwrap_err(), CallError::NotStarted);
}

/// Whether a thread of this process sleeps on a futex that other processes may share: on a ring, not on a lock.
fn sleeps_on_a_ring(thread: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap();
    let mut words = text.split_whitespace();
    let (call, operation) = (words.next().unwrap(), words.nth(1).unwrap_or_default());
    let operation = i32::from_str_radix(operation.trim_start_matches("0x"), 16);
    call == nix::libc::SYS_futex.to_string() && operation.is_ok_and(|it| it & nix::libc::FUTEX_PRIVATE_FLAG == 0)
}

#[test]
fn whoever_sleeps_for_an_answer_is_awake_once_the_callee_is_said_to_be_gone() {
    for _ in 0..20 {
        let (caller, _callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
        let client = Client::new(caller);
        let (send, receive) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let sleeper = std::thread::spawn({
            let client = client.clone();
            move || {
                send.send(nix::unistd::gettid().as_raw()).unwrap();
                let outcome = client.call(0, &CallOptions::NONE, ());
                // It is there to be looked at.
                while gone.try_recv().is_err() {
                    std::hint::spin_loop();
                }
                outcome
            }
        });
        let thread = receive.recv().unwrap();
        while !sleeps_on_a_ring(thread) {
            std::thread::yield_now();
        }
        client.peer_gone();
        let asleep = sleeps_on_a_ring(thread);
        go.send(()).unwrap();
        assert_eq!(sleeper.join().unwrap().unwrap_err(), CallError::NotStarted);
        assert!(!asleep);
    }
}
