//! Calls between tokio tasks, and between tasks and threads.
#![cfg(feature = "tokio")]

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use shm_rpc::{
    Call, CallError, CallOptions, Client, Deadline, End, Ended, Geometry, Pod, ServeError, Served, Server,
    ServerControl,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet, yield_now};

fn soon() -> CallOptions {
    CallOptions::with_deadline(Deadline::after(Duration::from_secs(20)))
}

type Serving = JoinHandle<Result<Served, ServeError>>;

fn channel<F: Future<Output = ()> + Send + 'static>(
    handler: impl FnMut(Call<'static>) -> F + Send + 'static,
) -> (Client, ServerControl, Serving) {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let mut server = Server::new(callee);
    let control = server.control();
    let serving = tokio::spawn(async move { server.serve_async(handler).await });
    (Client::new(caller), control, serving)
}

async fn echo(call: Call<'static>) {
    let bytes = call.view().to_vec();
    call.reply(&bytes[..]);
}

#[tokio::test]
async fn a_task_calls_a_task() {
    let (client, control, serving) = channel(echo);
    for round in 0..1000_u32 {
        let reply = client.call_async(0, &soon(), Pod(&round)).await.unwrap();
        assert_eq!(reply.pod::<u32>().unwrap(), round);
    }
    let large = vec![7; 300_000];
    assert_eq!(client.call_async(0, &soon(), &large[..]).await.unwrap().view().to_vec(), large);
    control.close();
    assert_eq!(serving.await.unwrap().unwrap(), Served { served: 1001, ended: Ended::Closed });
    assert_eq!(client.call_async(0, &soon(), ()).await.unwrap_err(), CallError::Draining);
}

#[tokio::test]
async fn two_runtimes_sleep_and_wake_each_other() {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let mut server = Server::new(callee);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.serve_async(echo)).unwrap()
    });
    let client = Client::new(caller);
    for round in 0..2000_u32 {
        assert_eq!(client.call_async(0, &soon(), Pod(&round)).await.unwrap().pod::<u32>().unwrap(), round);
    }
    client.close();
    client.idle().await.unwrap();
    assert_eq!(thread.join().unwrap(), Served { served: 2000, ended: Ended::CallerDone });
}

#[tokio::test]
async fn tasks_and_threads_share_a_client() {
    let (client, control, serving) = channel(|call| async {
        yield_now().await;
        echo(call).await;
    });
    let thread = {
        let client = client.clone();
        tokio::task::spawn_blocking(move || {
            for round in 0..500_u32 {
                assert_eq!(client.call(0, &soon(), Pod(&round)).unwrap().pod::<u32>().unwrap(), round);
            }
        })
    };
    let tasks: Vec<_> = (0..20_u32)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for round in 0..50_u32 {
                    let message = [task, round];
                    let reply = client.call_async(0, &soon(), Pod(&message)).await.unwrap();
                    assert_eq!(reply.pod::<[u32; 2]>().unwrap(), message);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    thread.await.unwrap();
    control.close();
    assert_eq!(serving.await.unwrap().unwrap().served, 1500);
}

#[tokio::test]
async fn handlers_run_concurrently_and_answer_out_of_order() {
    let (senders, mut receiver) = mpsc::unbounded_channel::<oneshot::Sender<u32>>();
    let (client, control, serving) = channel(move |call| {
        let (send, receive) = oneshot::channel();
        senders.send(send).unwrap();
        async move {
            let number = receive.await.unwrap();
            call.reply(Pod(&number));
        }
    });
    let calls: Vec<_> = (0..5).map(|_| client.start(0, &soon(), ()).unwrap()).collect();
    let mut gates = Vec::new();
    for _ in 0..5 {
        gates.push(receiver.recv().await.unwrap());
    }
    assert_eq!(control.in_flight(), 5);
    control.close();
    for (number, gate) in gates.into_iter().enumerate().rev() {
        gate.send(number as u32).unwrap();
    }
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().pod::<u32>().unwrap(), number as u32);
    }
    assert_eq!(serving.await.unwrap().unwrap(), Served { served: 5, ended: Ended::Closed });
}

/// Counts how often it is dropped.
struct Dropped(Arc<AtomicU32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test]
async fn a_dropped_future_cancels_its_handler_and_a_deadline_does_too() {
    let count = Arc::new(AtomicU32::new(0));
    let dropped = Arc::clone(&count);
    let (started, mut starts) = mpsc::unbounded_channel();
    let (client, control, serving) = channel(move |call| {
        let guard = Dropped(Arc::clone(&dropped));
        started.send(()).unwrap();
        async move {
            let _guard = guard;
            let _call = call;
            pending::<()>().await;
        }
    });
    let call = client.start(0, &soon(), &[1; 9000][..]).unwrap();
    starts.recv().await.unwrap();
    drop(call);
    client.idle().await.unwrap();
    assert_eq!(count.load(SeqCst), 1);

    let options = CallOptions::with_deadline(Deadline::after(Duration::from_millis(20)));
    let error = client.call_async(0, &options, &[1; 9000][..]).await.unwrap_err();
    assert!(matches!(error, CallError::Deadline { .. }), "{error}");
    client.idle().await.unwrap();
    assert_eq!((client.outstanding(), control.in_flight()), (0, 0));
    control.close();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_does_not_depend_on_another_future_being_polled() {
    let (client, control, serving) = channel(echo);
    let mut unpolled = std::pin::pin!(client.start(0, &soon(), ()).unwrap());
    let first_poll = std::future::poll_fn(|cx| std::task::Poll::Ready(unpolled.as_mut().poll(cx).is_pending())).await;
    assert!(first_poll, "nothing has run that could have answered");
    for _ in 0..100 {
        client.call_async(0, &soon(), ()).await.unwrap();
    }
    unpolled.await.unwrap();
    control.close();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_handler_that_panics_takes_nobody_with_it() {
    let (client, control, serving) = channel(|call| async move {
        if call.method() == 0 {
            std::panic::resume_unwind(Box::new("without the hook"));
        }
        call.reply(());
    });
    assert!(matches!(client.call_async(0, &soon(), ()).await.unwrap_err(), CallError::Internal(_)));
    client.call_async(1, &soon(), ()).await.unwrap();
    control.close();
    assert_eq!(serving.await.unwrap().unwrap().served, 2);
}

#[tokio::test]
async fn the_end_of_either_side_is_noticed() {
    let (client, _control, serving) = channel(echo);
    client.call_async(0, &soon(), ()).await.unwrap();
    drop(client);
    assert_eq!(serving.await.unwrap().unwrap().ended, Ended::CallerGone);

    let (client, control, serving) = channel(|call| async move {
        let _call = call;
        pending::<()>().await;
    });
    let call = client.start(0, &CallOptions::NONE, ()).unwrap();
    let waiting = tokio::spawn(call);
    while control.in_flight() == 0 {
        yield_now().await;
    }
    control.peer_gone();
    assert_eq!(serving.await.unwrap().unwrap().ended, Ended::CallerGone);
    drop(control);
    // Its handler was dropped and has said so.
    assert!(matches!(waiting.await.unwrap().unwrap_err(), CallError::Internal(_)));
    assert_eq!(client.call_async(0, &soon(), ()).await.unwrap_err(), CallError::NotStarted);
}

#[tokio::test]
async fn close_is_linearizable_between_tasks() {
    for _ in 0..20 {
        let (client, control, serving) = channel(|call| async {
            yield_now().await;
            echo(call).await;
        });
        let callers: Vec<_> = (0..5)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut answered = 0;
                    loop {
                        match client.call_async(0, &soon(), ()).await {
                            Ok(_) => answered += 1,
                            Err(error) => break (answered, error),
                        }
                    }
                })
            })
            .collect();
        while control.served() < 30 {
            yield_now().await;
        }
        control.close();
        let served = serving.await.unwrap().unwrap().served;
        let mut total = 0;
        for caller in callers {
            let (answered, error) = caller.await.unwrap();
            assert_eq!(error, CallError::Draining);
            total += answered;
        }
        assert_eq!(served, total);
    }
}

#[tokio::test]
async fn handlers_need_not_be_send() {
    let (caller, callee) = End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap();
    let mut server = Server::new(callee);
    let client = Client::new(caller);
    let local = LocalSet::new();
    let counter = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = std::rc::Rc::clone(&counter);
    local.spawn_local(async move {
        let handler = |call: Call<'static>| {
            let seen = std::rc::Rc::clone(&seen);
            async move {
                yield_now().await;
                seen.set(seen.get() + 1);
                call.reply(());
            }
        };
        server.serve_async(handler).await
    });
    local.run_until(async { client.call_async(0, &soon(), ()).await.unwrap() }).await;
    assert_eq!(counter.get(), 1);
}
