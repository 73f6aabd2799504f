//! A callee is killed: every call of its caller was answered, certainly not started, or may have been executed, and that is true.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::mpsc;

use shm_rpc::{CallError, CallOptions, Client, Deadline, Reply};

use crate::log::Log;
use crate::other::{Role, introduce};
use crate::{FOR_EVER, Random, kill_when_told, kills, rounds, work};

/// What the calls of killed callees came to.
#[derive(Debug, Default)]
struct Fates {
    answered: u64,
    maybe: u64,
    /// Of those that may have been executed: not started, started and not finished, finished and not answered.
    maybe_by_log: [u64; 3],
    not_started: u64,
    refused: u64,
}

impl AddAssign for Fates {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.maybe += other.maybe;
        self.maybe_by_log.iter_mut().zip(other.maybe_by_log).for_each(|(sum, it)| *sum += it);
        self.not_started += other.not_started;
        self.refused += other.refused;
    }
}

fn in_whole(outcome: Result<Reply, CallError>) -> Outcome {
    outcome.map(|it| it.view().to_vec())
}

/// An answer in whole, or what came instead.
type Outcome = Result<Vec<u8>, CallError>;

/// The outcome of each call to a callee that was killed, and the call that was refused because it was gone already.
struct Outcomes {
    outcomes: Vec<(u64, Outcome)>,
    refused: Option<u64>,
}

/// Calls a callee until it is killed.
fn call_until_killed(client: &Client, window: usize, kill_after: u64, tell: mpsc::Sender<()>) -> Outcomes {
    let options = CallOptions::with_deadline(Deadline::after(FOR_EVER));
    let (mut outcomes, mut under_way, mut answered) = (Vec::new(), VecDeque::new(), 0);
    let mut refused = None;
    for number in 0.. {
        if answered == kill_after {
            tell.send(()).unwrap();
        }
        match client.start(0, &options, &work::request(number)[..]) {
            Ok(call) => under_way.push_back((number, call)),
            Err(error) => {
                assert_eq!(error, CallError::NotStarted, "call {number} was refused");
                refused = Some(number);
                break;
            }
        }
        if under_way.len() == window {
            let (number, call) = under_way.pop_front().unwrap();
            let outcome = in_whole(call.wait());
            let is_gone = outcome.is_err();
            outcomes.push((number, outcome));
            if is_gone {
                break;
            }
            answered += 1;
        }
    }
    outcomes.extend(under_way.into_iter().map(|(number, call)| (number, in_whole(call.wait()))));
    Outcomes { outcomes, refused }
}

fn kill_a_callee(round: u64) -> Fates {
    let mut random = Random::of(round);
    let role = if random.below(3) == 0 { Role::CalleeAway } else { Role::Callee };
    let log = Log::create();
    let (end, other) = introduce(role, &log);
    let client = Client::new(end);
    let (window, kill_after, spin) = (1 + random.below(40) as usize, random.below(200), random.below(50_000));
    // Somebody tells the caller, or it finds out by itself.
    let is_told = random.below(2) == 0;
    let (tell, told) = mpsc::channel();
    let Outcomes { outcomes, refused } = std::thread::scope(|scope| {
        let client = &client;
        scope.spawn(move || {
            kill_when_told(other, told, spin, || {
                if is_told {
                    client.peer_gone();
                }
            });
        });
        call_until_killed(client, window, kill_after, tell)
    });
    let log = log.read();
    let ran = |number: u64| log.get(&number).copied().unwrap_or_default();
    let mut fates = Fates::default();
    for (number, outcome) in outcomes {
        let ran = ran(number);
        assert!(ran.started <= 1 && ran.finished <= ran.started, "round {round}: call {number}: {ran:?}");
        match outcome {
            Ok(answer) => {
                assert_eq!(ran.finished, 1, "round {round}: call {number} was answered and never finished");
                assert_eq!(answer, work::answer(number), "round {round}: the answer to call {number}");
                fates.answered += 1;
            }
            Err(CallError::MaybeExecuted) => {
                fates.maybe += 1;
                fates.maybe_by_log[(ran.started + ran.finished) as usize] += 1;
            }
            Err(CallError::NotStarted) => {
                assert_eq!(ran.started, 0, "round {round}: call {number} was started after all");
                fates.not_started += 1;
            }
            Err(error) => panic!("round {round}: call {number}: {error}"),
        }
    }
    if let Some(number) = refused {
        assert_eq!(ran(number).started, 0, "round {round}: the refused call {number} was started");
        fates.refused += 1;
    }
    if let Role::Callee = role {
        // It had one call in its hands, so at most one is in doubt: more would be retries that are lost.
        assert!(fates.maybe <= 1, "round {round}: {fates:?}");
    }
    assert_eq!(client.outstanding(), 0);
    let released = client.released();
    drop(client);
    assert!(released.wait(Some(Deadline::after(FOR_EVER))));
    fates
}

#[test]
fn a_callee_killed_at_any_moment_leaves_no_fate_undecided() {
    let count = kills(300);
    let fates = rounds(count, kill_a_callee);
    println!("{count} callees killed: {fates:?}");
    assert!(fates.answered > 0 && fates.maybe + fates.not_started > 0, "the kills hit nothing: {fates:?}");
}
