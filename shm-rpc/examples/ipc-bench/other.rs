//! The process at the other end: starting it, and what it does.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Pid, ftruncate};
use shm_rpc::{Call, CallOptions, Client, End, Geometry, OwnSegment, Patience, PeerSegment, Server, segment};

use crate::How;
use crate::limit::Limit;
use crate::page::{self, Page, Sharing, Side};
use crate::work::Work;

const VARIABLE: &str = "IPC_BENCH_OTHER";
/// Methods from here on are limits to be answered.
pub const LIMITS: u32 = 1000;

/// And from here on those whose sides write nothing that the other writes.
pub const APART: u32 = 500;

/// The slots of a channel with many calls under way.
const MANY: u32 = 128;

fn geometry(slots: u32) -> Geometry {
    Geometry::new(slots, 4 << 20).unwrap()
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).expect("two CPUs are needed");
}

fn patience(how: How) -> Patience {
    match how {
        _ if how.parks() => Patience::Park,
        How::SpinOn => Patience::Spin,
        _ => Patience::Adaptive,
    }
}

/// The pages of the limit programs.
pub struct Pages {
    pub both: Page,
    apart: Page,
}

impl Pages {
    fn map(fds: [impl AsFd; 4], side: Side) -> Self {
        let [a, b, c, d] = fds;
        Self { both: Page::map(a, b, side, Sharing::Both), apart: Page::map(c, d, side, Sharing::Apart) }
    }

    fn of(&self, sharing: Sharing) -> &Page {
        match sharing {
            Sharing::Both => &self.both,
            Sharing::Apart => &self.apart,
        }
    }
}

/// The calling side's means.
pub struct Bench {
    pub client: Client,
    pub pages: Pages,
    pub socket: OwnedFd,
    child: Child,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench {
    /// Starts the other process.
    pub fn start(how: How) -> Self {
        Self::with_slots(how, MANY)
    }

    /// The same with so many slots each way.
    pub fn with_slots(how: How, slots: u32) -> Self {
        pin(0);
        let geometry = geometry(slots);
        let (ours, theirs) = (segment::create(geometry).unwrap(), segment::create(geometry).unwrap());
        let (our_bell, their_bell) = segment::wake_pair().unwrap();
        let areas: [OwnedFd; 4] = std::array::from_fn(|_| {
            let area = memfd_create(c"limit", MFdFlags::MFD_CLOEXEC).unwrap();
            ftruncate(&area, page::BYTES as i64).unwrap();
            area
        });
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (socket, their_socket) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
        let [a, b, c, d] = &areas;
        let of_limits = [a.as_fd(), b.as_fd(), c.as_fd(), d.as_fd()];
        let fds = [theirs.as_fd(), ours.as_fd(), their_bell.as_fd(), their_socket.as_fd()].into_iter().chain(of_limits);
        for fd in fds.clone() {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        }
        let numbers = fds.map(|it| it.as_raw_fd().to_string()).collect::<Vec<_>>().join(",");
        let mut child = Command::new("/proc/self/exe")
            .env(VARIABLE, format!("{}:{slots}:{numbers}", how.number()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let own = OwnSegment::map(&ours, geometry).unwrap();
        let mut ready = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        segment::seal(&ours).unwrap();
        segment::seal(&theirs).unwrap();
        child.stdin.as_mut().unwrap().write_all(&ready).unwrap();
        let peer = PeerSegment::map(&theirs, geometry).unwrap();
        let client = Client::with_patience(End::new(own, peer, our_bell), patience(how));
        Self { client, pages: Pages::map(areas, Side::Asking), socket, child }
    }

    /// Lets the other side answer a limit while `body` asks, as many rounds at a time as it likes.
    pub fn limit(&self, limit: Limit, sharing: Sharing, body: impl FnOnce(&mut dyn FnMut(u64))) {
        let page = self.pages.of(sharing);
        page.reset();
        let first = LIMITS + if sharing == Sharing::Apart { APART } else { 0 };
        self.client.call(first + limit.number(), &CallOptions::NONE, ()).unwrap();
        let mut next = 1;
        body(&mut |rounds| {
            limit.ask(page, &self.socket, next, rounds);
            next += rounds;
        });
        limit.end(page, &self.socket);
    }
}

/// What the other process does.
pub fn run_if_asked() -> bool {
    let Ok(text) = std::env::var(VARIABLE) else { return false };
    let (how, rest) = text.split_once(':').unwrap();
    let (slots, fds) = rest.split_once(':').unwrap();
    let geometry = geometry(slots.parse().unwrap());
    let how = How::ALL[how.parse::<usize>().unwrap()];
    let fds: Vec<i32> = fds.split(',').map(|it| it.parse().unwrap()).collect();
    pin(how.callee_cpu());
    let open = |fd: i32| File::options().read(true).write(true).open(format!("/proc/self/fd/{fd}")).unwrap();
    let own = OwnSegment::map(open(fds[0]), geometry).unwrap();
    let pages = Pages::map([4, 5, 6, 7].map(|it| open(fds[it])), Side::Answering);
    let mut byte = *b"m";
    std::io::stdout().write_all(&byte).unwrap();
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_exact(&mut byte).unwrap();
    let peer = PeerSegment::map(File::open(format!("/proc/self/fd/{}", fds[1])).unwrap(), geometry).unwrap();
    let end = End::new(own, peer, page::inherited(fds[2]));
    let socket = page::inherited(fds[3]);
    let mut server = Server::with_patience(end, patience(how));
    let handle = |call: Call<'_>| match call.method().checked_sub(LIMITS) {
        None => Work::answer(call),
        Some(limit) if (crate::stream::METHODS..APART).contains(&limit) => crate::stream::answer(call, &pages.both),
        Some(limit) => {
            let sharing = if limit >= APART { Sharing::Apart } else { Sharing::Both };
            let page = pages.of(sharing);
            page.reset();
            call.reply(());
            Limit::from_number(limit % APART).answer(page, &socket);
        }
    };
    if how == How::Many {
        crate::idle::serve(server, handle);
    } else if how == How::Tasks {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let served = runtime.block_on(server.serve_async(|call| {
            handle(call);
            std::future::ready(())
        }));
        drop(served);
    } else {
        let _ = server.serve(handle);
    }
    true
}
