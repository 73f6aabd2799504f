//! Lives that no honest worker leads.
#![allow(unsafe_code, reason = "forks, and signals that are ignored")]

use std::io::{Read as _, Write as _};

use mortise_control::{Phase, ToSupervisor, ToWorker, Token, WorkerId};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, pause, setsid};

use crate::raw::{Raw, found};

/// A child that runs this and ends.
pub fn child(run: impl FnOnce()) -> Pid {
    // SAFETY: every attack forks before it starts a thread, so the child may do whatever the parent may.
    match unsafe { fork() }.expect("a child") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            run();
            std::process::exit(0)
        }
    }
}

/// Every copy goes on here.
pub fn fork_forever() {
    loop {
        // SAFETY: as above; both do the same.
        let _ = unsafe { fork() };
    }
}

pub fn ready_twice() {
    let raw = Raw::ready();
    for _ in 0..3 {
        raw.say(&ToSupervisor::Ready);
    }
    raw.go_on();
}

/// The first process has never spoken when it ends, and its grandchild has a session of its own.
pub fn ready_from_a_grandchild() {
    let (mut said, mut saying) = std::io::pipe().expect("a pipe");
    let between = child(|| {
        setsid().expect("a session");
        child(|| {
            let raw = Raw::ready();
            saying.write_all(b"r").expect("the first process is there");
            raw.go_on();
            loop {
                pause();
            }
        });
    });
    waitpid(between, None).expect("it has ended");
    said.read_exact(&mut [0]).expect("the grandchild is ready");
    found("a grandchild", "ready");
}

pub fn exit_after_ready() {
    drop(Raw::ready());
}

/// Everything but a hello, on one connection after the other.
pub fn speaks_before_it_is_known() {
    loop {
        let Ok(mut raw) = Raw::try_connect() else { continue };
        raw.say(&ToSupervisor::Ready);
        raw.say(&ToSupervisor::Drained { served: u64::MAX });
        while raw.hear().is_some() {}
    }
}

/// Another's id, another's token, another phase; then the truth.
pub fn says_it_is_another() {
    let truth = Raw::connect().hello();
    let WorkerId { slot, generation } = truth.worker;
    let mut lies = Vec::new();
    for worker in [WorkerId { slot: slot ^ 1, generation }, WorkerId { slot, generation: generation + 1 }] {
        lies.push(mortise_control::Hello { worker, ..truth.clone() });
    }
    lies.push(mortise_control::Hello { token: Token([0; 16]), ..truth.clone() });
    for lie in lies {
        let mut raw = Raw::connect();
        raw.say(&ToSupervisor::Hello(lie));
        let answer = raw.hear();
        found("answer to a lie", if answer.is_none() { "none" } else { "a welcome" });
    }
    let raw = Raw::connect();
    raw.say(&ToSupervisor::Hello(mortise_control::Hello { phase: Phase::Ready, ..truth }));
    raw.go_on();
}

/// Neither a drain nor SIGTERM moves it.
pub fn ignores_the_end() {
    // SAFETY: ignoring runs no code.
    unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) }.expect("ignored");
    let mut raw = Raw::ready();
    while let Some((message, _)) = raw.hear() {
        if !matches!(message, ToWorker::Drain { .. }) {
            raw.answer(&message);
        }
    }
    loop {
        pause();
    }
}

/// Who speaks stops itself as soon as it is to drain. (A first process cannot be stopped from inside its pid namespace.)
pub fn stands_still_in_the_drain() {
    let speaker = child(|| {
        let mut raw = Raw::ready();
        while let Some((message, _)) = raw.hear() {
            if matches!(message, ToWorker::Drain { .. }) {
                println!("standing still");
                kill(getpid(), Signal::SIGSTOP).expect("stopped");
            }
            raw.answer(&message);
        }
    });
    let _ = waitpid(speaker, None);
    loop {
        pause();
    }
}

/// Ends in order when it is drained, and leaves a process behind that has its output and goes on writing to it.
pub fn leaves_a_writer() {
    let between = child(|| {
        setsid().expect("a session");
        child(|| {
            loop {
                println!("still here");
            }
        });
    });
    waitpid(between, None).expect("it has ended");
    Raw::ready().go_on();
}
