//! Two processes, and kill -9 at any moment: the fate of every call is known afterwards, and right.
//!
//! The test program starts itself again as the other process. The introduction is the real one: the other process gets its own
//! segment, maps it, says so, and gets the sealed segment of its peer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shm_rpc::{CallError, CallOptions, Client, Deadline, End, Geometry, OwnSegment, PeerSegment, Pod, Server, segment};

const ROLE: &str = "SHM_RPC_TEST_ROLE";
const FDS: &str = "SHM_RPC_TEST_FDS";
const FINISHED: u64 = 1 << 63;

fn geometry() -> Geometry {
    Geometry::new(64, 64 * 1024).unwrap()
}

/// A process at the other end, killed when this is dropped.
struct Other {
    child: Child,
}

impl Other {
    fn kill(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the other process in `role`, with `log` beside its channel, and introduces the two.
fn introduce(role: &str, log: &OwnedFd) -> (End, Other) {
    let (ours, theirs) = (segment::create(geometry()).unwrap(), segment::create(geometry()).unwrap());
    let (our_bell, their_bell) = segment::wake_pair().unwrap();
    let fds = [theirs.as_fd(), ours.as_fd(), their_bell.as_fd(), log.as_fd()];
    for fd in fds {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    let mut child = Command::new("/proc/self/exe")
        .args(["--exact", "the_other_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(FDS, fds.map(|it| it.as_raw_fd().to_string()).join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    // The next child must not get these.
    fcntl(log, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
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

/// Not a test of its own: what the other process does, and nothing when nobody has asked for one.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
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
    match role.as_str() {
        "callee" => {
            let record = |number: u64| (&log).write_all(&number.to_le_bytes()).unwrap();
            Server::new(end)
                .serve(|call| {
                    let [number, _] = call.pod::<[u64; 2]>().unwrap();
                    record(number);
                    let payload = vec![number as u8; (number % 3) as usize * 1000];
                    record(number | FINISHED);
                    call.reply(&payload[..]);
                })
                .unwrap();
        }
        "caller" => {
            let client = Client::new(end);
            for number in 0.. {
                client.call(0, &CallOptions::NONE, Pod(&[number, 0_u64])).unwrap();
            }
        }
        other => panic!("no role {other}"),
    }
}

/// An inherited descriptor. There is no safe way to own one by number, so it is duplicated through a socket's own file.
fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the parent passed this number for exactly this purpose, and nothing else in this process uses it.
    #[allow(unsafe_code, reason = "owning an inherited descriptor")]
    unsafe {
        std::os::fd::FromRawFd::from_raw_fd(fd)
    }
}

fn log() -> OwnedFd {
    memfd_create(c"log", MFdFlags::MFD_CLOEXEC).unwrap()
}

/// How often each number was started and finished, as the callee has logged.
fn read_log(log: &OwnedFd) -> HashMap<u64, (u32, u32)> {
    let file = File::from(log.try_clone().unwrap());
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut counts = HashMap::<u64, (u32, u32)>::new();
    for record in bytes.as_chunks::<8>().0 {
        let record = u64::from_le_bytes(*record);
        let count = counts.entry(record & !FINISHED).or_default();
        if record & FINISHED == 0 { count.0 += 1 } else { count.1 += 1 }
    }
    counts
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// How many times the callee is killed: `SHM_RPC_KILLS`, or 100.
fn kills() -> u32 {
    std::env::var("SHM_RPC_KILLS").map_or(100, |it| it.parse().expect("SHM_RPC_KILLS is a number"))
}

#[test]
fn a_callee_killed_at_any_moment_leaves_no_fate_undecided() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut seen = [0_u32; 3];
    for round in 0..kills() {
        let log = log();
        let (end, mut other) = introduce("callee", &log);
        let client = Client::new(end);
        let mut outcomes = HashMap::new();
        let mut under_way = std::collections::VecDeque::new();
        let calls_before_the_kill = random.below(200);
        let window = 1 + random.below(40) as usize;
        for number in 0..calls_before_the_kill {
            let call = client.start(0, &CallOptions::NONE, Pod(&[number, 0])).unwrap();
            under_way.push_back((number, call));
            if under_way.len() == window {
                let (number, call) = under_way.pop_front().unwrap();
                outcomes.insert(number, call.wait().map(|it| it.view().to_vec()));
            }
        }
        // Some more whose way the kill crosses.
        for number in calls_before_the_kill..calls_before_the_kill + random.below(20) {
            if let Ok(call) = client.start(0, &CallOptions::NONE, Pod(&[number, 0])) {
                under_way.push_back((number, call));
            }
        }
        for _ in 0..random.below(2000) {
            std::hint::spin_loop();
        }
        other.kill();
        for (number, call) in under_way {
            outcomes.insert(number, call.wait().map(|it| it.view().to_vec()));
        }
        let log = read_log(&log);
        for (number, outcome) in outcomes {
            let (started, finished) = log.get(&number).copied().unwrap_or_default();
            assert!(started <= 1 && finished <= started, "round {round}: call {number} ran {started} times");
            match outcome {
                Ok(reply) => {
                    assert_eq!(finished, 1, "round {round}: call {number} was answered and never finished");
                    assert_eq!(reply, vec![number as u8; (number % 3) as usize * 1000]);
                    seen[0] += 1;
                }
                Err(CallError::MaybeExecuted) => seen[1] += 1,
                Err(CallError::NotStarted) => {
                    assert_eq!(started, 0, "round {round}: call {number} was started after all");
                    seen[2] += 1;
                }
                Err(error) => panic!("round {round}: call {number}: {error}"),
            }
        }
        assert_eq!(client.outstanding(), 0);
        let released = client.released();
        drop(client);
        assert!(released.wait(Some(Deadline::after(Duration::from_secs(20)))));
    }
    println!("answered {}, maybe executed {}, not started {}", seen[0], seen[1], seen[2]);
    assert!(seen[0] > 0 && seen[2] > 0, "the kills hit nothing: {seen:?}");
}

#[cfg(feature = "tokio")]
#[test]
fn a_caller_killed_at_any_moment_ends_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..20 {
        let log = log();
        let (end, mut other) = introduce("caller", &log);
        let mut server = Server::new(end);
        let control = server.control();
        let (tell, told) = std::sync::mpsc::channel();
        let killer = std::thread::spawn(move || {
            told.recv().unwrap();
            other.kill();
        });
        let served = runtime.block_on(server.serve_async(|call| {
            if control.served() == round * 10 {
                tell.send(()).unwrap();
            }
            async move { call.reply(()) }
        }));
        assert_eq!(served.unwrap().ended, shm_rpc::Ended::CallerGone);
        killer.join().unwrap();
    }
}
