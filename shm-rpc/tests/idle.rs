//! What idle channels cost: no processor time, and 16 KiB of memory each.
//!
//! The test program starts itself again as the other process, and introduces the two over a socket as a third party would.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use shm_rpc::{
    Call, CallOptions, Client, Deadline, End, Geometry, OwnSegment, PeerSegment, Pod, Server, ServerSet, segment,
};

const ROLE: &str = "SHM_RPC_TEST_ROLE";
const CHANNELS: usize = 1000;
/// Ring and control page of one default segment.
const SEGMENT: u64 = 8 * 1024;

/// A process at the other end of many channels, killed when this is dropped.
struct Other {
    child: Child,
    introduction: UnixStream,
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Other {
    fn start(role: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let child = Command::new("/proc/self/exe")
            .args(["--exact", "the_other_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{role} {}", theirs.as_raw_fd()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, introduction: ours }
    }

    /// Tells it to go on, and waits until it has done so.
    fn step(&mut self) {
        self.introduction.write_all(b"?").unwrap();
        self.introduction.read_exact(&mut [0]).expect("the other process ended early");
    }

    /// Makes a channel whose callee it is.
    fn introduce(&mut self) -> Client {
        let geometry = Geometry::DEFAULT;
        let (ours, theirs) = (segment::create(geometry).unwrap(), segment::create(geometry).unwrap());
        let (our_bell, their_bell) = segment::wake_pair().unwrap();
        let own = OwnSegment::map(&ours, geometry).unwrap();
        segment::seal(&ours).unwrap();
        let fds = [theirs.as_raw_fd(), ours.as_raw_fd(), their_bell.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let socket = self.introduction.as_raw_fd();
        sendmsg::<()>(socket, &[IoSlice::new(b"c")], &rights, MsgFlags::empty(), None).unwrap();
        self.introduction.read_exact(&mut [0]).expect("the other process ended early");
        segment::seal(&theirs).unwrap();
        Client::new(End::new(own, PeerSegment::map(&theirs, geometry).unwrap(), our_bell))
    }

    /// Whether all its threads sleep.
    fn sleeps(&self) -> bool {
        self.threads().iter().all(|thread| {
            let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with('S')
        })
    }

    fn threads(&self) -> Vec<PathBuf> {
        let folder = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect()
    }

    /// Context switches of all its threads, wanted and not.
    fn switches(&self) -> u64 {
        let mut sum = 0;
        for thread in self.threads() {
            let status = std::fs::read_to_string(thread.join("status")).unwrap();
            let counts = status.lines().filter(|it| it.contains("ctxt_switches"));
            sum += counts.map(|it| it.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum::<u64>();
        }
        sum
    }
}

fn receive(introduction: &UnixStream) -> Option<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; 3]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(introduction.as_raw_fd(), &mut bytes, Some(&mut space), flags).unwrap();
    let mut fds = Vec::new();
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(received) = part {
            fds.extend(received.into_iter().map(own));
        }
    }
    (!fds.is_empty()).then_some(fds)
}

/// A descriptor that was inherited or received.
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: it was passed to this process for exactly this purpose, and it is taken over once.
    #[allow(unsafe_code, reason = "owning a descriptor known by number")]
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

/// Takes its ends of channels until it is told to go on.
fn be_introduced(introduction: &mut UnixStream) -> Vec<Server> {
    let mut servers = Vec::new();
    while let Some(fds) = receive(introduction) {
        let [theirs, ours, bell] = fds.try_into().unwrap();
        let own = OwnSegment::map(theirs, Geometry::DEFAULT).unwrap();
        let peer = PeerSegment::map(ours, Geometry::DEFAULT).unwrap();
        servers.push(Server::new(End::new(own, peer, bell)));
        introduction.write_all(b"c").unwrap();
    }
    servers
}

fn double(call: Call<'_>) {
    match call.pod::<u64>() {
        Ok(number) => call.reply(Pod(&(2 * number))),
        Err(error) => call.fail(&error),
    }
}

/// Not a test of its own: what the other process does, and nothing when nobody has asked for one.
#[test]
fn the_other_process() {
    let Ok(asked) = std::env::var(ROLE) else { return };
    raise_limits();
    let (role, fd) = asked.split_once(' ').unwrap();
    let mut introduction = UnixStream::from(own(fd.parse().unwrap()));
    let servers = be_introduced(&mut introduction);
    match role {
        "thread" => {
            let mut set = ServerSet::new().unwrap();
            let control = set.control();
            servers.into_iter().for_each(|it| assert!(control.add(it, double as fn(Call<'_>)).is_ok()));
            introduction.write_all(b"!").unwrap();
            set.serve().unwrap();
        }
        #[cfg(feature = "tokio")]
        "tasks" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for mut server in servers {
                    tokio::spawn(async move {
                        let served = server.serve_async(|call| {
                            double(call);
                            std::future::ready(())
                        });
                        served.await.map(drop)
                    });
                }
                introduction.write_all(b"!").unwrap();
                std::future::pending::<()>().await;
            });
        }
        "pairs" => {
            let pairs: Vec<_> =
                (0..CHANNELS).map(|_| End::pair(Geometry::DEFAULT, Geometry::DEFAULT).unwrap()).collect();
            introduction.write_all(b"!").unwrap();
            let _ = introduction.read(&mut [0]);
            drop(pairs);
        }
        other => panic!("no role {other}"),
    }
}

/// As many descriptors as may be.
fn raise_limits() -> u64 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    hard
}

/// Says that a test cannot run here: to the reader and to `cargo xtask test`.
fn skip(why: &str) {
    let thread = std::thread::current();
    let what = format!("{}: {why}", thread.name().unwrap_or("idle channels"));
    eprintln!("skipped: {what}");
    let Some(path) = std::env::var_os("MORTISE_SKIPPED") else { return };
    writeln!(File::options().append(true).open(path).unwrap(), "{what}").unwrap();
}

/// How long the everyday test looks at idle channels, and the long one.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(10);

fn idle_channels_do_not_run(role: &str, span: Duration) {
    if raise_limits() < 3 * CHANNELS as u64 {
        return skip("the limit of open files is too low");
    }
    let mut other = Other::start(role);
    let clients: Vec<_> = (0..CHANNELS).map(|_| other.introduce()).collect();
    other.step();
    let options = || CallOptions::with_deadline(Deadline::after(Duration::from_secs(20)));
    let call = |client: &Client, number: u64| client.call(0, &options(), Pod(&number)).unwrap().pod::<u64>().unwrap();
    // Each has been awake once.
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(call(client, number as u64), 2 * number as u64);
    }
    let begin = Instant::now();
    while !other.sleeps() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it never goes to sleep");
        std::thread::yield_now();
    }
    // The span that is looked at: nothing is waited for here.
    let before = other.switches();
    std::thread::sleep(span);
    let after = other.switches();
    assert_eq!(after - before, 0, "context switches of a server of {CHANNELS} idle channels");
    assert_eq!(call(&clients[CHANNELS / 2], 21), 42);
    assert!(other.switches() > after, "the count does not count");
}

#[test]
fn a_thread_with_1000_idle_channels_does_not_run() {
    idle_channels_do_not_run("thread", SHORT);
}

#[test]
#[ignore = "looks on for 10 s"]
fn a_thread_with_1000_idle_channels_does_not_run_for_long() {
    idle_channels_do_not_run("thread", LONG);
}

#[cfg(feature = "tokio")]
#[test]
fn tasks_with_1000_idle_channels_do_not_run() {
    idle_channels_do_not_run("tasks", SHORT);
}

#[cfg(feature = "tokio")]
#[test]
#[ignore = "looks on for 10 s"]
fn tasks_with_1000_idle_channels_do_not_run_for_long() {
    idle_channels_do_not_run("tasks", LONG);
}

/// A memory group of its own below this process's, removed when this is dropped.
struct Group(PathBuf);

impl Group {
    /// None: there is no memory controller here that this process may use.
    fn new(name: &str) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let below = |root: &str, path: &str| Path::new(root).join(path.trim_start_matches('/'));
        let parents = own.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            match rest.split_once(':')? {
                ("memory", path) => Some(below("/sys/fs/cgroup/memory", path)),
                ("", path) => Some(below("/sys/fs/cgroup", path)),
                _ => None,
            }
        });
        for parent in parents {
            let group = Self(parent.join(format!("shm-rpc-{name}-{}", std::process::id())));
            if std::fs::create_dir(&group.0).is_ok() && group.shmem().is_some() {
                return Some(group);
            }
        }
        None
    }

    fn take(&self, process: u32) {
        std::fs::write(self.0.join("cgroup.procs"), process.to_string()).unwrap();
    }

    /// Bytes of shared memory that its processes were the first to touch.
    fn shmem(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(self.0.join("memory.stat")).ok()?;
        stat.lines().find_map(|it| it.strip_prefix("shmem "))?.parse().ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let begin = Instant::now();
        // Its process has been reaped; the kernel may need a moment more.
        while std::fs::remove_dir(&self.0).is_err() && self.0.exists() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
    }
}

/// What is charged to a process that holds [`CHANNELS`] channels, or one side of them, per channel.
fn charged(role: &str) -> Option<u64> {
    if raise_limits() < 3 * CHANNELS as u64 {
        skip("the limit of open files is too low");
        return None;
    }
    let Some(group) = Group::new(role) else {
        skip("there is no memory controller that this process may use");
        return None;
    };
    let mut other = Other::start(role);
    group.take(other.child.id());
    let clients: Vec<_> = if role == "pairs" { Vec::new() } else { (0..CHANNELS).map(|_| other.introduce()).collect() };
    other.step();
    let found = group.shmem().unwrap();
    drop((other, clients));
    println!("{role}: {found} bytes for {CHANNELS} channels");
    Some(found / CHANNELS as u64)
}

/// The kernel counts in batches of 64 pages for each CPU.
const INEXACT: u64 = 2 * 64 * 4096 / CHANNELS as u64;

#[test]
fn an_idle_channel_costs_16_kib() {
    if let Some(found) = charged("pairs") {
        assert!(found <= 2 * SEGMENT + INEXACT, "an idle channel costs {found} bytes");
        assert!(found >= 2 * SEGMENT - INEXACT, "the count does not count: {found} bytes");
    }
}

#[test]
fn each_side_pays_for_what_it_writes() {
    if let Some(found) = charged("thread") {
        assert!(found <= SEGMENT + INEXACT, "the callee's side of an idle channel costs {found} bytes");
        assert!(found >= SEGMENT - INEXACT, "the count does not count: {found} bytes");
    }
}

#[test]
fn small_calls_touch_nothing_more() {
    let geometry = Geometry::DEFAULT;
    let (a, b) = (segment::create(geometry).unwrap(), segment::create(geometry).unwrap());
    let (own_a, own_b) = (OwnSegment::map(&a, geometry).unwrap(), OwnSegment::map(&b, geometry).unwrap());
    segment::seal(&a).unwrap();
    segment::seal(&b).unwrap();
    let (peer_a, peer_b) = (PeerSegment::map(&a, geometry).unwrap(), PeerSegment::map(&b, geometry).unwrap());
    let (bell_a, bell_b) = segment::wake_pair().unwrap();
    let client = Client::new(End::new(own_a, peer_b, bell_a));
    let mut server = Server::new(End::new(own_b, peer_a, bell_b));
    let control = server.control();
    let thread = std::thread::spawn(move || server.serve(double).unwrap());
    for number in 0..1000_u64 {
        client.call(0, &CallOptions::NONE, Pod(&number)).unwrap();
    }
    let used = |fd: &OwnedFd| 512 * nix::sys::stat::fstat(fd.as_fd()).unwrap().st_blocks as u64;
    assert_eq!((used(&a), used(&b)), (SEGMENT, SEGMENT));
    client.call(0, &CallOptions::NONE, &[0; 4096][..]).unwrap_err();
    assert_eq!((used(&a), used(&b)), (SEGMENT + 4096, SEGMENT), "a payload is paid for by its sender");
    control.close();
    thread.join().unwrap();
}
