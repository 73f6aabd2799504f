//! A caller is killed: its server ends, however it waits, and has seen every call whole, in order and once.

use std::ops::AddAssign;
use std::sync::{Mutex, mpsc};

use shm_rpc::{Call, Deadline, Ended, Serve, ServeError, Served, Server, ServerSet, SetControl};

use crate::log::Log;
use crate::other::{Role, introduce};
use crate::{FOR_EVER, Random, kill_when_told, kills, rounds, work};

/// How a server waits for calls, and so how it learns that its caller is gone.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Thread,
    Set,
    #[cfg(feature = "tokio")]
    Task,
}

const WAITING: &[Waiting] = &[
    Waiting::Thread,
    Waiting::Set,
    #[cfg(feature = "tokio")]
    Waiting::Task,
];

/// What a server has seen of its caller. A handler's panic would be an answer to the caller, so what is wrong is kept.
#[derive(Debug, Default)]
struct Seen {
    next: u64,
    wrong: Option<String>,
}

type HowEnded = Result<Served, ServeError>;

/// Checks the calls of a caller: each whole, in order, once.
struct InOrder<'a> {
    seen: &'a Mutex<Seen>,
    kill_after: u64,
    tell: mpsc::Sender<()>,
    /// The set that it serves in, and where it tells how that ended.
    set: Option<(SetControl<Self>, mpsc::Sender<HowEnded>)>,
}

impl InOrder<'_> {
    fn answer(&self, call: Call<'_>) {
        let mut seen = self.seen.lock().unwrap();
        let number = work::number_of(&call.view().to_vec());
        if number != Some(seen.next) {
            let expected = seen.next;
            seen.wrong.get_or_insert_with(|| format!("call {number:?} where {expected} was to come"));
        }
        if seen.next == self.kill_after {
            self.tell.send(()).unwrap();
        }
        call.reply(&work::answer(seen.next)[..]);
        seen.next += 1;
    }
}

impl Serve for InOrder<'_> {
    fn call(&mut self, call: Call<'_>) {
        self.answer(call);
    }

    fn ended(self, outcome: HowEnded) {
        let (set, told) = self.set.expect("it is in a set");
        told.send(outcome).unwrap();
        set.close();
    }
}

fn kill_a_caller(round: u64) -> Calls {
    let mut random = Random::of(round);
    let waiting = WAITING[random.below(WAITING.len() as u64) as usize];
    let (end, other) = introduce(Role::Caller, &Log::create());
    let mut server = Server::new(end);
    let control = server.control();
    let released = control.released();
    let (tell, told) = mpsc::channel();
    let seen = Mutex::new(Seen::default());
    let (kill_after, spin) = (random.below(200), random.below(50_000));
    let answers = InOrder { seen: &seen, kill_after, tell, set: None };
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            kill_when_told(other, told, spin, || {
                // A thread on a futex must be told.
                if let Waiting::Thread = waiting {
                    control.peer_gone();
                }
            });
        });
        // Whatever happens, it is told at the end of this.
        let mut answers = answers;
        match waiting {
            Waiting::Thread => {
                let outcome = server.serve(|call| answers.answer(call)).map_err(ServeError::from);
                drop(server);
                outcome
            }
            Waiting::Set => {
                let mut set = ServerSet::new().unwrap();
                let (tell_end, end) = mpsc::channel();
                answers.set = Some((set.control(), tell_end));
                assert!(set.control().add(server, answers).is_ok());
                set.serve().unwrap();
                end.recv().unwrap()
            }
            #[cfg(feature = "tokio")]
            Waiting::Task => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let outcome = runtime.block_on(server.serve_async(|call| {
                    answers.answer(call);
                    std::future::ready(())
                }));
                drop(server);
                outcome
            }
        }
    });
    let outcome = outcome.unwrap_or_else(|error| panic!("round {round}, {waiting:?}: {error}"));
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.wrong, None, "round {round}, {waiting:?}");
    assert_eq!(outcome, Served { served: seen.next, ended: Ended::CallerGone }, "round {round}, {waiting:?}");
    assert!(released.wait(Some(Deadline::after(FOR_EVER))), "round {round}, {waiting:?}: something stays mapped");
    Calls(seen.next)
}

#[derive(Debug, Default)]
struct Calls(u64);

impl AddAssign for Calls {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

#[test]
fn a_caller_killed_at_any_moment_ends_the_server_and_leaves_no_torn_call() {
    let count = kills(100);
    let Calls(served) = rounds(count, kill_a_caller);
    println!("{count} callers killed, {served} calls served");
    assert!(served > count, "the kills came before the calls");
}
