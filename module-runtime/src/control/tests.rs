//! Workers driven by a supervisor that is a few lines on a real socket: two workers, each in a thread and runtime of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use mortise_control::parts::{Assembly, cut};
use mortise_control::stats::{PAGE_BYTES, Side, decode};
use mortise_control::{
    Attach, ChannelId, ChannelReport, ChannelRole, Encoding, Geometry, Hello, MAX_MESSAGE, MAX_PACKET, MAX_REPORT,
    Offer, PROTOCOL, PeerInfo, Phase, ResourceGrant, RouteTable, ServiceDeclaration, ServiceName, ServiceRoute, Target,
    ToSupervisor, ToWorker, Welcome, WorkerId, socket,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen, setsockopt, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;
use shm_rpc::segment;

use super::Control;
use crate::resource::sealed;
use crate::testing::boot_record;
use crate::worker::Shared;
use crate::{Error, Worker};

#[module_runtime::service(name = "words", error = String)]
pub trait Words {
    fn count(&self, text: String) -> Result<usize, String>;
    /// Answers when the gate is opened.
    async fn wait(&self) -> Result<usize, String>;
}

struct Counter {
    words: crate::Resource,
    gate: Arc<Gate>,
}

/// Holds calls of `wait` back.
struct Gate {
    entered: mpsc::Sender<()>,
    open: tokio::sync::Semaphore,
}

impl Words for Counter {
    fn count(&self, text: String) -> Result<usize, String> {
        Ok(text.split_whitespace().count())
    }
    async fn wait(&self) -> Result<usize, String> {
        self.gate.entered.send(()).map_err(|e| e.to_string())?;
        drop(self.gate.open.acquire().await);
        Ok(self.words.len())
    }
}

/// A worker in a thread.
struct Process {
    shared: Arc<Shared>,
    thread: JoinHandle<ExitCode>,
}

fn start<F, Fut>(path: &Path, worker: WorkerId, main: F) -> Process
where
    F: FnOnce(Worker) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>>,
{
    let mut boot = boot_record("words");
    boot.worker = worker;
    boot.control = path.to_path_buf();
    let (shared, reports) = Shared::new(boot, BTreeMap::new()).unwrap();
    let theirs = Arc::clone(&shared);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::spawn(Control::new(Arc::clone(&theirs), reports).run());
            crate::entry::live(&theirs, main).await
        })
    });
    Process { shared, thread }
}

impl Process {
    /// As SIGTERM does it.
    fn terminate(self) -> ExitCode {
        self.shared.terminate.send_replace(true);
        self.thread.join().unwrap()
    }
}

/// The supervisor's side of one worker.
struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    fn new(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let fd =
            nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        listen(&fd, Backlog::new(4).unwrap()).unwrap();
        patient(fd.as_fd());
        Self { fd, path: path.to_path_buf() }
    }

    fn accept(&self) -> (Line, Hello) {
        let line = Line(own(accept(self.fd.as_raw_fd()).unwrap()));
        patient(line.0.as_fd());
        let ToSupervisor::Hello(hello) = line.hear() else { panic!("a hello comes first") };
        (line, hello)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits at most ten seconds for anything, so that a test that fails ends.
fn patient(fd: BorrowedFd<'_>) {
    setsockopt(&fd, ReceiveTimeout, &TimeVal::new(10, 0)).unwrap();
}

#[allow(unsafe_code)]
fn own(fd: i32) -> OwnedFd {
    // SAFETY: `accept` has just made it, for its caller alone.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

/// A connection to a worker.
struct Line(OwnedFd);

impl Line {
    fn say(&self, message: &ToWorker, fds: &[BorrowedFd<'_>]) {
        for packet in cut(rmp_serde::to_vec_named(message).unwrap(), fds.len(), MAX_MESSAGE).unwrap() {
            socket::send_bytes(self.0.as_fd(), &packet.bytes, &fds[packet.fds]).unwrap();
        }
    }

    fn hear(&self) -> ToSupervisor {
        let (mut arriving, mut buffer) = (Assembly::new(MAX_REPORT), vec![0; MAX_PACKET]);
        loop {
            if let Some(message) = arriving.recv_without_fds(self.0.as_fd(), &mut buffer).unwrap() {
                return message;
            }
        }
    }

    fn welcome(&self, resources: &[(&str, &[u8])]) -> std::fs::File {
        let page = std::fs::File::from(memfd_create(c"figures", MFdFlags::MFD_CLOEXEC).unwrap());
        page.set_len(PAGE_BYTES as u64).unwrap();
        let grant = |(name, bytes): &(&str, &[u8])| ResourceGrant {
            name: mortise_control::ResourceName::new(name).unwrap(),
            len: bytes.len() as u64,
        };
        let sealed: Vec<OwnedFd> = resources.iter().map(|(_, bytes)| sealed(bytes).unwrap()).collect();
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(page.as_fd()).chain(sealed.iter().map(AsFd::as_fd)).collect();
        let resources = resources.iter().map(grant).collect();
        self.say(&ToWorker::Welcome(Welcome { protocol: PROTOCOL, resources }), &fds);
        page
    }

    fn ready(&self) -> (Vec<ServiceDeclaration>, Vec<ServiceDeclaration>) {
        let ToSupervisor::Declare { services, clients, .. } = self.hear() else { panic!("a declaration") };
        assert!(matches!(self.hear(), ToSupervisor::Ready));
        (services, clients)
    }
}

const CALLER: WorkerId = WorkerId { slot: 1, generation: 1 };
const CALLEE: WorkerId = WorkerId { slot: 2, generation: 1 };
const SIZE: Geometry = Geometry { slots: 64, arena: 1 << 20 };

fn service() -> ServiceName {
    ServiceName::new("words").unwrap()
}

fn attach(channel: ChannelId, role: ChannelRole) -> Attach {
    let boot = boot_record("words");
    let worker = match role {
        ChannelRole::Caller => CALLEE,
        ChannelRole::Callee => CALLER,
    };
    let peer = PeerInfo { worker, tenant: boot.tenant, module: boot.module, version: boot.version };
    Attach { channel, role, service: service(), peer, encoding: Encoding::Positional, caller: SIZE, callee: SIZE }
}

/// Introduces the two, as the supervisor does.
fn connect(channel: ChannelId, caller: &Line, callee: &Line) {
    let size = shm_rpc::Geometry::new(SIZE.slots, SIZE.arena).unwrap();
    let (a, b) = (segment::create(size).unwrap(), segment::create(size).unwrap());
    let (wake_a, wake_b) = segment::wake_pair().unwrap();
    caller.say(&ToWorker::Attach(attach(channel, ChannelRole::Caller)), &[a.as_fd(), wake_a.as_fd()]);
    callee.say(&ToWorker::Attach(attach(channel, ChannelRole::Callee)), &[b.as_fd(), wake_b.as_fd()]);
    for line in [caller, callee] {
        assert!(matches!(line.hear(), ToSupervisor::Mapped { channel: mapped } if mapped == channel));
    }
    segment::seal(&a).unwrap();
    segment::seal(&b).unwrap();
    callee.say(&ToWorker::Open { channel }, &[a.as_fd()]);
    caller.say(&ToWorker::Open { channel }, &[b.as_fd()]);
}

fn route(line: &Line, epoch: u64, channels: &[ChannelId]) {
    let targets = channels.iter().map(|it| Target { channel: *it, weight: 1, version: None }).collect();
    line.say(
        &ToWorker::Routes {
            epoch,
            services: vec![ServiceRoute {
                service: service(),
                offer: Offer::Published,
                denied: false,
                targets,
                rules: Vec::new(),
                shadow: None,
            }],
        },
        &[],
    );
    let services = Some(RouteTable::Services);
    assert!(
        matches!(line.hear(), ToSupervisor::RoutesApplied { table, epoch: applied } if (table, applied) == (services, epoch))
    );
}

/// The question that is answered when the gate opens.
const WAIT: &str = "(wait)";

type Question = (String, tokio::sync::oneshot::Sender<Result<usize, String>>);

/// Two workers and their supervisor. The caller asks what the test tells it to.
struct World {
    folder: tempfile::TempDir,
    listeners: Vec<Listener>,
    caller: (Process, Line),
    callee: (Process, Line),
    pages: Vec<std::fs::File>,
    questions: tokio::sync::mpsc::UnboundedSender<Question>,
    gate: Arc<Gate>,
    entered: mpsc::Receiver<()>,
}

fn callee(path: &Path, worker: WorkerId) -> (Process, Arc<Gate>, mpsc::Receiver<()>) {
    let (sender, entered) = mpsc::channel();
    let gate = Arc::new(Gate { entered: sender, open: tokio::sync::Semaphore::new(0) });
    let theirs = Arc::clone(&gate);
    let process = start(path, worker, |worker| async move {
        let words = worker.resource("words")?;
        worker.serve(WordsServer::new(Counter { words, gate: theirs })).run().await
    });
    (process, gate, entered)
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("caller.sock"), folder.path().join("callee.sock")];
        let listeners: Vec<Listener> = paths.iter().map(|it| Listener::new(it)).collect();
        let (questions, mut asked) = tokio::sync::mpsc::unbounded_channel::<Question>();
        let caller = start(&paths[0], CALLER, move |worker| async move {
            let words: WordsClient = worker.client();
            tokio::spawn(async move {
                while let Some((text, answer)) = asked.recv().await {
                    let words = words.with_timeout(Duration::from_secs(10));
                    // Concurrently: one that waits holds up no other.
                    tokio::spawn(async move {
                        let result = if text == WAIT { words.wait().await } else { words.count(text).await };
                        let _ = answer.send(result.map_err(|e| format!("{e:?}")));
                    });
                }
            });
            worker.serving().run().await
        });
        let (callee, gate, entered) = callee(&paths[1], CALLEE);
        let mut lines = Vec::new();
        let mut pages = Vec::new();
        for (listener, id) in listeners.iter().zip([CALLER, CALLEE]) {
            let (line, hello) = listener.accept();
            assert_eq!((hello.worker, hello.phase, hello.token.0), (id, Phase::Starting, [7; 16]));
            assert!(hello.channels.is_empty() && hello.services.is_empty());
            pages.push(line.welcome(&[("words", b"one two")]));
            let (services, clients) = line.ready();
            let declared = if id == CALLEE { &services } else { &clients };
            assert_eq!(declared[0].service, service());
            assert_ne!(declared[0].fingerprint, 0);
            assert_eq!(services.len() + clients.len(), 1);
            lines.push(line);
        }
        let (callee_line, caller_line) = (lines.pop().unwrap(), lines.pop().unwrap());
        let (caller, callee) = ((caller, caller_line), (callee, callee_line));
        Self { folder, listeners, caller, callee, pages, questions, gate, entered }
    }

    fn ask(&self, text: &str) -> tokio::sync::oneshot::Receiver<Result<usize, String>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.questions.send((text.to_owned(), sender)).unwrap();
        receiver
    }

    fn end(self) {
        for (process, line) in [self.caller, self.callee] {
            process.shared.terminate.send_replace(true);
            drop(line);
            assert_eq!(process.thread.join().unwrap(), ExitCode::SUCCESS);
        }
    }
}

fn heard(line: &Line, channel: ChannelId) -> u64 {
    match line.hear() {
        ToSupervisor::Released(released) if released.channel == channel => released.calls,
        other => panic!("{other:?} is no release of {channel}"),
    }
}

#[test]
fn a_worker_is_welcomed_connected_routed_and_let_go() {
    let world = World::new();
    let (caller, callee) = (&world.caller.1, &world.callee.1);
    let early = world.ask("it waits");
    connect(ChannelId(1), caller, callee);
    route(caller, 1, &[ChannelId(1)]);
    assert_eq!(early.blocking_recv().unwrap(), Ok(2));
    assert_eq!(world.ask("one two three").blocking_recv().unwrap(), Ok(3));

    // Replaced by another channel, as in a swap: routes first, then the old ring.
    connect(ChannelId(2), caller, callee);
    route(caller, 2, &[ChannelId(2)]);
    for line in [callee, caller] {
        line.say(&ToWorker::Close { channel: ChannelId(1) }, &[]);
        assert_eq!(heard(line, ChannelId(1)), 2);
    }
    assert_eq!(world.ask("four").blocking_recv().unwrap(), Ok(1));

    caller.say(&ToWorker::Ping { nonce: 77 }, &[]);
    assert!(matches!(caller.hear(), ToSupervisor::Pong { nonce: 77, healthy: true }));

    callee.say(&ToWorker::Drain { within_ms: 10_000 }, &[]);
    let mut served = None;
    for _ in 0..2 {
        match callee.hear() {
            ToSupervisor::Released(released) => assert_eq!((released.channel, released.calls), (ChannelId(2), 1)),
            ToSupervisor::Drained { served: count } => served = Some(count),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(served, Some(3));
    assert_eq!(*world.callee.0.shared.phase.borrow(), Phase::Drained);

    for (page, side) in world.pages.iter().zip([Side::Required, Side::Provided]) {
        let mut bytes = vec![0; PAGE_BYTES];
        page.read_exact_at(&mut bytes, 0).unwrap();
        let figures = decode(&bytes).unwrap();
        assert_eq!((figures[0].side, figures[0].calls, figures[0].errors, figures[0].in_flight), (side, 3, 0, 0));
    }
    world.end();
}

#[test]
fn a_supervisor_that_dies_stops_no_call_and_its_successor_hears_everything() {
    let world = World::new();
    connect(ChannelId(1), &world.caller.1, &world.callee.1);
    route(&world.caller.1, 1, &[ChannelId(1)]);
    assert_eq!(world.ask("one").blocking_recv().unwrap(), Ok(1));

    // Half a channel more, which must not outlive the supervisor.
    let size = shm_rpc::Geometry::new(SIZE.slots, SIZE.arena).unwrap();
    let (half, wake) = (segment::create(size).unwrap(), segment::wake_pair().unwrap().0);
    world.caller.1.say(&ToWorker::Attach(attach(ChannelId(9), ChannelRole::Caller)), &[half.as_fd(), wake.as_fd()]);
    assert!(matches!(world.caller.1.hear(), ToSupervisor::Mapped { .. }));

    let paths: Vec<PathBuf> = world.listeners.iter().map(|it| it.path.clone()).collect();
    let World { folder, listeners, caller, callee, pages, questions, gate, entered } = world;
    drop(listeners);
    let (caller, callee) = ((caller.0, drop(caller.1)).0, (callee.0, drop(callee.1)).0);
    let ask = |text: &str| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        questions.send((text.to_owned(), sender)).unwrap();
        receiver.blocking_recv().unwrap()
    };
    for _ in 0..100 {
        assert_eq!(ask("nobody is there"), Ok(3));
    }

    let listeners: Vec<Listener> = paths.iter().map(|it| Listener::new(it)).collect();
    let mut lines = Vec::new();
    let mut new_pages = Vec::new();
    for (listener, (role, peer)) in listeners.iter().zip([(ChannelRole::Caller, CALLEE), (ChannelRole::Callee, CALLER)])
    {
        let (line, hello) = listener.accept();
        let report = ChannelReport { channel: ChannelId(1), role, service: service(), peer };
        assert_eq!((hello.phase, hello.channels), (Phase::Ready, vec![report]));
        assert_eq!(hello.services.len() + hello.clients.len(), 1);
        new_pages.push(line.welcome(&[]));
        lines.push(line);
    }
    let held = |process: &Process| process.shared.state().channels.len();
    assert_eq!((held(&caller), held(&callee)), (1, 1), "the half channel went with its supervisor");
    // Figures went over to the new page; the old one stands still.
    assert_eq!(ask("on the new page"), Ok(4));
    for (page, calls) in [(&new_pages[0], 102), (&pages[0], 101)] {
        let mut bytes = vec![0; PAGE_BYTES];
        page.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(decode(&bytes).unwrap()[0].calls, calls);
    }
    // The new supervisor can do everything that the old one could.
    connect(ChannelId(2), &lines[0], &lines[1]);
    route(&lines[0], 1, &[ChannelId(2)]);
    for line in lines.iter().rev() {
        line.say(&ToWorker::Close { channel: ChannelId(1) }, &[]);
        assert_eq!(heard(line, ChannelId(1)), 102);
    }
    assert_eq!(ask("two channels"), Ok(2));
    let (callee_line, caller_line) = (lines.pop().unwrap(), lines.pop().unwrap());
    let (caller, callee) = ((caller, caller_line), (callee, callee_line));
    World { folder, listeners, caller, callee, pages: new_pages, questions, gate, entered }.end();
}

#[test]
fn a_callee_that_is_gone_is_replaced_and_its_channel_released() {
    let world = World::new();
    connect(ChannelId(1), &world.caller.1, &world.callee.1);
    route(&world.caller.1, 1, &[ChannelId(1)]);
    assert_eq!(world.ask("one").blocking_recv().unwrap(), Ok(1));
    let World { folder, mut listeners, caller, callee: first, pages, questions, .. } = world;
    // It ends by itself: its end of the wake socket closes with it.
    assert_eq!(first.0.terminate(), ExitCode::SUCCESS);
    let (sender, waiting) = tokio::sync::oneshot::channel();
    questions.send(("it waits for a worker".to_owned(), sender)).unwrap();

    let path = folder.path().join("second.sock");
    let listener = Listener::new(&path);
    let (second, gate, entered) = callee(&path, WorkerId { slot: 2, generation: 2 });
    let (line, _) = listener.accept();
    line.welcome(&[("words", b"one two")]);
    line.ready();
    connect(ChannelId(2), &caller.1, &line);
    route(&caller.1, 2, &[ChannelId(2)]);
    assert_eq!(waiting.blocking_recv().unwrap(), Ok(5));
    caller.1.say(&ToWorker::Close { channel: ChannelId(1) }, &[]);
    // The call that moved counts here too if it had been sent before the end was noticed.
    assert!(matches!(heard(&caller.1, ChannelId(1)), 1 | 2));
    listeners.push(listener);
    World { folder, listeners, caller, callee: (second, line), pages, questions, gate, entered }.end();
}

#[test]
fn a_worker_that_fails_before_it_is_ready_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::new(&folder.path().join("control.sock"));
    let fails = |main: fn(Worker) -> Result<(), Error>| {
        let process = start(&listener.path, CALLEE, move |worker| async move { main(worker) });
        let (line, _) = listener.accept();
        line.welcome(&[("words", b"")]);
        let ToSupervisor::NeverReady { reason } = line.hear() else { panic!("a reason") };
        assert_eq!(process.thread.join().unwrap(), ExitCode::from(1));
        reason
    };
    let missing = fails(|worker| worker.resource("wrods").map(drop));
    assert!(missing.contains("no resource \"wrods\"") && missing.contains("granted: words"), "{missing}");
    assert_eq!(fails(|_| Err(Error::other("x".repeat(10_000)))).len(), 4096);
    assert!(fails(|_| panic!("as asked")).contains("panicked"));
}

#[test]
fn what_does_not_fit_is_refused_and_the_worker_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::new(&folder.path().join("control.sock"));
    let (process, ..) = callee(&listener.path, CALLEE);
    let (line, _) = listener.accept();
    // One resource of another length than announced, one that is not sealed: the author's code decides what that means.
    let open = memfd_create(c"open", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let page = memfd_create(c"page", MFdFlags::MFD_CLOEXEC).unwrap();
    let grant = |name| ResourceGrant { name: mortise_control::ResourceName::new(name).unwrap(), len: 3 };
    let good = sealed(b"one").unwrap();
    let welcome = Welcome { protocol: PROTOCOL, resources: vec![grant("open"), grant("words"), grant("none")] };
    line.say(&ToWorker::Welcome(welcome), &[page.as_fd(), open.as_fd(), good.as_fd()]);
    line.ready();
    let size = shm_rpc::Geometry::new(SIZE.slots, SIZE.arena).unwrap();
    let (fd, wake) = (segment::create(size).unwrap(), segment::wake_pair().unwrap().0);
    let odd = Attach { callee: Geometry { slots: 7, arena: 0 }, ..attach(ChannelId(3), ChannelRole::Callee) };
    line.say(&ToWorker::Attach(odd), &[fd.as_fd(), wake.as_fd()]);
    assert_eq!(heard(&line, ChannelId(3)), 0);
    line.say(&ToWorker::Attach(attach(ChannelId(4), ChannelRole::Callee)), &[fd.as_fd()]);
    assert_eq!(heard(&line, ChannelId(4)), 0);
    line.say(&ToWorker::Open { channel: ChannelId(5) }, &[fd.as_fd()]);
    assert_eq!(heard(&line, ChannelId(5)), 0);
    line.say(&ToWorker::Close { channel: ChannelId(6) }, &[]);
    assert_eq!(heard(&line, ChannelId(6)), 0);
    line.say(&ToWorker::Attach(attach(ChannelId(7), ChannelRole::Callee)), &[fd.as_fd(), wake.as_fd()]);
    assert!(matches!(line.hear(), ToSupervisor::Mapped { .. }));
    // Its peer's segment is not sealed.
    line.say(&ToWorker::Open { channel: ChannelId(7) }, &[segment::create(size).unwrap().as_fd()]);
    assert_eq!(heard(&line, ChannelId(7)), 0);
    // Sealed, and no segment at all: its writer is guilty.
    let second = segment::create(size).unwrap();
    line.say(&ToWorker::Attach(attach(ChannelId(8), ChannelRole::Callee)), &[second.as_fd(), wake.as_fd()]);
    assert!(matches!(line.hear(), ToSupervisor::Mapped { .. }));
    let blank = segment::create(size).unwrap();
    segment::seal(&blank).unwrap();
    line.say(&ToWorker::Open { channel: ChannelId(8) }, &[blank.as_fd()]);
    assert!(matches!(line.hear(), ToSupervisor::Violation { channel: ChannelId(8), .. }));
    assert_eq!(heard(&line, ChannelId(8)), 0);
    assert_eq!(process.terminate(), ExitCode::SUCCESS);
}

#[test]
fn what_is_longer_than_a_packet_arrives_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = Listener::new(&path);
    let process = start(&path, CALLER, |worker| async move {
        for n in 0..40 {
            assert_eq!(&*worker.resource(&format!("r{n}"))?, format!("content {n}").as_bytes());
        }
        for n in 0..2000 {
            let _ = worker.generic_client(&ServiceName::new(&format!("service-number-{n}"))?);
        }
        worker.serving().run().await
    });
    let (line, _) = listener.accept();
    let names: Vec<(String, String)> = (0..40).map(|n| (format!("r{n}"), format!("content {n}"))).collect();
    let resources: Vec<(&str, &[u8])> = names.iter().map(|(name, text)| (&**name, text.as_bytes())).collect();
    line.welcome(&resources);
    let (_, clients) = line.ready();
    assert_eq!(clients.len(), 2000);
    assert!(rmp_serde::to_vec_named(&clients).unwrap().len() > MAX_PACKET);
    // A successor hears it all again, in the hello.
    drop((line, listener));
    let (line, hello) = Listener::new(&path).accept();
    assert_eq!(hello.clients.len(), 2000);
    let targets = vec![Target { channel: ChannelId(7), weight: 1, version: None }];
    let route = |n| ServiceRoute {
        service: ServiceName::new(&format!("service-number-{n}")).unwrap(),
        offer: Offer::Published,
        denied: false,
        targets: targets.clone(),
        rules: Vec::new(),
        shadow: None,
    };
    line.welcome(&[]);
    line.say(&ToWorker::Routes { epoch: 3, services: (0..2000).map(route).collect() }, &[]);
    assert!(matches!(line.hear(), ToSupervisor::RoutesApplied { table: Some(RouteTable::Services), epoch: 3 }));
    assert_eq!(process.shared.state().told.len(), 2000);
    drop(line);
    assert_eq!(process.terminate(), ExitCode::SUCCESS);
}

#[test]
fn a_base_hears_routes_and_what_it_said_is_told_to_a_successor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = Listener::new(&path);
    let (told, routes) = mpsc::channel();
    let mut boot = boot_record("base");
    boot.role = mortise_control::Role::Base;
    boot.control = path.clone();
    let (shared, reports) = Shared::new(boot, BTreeMap::new()).unwrap();
    let theirs = Arc::clone(&shared);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::spawn(Control::new(Arc::clone(&theirs), reports).run());
            let main = |worker: Worker| async move {
                let base = worker.base().expect("it is the base");
                let mut feed = base.http_routes().expect("the first taker");
                assert!(base.http_routes().is_none());
                base.want(&service());
                base.want(&service());
                tokio::spawn(async move {
                    while let Some(routes) = feed.next().await {
                        told.send(routes.routes.len()).unwrap();
                        routes.applied();
                        base.http_drained(CALLEE);
                    }
                });
                worker.serving().run().await
            };
            crate::entry::live(&theirs, main).await
        })
    });
    let (line, _) = listener.accept();
    line.welcome(&[]);
    assert!(matches!(line.hear(), ToSupervisor::Want { .. }));
    line.ready();
    line.say(&ToWorker::HttpRoutes { epoch: 5, routes: vec![] }, &[]);
    assert!(matches!(line.hear(), ToSupervisor::RoutesApplied { table: Some(RouteTable::Http), epoch: 5 }));
    assert!(matches!(line.hear(), ToSupervisor::HttpDrained { worker: CALLEE }));
    assert_eq!(routes.recv().unwrap(), 0);
    drop((line, listener));
    let listener = Listener::new(&path);
    let (line, hello) = listener.accept();
    assert_eq!(hello.phase, Phase::Ready);
    line.welcome(&[]);
    assert!(matches!(line.hear(), ToSupervisor::Want { .. }));
    assert!(matches!(line.hear(), ToSupervisor::HttpDrained { worker: CALLEE }));
    shared.terminate.send_replace(true);
    assert!(matches!(line.hear(), ToSupervisor::Drained { served: 0 }));
    assert_eq!(thread.join().unwrap(), ExitCode::SUCCESS);
}

#[test]
fn a_channel_that_is_closed_with_a_call_in_it_is_told_of_until_it_is_unmapped() {
    let world = World::new();
    connect(ChannelId(1), &world.caller.1, &world.callee.1);
    route(&world.caller.1, 1, &[ChannelId(1)]);
    let waiting = world.ask(WAIT);
    world.entered.recv_timeout(Duration::from_secs(10)).unwrap();
    for line in [&world.callee.1, &world.caller.1] {
        line.say(&ToWorker::Close { channel: ChannelId(1) }, &[]);
        // The answer shows that what was said before has been heard.
        line.say(&ToWorker::Ping { nonce: 1 }, &[]);
        assert!(matches!(line.hear(), ToSupervisor::Pong { .. }), "nothing is released with a call in it");
    }
    let paths: Vec<PathBuf> = world.listeners.iter().map(|it| it.path.clone()).collect();
    let World { folder, listeners, caller, callee, pages, questions, gate, entered } = world;
    drop((listeners, caller.1, callee.1));
    let listeners: Vec<Listener> = paths.iter().map(|it| Listener::new(it)).collect();
    let mut lines: Vec<Line> = Vec::new();
    for listener in &listeners {
        let (line, hello) = listener.accept();
        assert_eq!(hello.channels.iter().map(|it| it.channel).collect::<Vec<_>>(), [ChannelId(1)]);
        line.welcome(&[]);
        lines.push(line);
    }
    gate.open.add_permits(1);
    assert_eq!(waiting.blocking_recv().unwrap(), Ok(7));
    assert!(lines.iter().all(|it| heard(it, ChannelId(1)) == 1));
    let (callee_line, caller_line) = (lines.pop().unwrap(), lines.pop().unwrap());
    let (caller, callee) = ((caller.0, caller_line), (callee.0, callee_line));
    World { folder, listeners, caller, callee, pages, questions, gate, entered }.end();
}

#[test]
fn what_was_found_while_nobody_was_there_is_told_after_the_next_welcome() {
    let world = World::new();
    let World { folder, mut listeners, caller, callee, pages, questions, gate, entered } = world;
    let path = listeners[1].path.clone();
    drop((listeners.pop(), callee.1));
    callee.0.shared.reports.send(ToSupervisor::Violation { channel: ChannelId(3), what: "a lie".into() });
    let listener = Listener::new(&path);
    let (line, _) = listener.accept();
    let early = nix::sys::socket::recv(line.0.as_raw_fd(), &mut [0; 64], nix::sys::socket::MsgFlags::MSG_DONTWAIT);
    assert_eq!(early, Err(nix::errno::Errno::EAGAIN), "nothing but the hello is said before the welcome");
    line.welcome(&[]);
    assert!(matches!(line.hear(), ToSupervisor::Violation { channel: ChannelId(3), .. }));
    listeners.push(listener);
    World { folder, listeners, caller, callee: (callee.0, line), pages, questions, gate, entered }.end();
}

#[test]
fn a_drain_closes_a_channel_that_opens_late() {
    let world = World::new();
    let (caller, callee) = (&world.caller.1, &world.callee.1);
    connect(ChannelId(1), caller, callee);
    route(caller, 1, &[ChannelId(1)]);
    let waiting = world.ask(WAIT);
    world.entered.recv_timeout(Duration::from_secs(10)).unwrap();
    // Attached before the drain, opened in it.
    let size = shm_rpc::Geometry::new(SIZE.slots, SIZE.arena).unwrap();
    let (own, peer) = (segment::create(size).unwrap(), segment::create(size).unwrap());
    let (wake, theirs) = segment::wake_pair().unwrap();
    callee.say(&ToWorker::Attach(attach(ChannelId(2), ChannelRole::Callee)), &[own.as_fd(), wake.as_fd()]);
    assert!(matches!(callee.hear(), ToSupervisor::Mapped { .. }));
    drop(shm_rpc::OwnSegment::map(&peer, size).unwrap());
    segment::seal(&peer).unwrap();
    callee.say(&ToWorker::Drain { within_ms: 10_000 }, &[]);
    callee.say(&ToWorker::Open { channel: ChannelId(2) }, &[peer.as_fd()]);
    assert_eq!(heard(callee, ChannelId(2)), 0);
    // Nobody new is taken in.
    callee.say(&ToWorker::Attach(attach(ChannelId(3), ChannelRole::Callee)), &[own.as_fd(), theirs.as_fd()]);
    assert_eq!(heard(callee, ChannelId(3)), 0);
    world.gate.open.add_permits(1);
    assert_eq!(waiting.blocking_recv().unwrap(), Ok(7));
    let mut last = [callee.hear(), callee.hear()];
    last.sort_by_key(|it| matches!(it, ToSupervisor::Drained { .. }));
    assert!(matches!(&last, [ToSupervisor::Released(_), ToSupervisor::Drained { served: 1 }]), "{last:?}");
    world.end();
}

/// What `export_state` and `import_state` do, over the wire; and a worker without them.
#[test]
fn state_is_written_to_memory_of_the_supervisor_s_and_read_from_sealed_memory() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::new(&folder.path().join("control.sock"));
    let (taken, takes) = mpsc::channel();
    let process = start(&listener.path, CALLEE, move |worker| async move {
        let export = |to: &mut crate::StateWriter| std::io::Write::write_all(to, &[7; 100_000]);
        let import = move |version, state: &[u8]| match state {
            b"panic" => panic!("as it was told"),
            b"no" => Err("it does not like it"),
            _ => taken.send((version, state.to_vec())).map_err(|_| "nobody listens"),
        };
        worker.serving().export_state(3, export).import_state(import).run().await
    });
    let (line, hello) = listener.accept();
    assert_eq!(hello.state, None, "its code has not said so yet");
    line.welcome(&[]);
    let ToSupervisor::Declare { state, .. } = line.hear() else { panic!("a declaration") };
    assert_eq!(state, Some(3));
    assert!(matches!(line.hear(), ToSupervisor::Ready));

    let exports = |handover, max_bytes: u64| {
        let memory = memfd_create(c"state", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        line.say(&ToWorker::ExportState { handover, max_bytes }, &[memory.as_fd()]);
        let ToSupervisor::StateExported { handover: back, outcome } = line.hear() else { panic!("an answer") };
        assert_eq!(back, handover);
        (memory, outcome)
    };
    let (memory, exported) = exports(1, 1 << 20);
    let exported = exported.unwrap();
    assert_eq!((exported.version, exported.len), (3, 100_000));
    let mut found = vec![0; 100_001];
    assert_eq!(std::fs::File::from(memory).read_at(&mut found, 0).unwrap(), 100_000);
    assert!(found[..100_000].iter().all(|it| *it == 7));
    let refused = exports(2, 99_999).1.unwrap_err();
    assert_eq!(refused, "the state has more than handover.max_bytes = 99999 bytes");

    let imports = |handover, memory: OwnedFd, len| {
        line.say(&ToWorker::ImportState { handover, version: 2, len }, &[memory.as_fd()]);
        let ToSupervisor::StateImported { handover: back, outcome } = line.hear() else { panic!("an answer") };
        assert_eq!(back, handover);
        outcome
    };
    assert_eq!(imports(3, sealed(b"forty-two").unwrap(), 9), Ok(()));
    assert_eq!(takes.try_recv(), Ok((2, b"forty-two".to_vec())));
    assert_eq!(imports(4, sealed(b"no").unwrap(), 2), Err("it does not like it".to_owned()));
    assert!(imports(5, sealed(b"panic").unwrap(), 5).unwrap_err().contains("import_state panicked"));
    let open = memfd_create(c"state", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    assert!(imports(6, open, 0).unwrap_err().contains("its seals are"), "what could still change is not read");
    assert!(imports(7, sealed(b"x").unwrap(), 2).unwrap_err().contains("it has 1 bytes, and 2 were announced"));
    assert_eq!(process.terminate(), ExitCode::SUCCESS);
}

#[test]
fn a_worker_hands_state_over_both_ways_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::new(&folder.path().join("control.sock"));
    let process = start(&listener.path, CALLEE, |worker| async move {
        worker.serving().export_state(1, |_| Ok::<(), String>(())).run().await
    });
    let (line, _) = listener.accept();
    line.welcome(&[]);
    let ToSupervisor::NeverReady { reason } = line.hear() else { panic!("it cannot be ready") };
    assert!(reason.contains("has export_state and no import_state"), "{reason}");
    assert_eq!(process.thread.join().unwrap(), ExitCode::FAILURE);
}
