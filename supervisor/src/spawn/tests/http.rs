//! Programs without SDK: init speaks for them.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mortise_control::{
    ChannelId, Hello, MAX_PACKET, PROTOCOL, Phase, Role, RouteTable, ToSupervisor, ToWorker, Welcome, socket,
};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg};

use super::house::{House, wait_readable};
use crate::lifecycle::ExitStatus;
use crate::manifest::Listen;
use crate::spawn::{Running, Serve, WorkerSpec};

const INHERIT: &str = "\
import os, socket, http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if self.path == '/sick' else 200)
        body = (self.path + ' ' + ','.join(sorted(os.listdir('/proc/self/fd')))).encode()
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
assert os.environ['LISTEN_FDS'] == '1' and int(os.environ['LISTEN_PID']) == os.getpid() != 1
signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
server = http.server.HTTPServer(('127.0.0.1', 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
server.serve_forever()
";
const PORT: &str = "exec python3 -m http.server --bind 127.0.0.1 $PORT";

fn serve(mut spec: WorkerSpec, listen: Listen, health: Option<&str>) -> WorkerSpec {
    spec.role = Role::Http;
    spec.http = true;
    spec.serve = Some(Serve { listen, health: health.map(Into::into) });
    spec
}

/// The supervisor's end of a control connection.
struct Control(OwnedFd);

impl Control {
    fn accept(running: &Running) -> Self {
        wait_readable(&running.control);
        let accepted = accept4(running.control.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
        Self(super::super::pidfd::own(accepted))
    }

    fn hello(&self) -> Hello {
        match self.next() {
            ToSupervisor::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    fn next(&self) -> ToSupervisor {
        wait_readable(&self.0);
        socket::recv_without_fds(self.0.as_fd(), &mut vec![0; MAX_PACKET]).unwrap()
    }

    fn send(&self, message: ToWorker) {
        socket::send(self.0.as_fd(), &message, &[]).unwrap();
    }

    fn welcome(&self) {
        self.send(ToWorker::Welcome(Welcome { protocol: PROTOCOL, resources: Vec::new() }));
    }

    fn ping(&self, nonce: u64) -> bool {
        self.send(ToWorker::Ping { nonce });
        match self.next() {
            ToSupervisor::Pong { nonce: back, healthy } if back == nonce => healthy,
            other => panic!("{other:?}"),
        }
    }
}

/// As a base does: one byte and a connection.
fn dial(house: &House, running: &Running) -> Option<TcpStream> {
    let path = house.config.run.join(format!("http/{}.sock", running.worker));
    let stream = UnixStream::connect(path).unwrap();
    let mut byte = [1];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let received =
        recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    assert_eq!(received.bytes, 1);
    let fd = received.cmsgs().unwrap().find_map(|it| match it {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    })?;
    let stream = TcpStream::from(super::super::pidfd::own(fd));
    stream.set_nonblocking(false).unwrap();
    Some(stream)
}

fn get(mut stream: TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_program_that_inherits_a_listener() {
    let Some(house) = House::build() else { return };
    let spec = house.spec("/usr/bin/python3", &["-c", INHERIT]);
    let running = house.spawn(serve(spec, Listen::Inherit, None));
    let control = Control::accept(&running);
    let hello = control.hello();
    assert_eq!((hello.worker, hello.token.0, hello.protocol), (running.worker, [7; 16], PROTOCOL));
    control.welcome();
    if hello.phase == Phase::Starting {
        assert!(matches!(control.next(), ToSupervisor::Ready));
    }
    assert!(control.ping(1));
    let answer = get(dial(&house, &running).unwrap(), "/x");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("/x 0,1,2,3,4,5"), "{answer}");

    // The supervisor goes and comes back.
    drop(control);
    let control = Control::accept(&running);
    assert_eq!(control.hello().phase, Phase::Ready);
    control.welcome();
    control.send(ToWorker::Routes { epoch: 7, services: Vec::new() });
    assert!(matches!(control.next(), ToSupervisor::RoutesApplied { table: Some(RouteTable::Services), epoch: 7 }));
    control.send(ToWorker::Close { channel: ChannelId(9) });
    assert!(matches!(control.next(), ToSupervisor::Released(it) if it.channel == ChannelId(9)));

    control.send(ToWorker::Drain { within_ms: 1000 });
    assert!(matches!(control.next(), ToSupervisor::Drained { served: 1 }));
    let path = house.config.run.join(format!("http/{}.sock", running.worker));
    assert!(UnixStream::connect(path).is_err(), "nothing is accepted after a drain");
    running.process.terminate().unwrap();
    assert_eq!(house.exit(&running), ExitStatus::Code(4));
}

#[test]
fn a_program_that_binds_a_port() {
    let Some(house) = House::build() else { return };
    let running = house.spawn(serve(house.shell(PORT), Listen::Port, Some("/greeting")));
    let control = Control::accept(&running);
    let hello = control.hello();
    control.welcome();
    if hello.phase == Phase::Starting {
        assert!(matches!(control.next(), ToSupervisor::Ready));
    }
    assert!(control.ping(2));
    let answer = get(dial(&house, &running).unwrap(), "/greeting");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("hello\n"), "{answer}");
    // The program has no handler, and it is no pid 1.
    running.process.terminate().unwrap();
    assert_eq!(house.exit(&running), ExitStatus::Signal(15));
}

#[test]
fn a_sick_program_is_not_ready_and_a_silent_one_is_not_accepting() {
    let Some(house) = House::build() else { return };
    let spec = house.spec("/usr/bin/python3", &["-c", INHERIT]);
    let running = house.spawn(serve(spec, Listen::Inherit, Some("/sick")));
    let control = Control::accept(&running);
    assert_eq!(control.hello().phase, Phase::Starting);
    control.welcome();
    // An answer to a ping comes after a probe: no `Ready` came before it.
    assert!(!control.ping(3));
    assert!(!control.ping(4));
    drop(dial_nobody(&house, &running));
}

/// A connection waits while the program is starting.
fn dial_nobody(house: &House, running: &Running) -> UnixStream {
    let stream = UnixStream::connect(house.config.run.join(format!("http/{}.sock", running.worker))).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut file = File::from(stream.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(file.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    stream
}

#[test]
fn a_program_that_goes_away_is_told_as_no_descriptor() {
    let Some(house) = House::build() else { return };
    // It serves until it is asked for /close, and lives on without its listener.
    let script = INHERIT.replace(
        "server.serve_forever()",
        "server.handle_request()\nserver.handle_request()\nserver.socket.shutdown(socket.SHUT_RDWR)\nserver.socket.close()\nprint('closed', flush=True)\nsignal.pause()",
    );
    let running = house.spawn(serve(house.spec("/usr/bin/python3", &["-c", &script]), Listen::Inherit, None));
    let control = Control::accept(&running);
    let hello = control.hello();
    control.welcome();
    if hello.phase == Phase::Starting {
        assert!(matches!(control.next(), ToSupervisor::Ready));
    }
    get(dial(&house, &running).unwrap(), "/");
    super::house::read_until(&running.stdout, "closed");
    assert!(dial(&house, &running).is_none());
    assert!(!control.ping(5));
}

#[test]
fn a_program_that_cannot_be_started_is_told() {
    let Some(house) = House::build() else { return };
    let spec = serve(house.spec("/usr/bin/no-such-server", &[]), Listen::Port, None);
    let worker = spec.worker;
    let failed = house.runtime.block_on(house.spawner.spawn(spec)).unwrap_err().to_string();
    assert!(failed.contains("exec (/usr/bin/no-such-server): ENOENT"), "{failed}");
    house.runtime.block_on(house.spawner.remove(worker)).unwrap();
}
