//! The other process: the test program started again, introduced as a third party would. It gets its own segment, maps it, says so, and
//! gets the sealed segment of its peer.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shm_rpc::{Call, CallError, CallOptions, Client, End, Geometry, OwnSegment, PeerSegment, Server, segment};

use crate::log::Log;
use crate::work;

const ROLE: &str = "SHM_RPC_TEST_ROLE";
const FDS: &str = "SHM_RPC_TEST_FDS";

fn geometry() -> Geometry {
    Geometry::new(64, 64 * 1024).unwrap()
}

/// What the other process does.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Answers each call before it takes the next.
    Callee,
    /// Hands its calls to two threads, which answer in any order.
    CalleeAway,
    /// Calls, with several calls under way.
    Caller,
}

impl Role {
    const ALL: [Self; 3] = [Self::Callee, Self::CalleeAway, Self::Caller];
}

/// A process at the other end, killed when this is dropped.
pub struct Other {
    child: Child,
}

impl Other {
    /// Kills it. It has not ended by itself before: an honest peer has no reason to.
    pub fn kill(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "the other process ended early");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the other process, with `log` beside its channel, and introduces the two.
pub fn introduce(role: Role, log: &Log) -> (End, Other) {
    let (ours, theirs) = (segment::create(geometry()).unwrap(), segment::create(geometry()).unwrap());
    let (our_bell, their_bell) = segment::wake_pair().unwrap();
    let mut child = start(role, [theirs.as_fd(), ours.as_fd(), their_bell.as_fd(), log.as_fd()]);
    drop(their_bell);
    let own = OwnSegment::map(&ours, geometry()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|it| it.unwrap().ends_with("mapped")), "the other process ended early");
    segment::seal(&ours).unwrap();
    segment::seal(&theirs).unwrap();
    child.stdin.take().unwrap().write_all(b"sealed\n").unwrap();
    let peer = PeerSegment::map(&theirs, geometry()).unwrap();
    (End::new(own, peer, our_bell), Other { child })
}

/// Starts it with these descriptors, which no other child gets: one that kept a bell open would hide a death.
fn start(role: Role, fds: [BorrowedFd<'_>; 4]) -> Child {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let inherit = |flags| {
        for fd in fds {
            fcntl(fd, FcntlArg::F_SETFD(flags)).unwrap();
        }
    };
    inherit(FdFlag::empty());
    let child = Command::new("/proc/self/exe")
        .args(["--exact", "the_other_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, format!("{role:?}"))
        .env(FDS, fds.map(|it| it.as_raw_fd().to_string()).join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    inherit(FdFlag::FD_CLOEXEC);
    child.unwrap()
}

/// What the other process does; nothing where nobody has asked for one.
pub fn be_the_other_if_asked() {
    let Ok(asked) = std::env::var(ROLE) else { return };
    let role = Role::ALL.into_iter().find(|it| format!("{it:?}") == asked).expect("a role");
    let fds: Vec<RawFd> = std::env::var(FDS).unwrap().split(',').map(|it| it.parse().unwrap()).collect();
    let open = |index: usize| {
        let path = format!("/proc/self/fd/{}", fds[index]);
        File::options().read(true).write(true).open(path).unwrap()
    };
    let own = OwnSegment::map(open(0), geometry()).unwrap();
    println!("mapped");
    let mut answer = [0; 7];
    std::io::stdin().read_exact(&mut answer).unwrap();
    let peer = PeerSegment::map(File::open(format!("/proc/self/fd/{}", fds[1])).unwrap(), geometry()).unwrap();
    let end = End::new(own, peer, inherited(fds[2]));
    let log = open(3);
    fcntl(&log, FcntlArg::F_SETFL(OFlag::O_APPEND)).unwrap();
    let log = Log::new(log.into());
    match role {
        Role::Callee => assert!(Server::new(end).serve(|call| answer_and_log(call, &log)).is_ok()),
        Role::CalleeAway => serve_away(end, &log),
        Role::Caller => call_for_ever(end),
    }
}

/// An inherited descriptor.
fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the parent passed this number for exactly this purpose, and nothing else in this process uses it.
    #[allow(unsafe_code, reason = "owning an inherited descriptor")]
    unsafe {
        std::os::fd::FromRawFd::from_raw_fd(fd)
    }
}

fn answer_and_log(call: Call<'_>, log: &Log) {
    let number = work::number_of(&call.view().to_vec()).expect("a whole request");
    log.started(number);
    let answer = work::answer(number);
    log.finished(number);
    call.reply(&answer[..]);
}

fn serve_away(end: End, log: &Log) {
    std::thread::scope(|scope| {
        let away: Vec<_> = (0..2)
            .map(|_| {
                let (give, take) = mpsc::channel::<Call<'static>>();
                scope.spawn(move || take.into_iter().for_each(|call| answer_and_log(call, log)));
                give
            })
            .collect();
        let mut turn = 0;
        Server::new(end)
            .serve(|call| {
                turn += 1;
                away[turn % away.len()].send(call.detach()).unwrap();
            })
            .unwrap();
    });
}

fn call_for_ever(end: End) {
    let client = Client::new(end);
    let mut under_way = VecDeque::new();
    for number in 0.. {
        match client.start(0, &CallOptions::NONE, &work::request(number)[..]) {
            Ok(call) => under_way.push_back((number, call)),
            Err(CallError::Draining | CallError::NotStarted) => return,
            Err(error) => panic!("call {number}: {error}"),
        }
        if under_way.len() > (number % 20) as usize {
            let (number, call) = under_way.pop_front().unwrap();
            assert_eq!(call.wait().unwrap().view().to_vec(), work::answer(number));
        }
    }
}
