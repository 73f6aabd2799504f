//! Speaking for a program that has no SDK.
//!
//! ```text
//!   supervisor ◀── control.rs ──▶ ┌──────┐ ◀── signals, the program's end
//!                                 │ loop │
//!   base ── http socket, dial.rs ▶└──────┘ ── probe.rs ──▶ the program's port
//! ```
//!
//! One thread, one poll. Requests never pass through here: the base gets a connection to the program and speaks to it itself.

mod control;
mod dial;
mod probe;

use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use mortise_control::plan::{DONE, Listen, Program, Serve};
use mortise_control::{Boot, Phase, RouteTable, ToWorker};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Broken, Never, start};
use control::Control;
use dial::Dials;
use probe::{Outcome, Probe};

/// Signals that are passed on to the program.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Between two tries to reach a program that is starting.
const PROBE_FIRST: Duration = Duration::from_millis(5);
const PROBE_MOST: Duration = Duration::from_millis(200);

/// Everything the loop knows.
struct Server {
    program: Pid,
    phase: Phase,
    control: Control,
    dials: Dials,
    prober: Prober,
    signals: SignalFd,
}

/// Asking the program if it is well.
struct Prober {
    address: SocketAddrV4,
    /// The listener that the program inherited, to see whether it accepts.
    listener: Option<TcpListener>,
    health: Option<String>,
    running: Option<Probe>,
    /// Pings that wait for the running probe or the next.
    nonces: Vec<u64>,
    /// While it starts: when to try next, and the pause after that.
    next: Option<Instant>,
    pause: Duration,
}

/// Starts the program and serves until it ends.
pub(crate) fn serve(program: &Program, how: &Serve, boot: Boot, status: &mut File) -> Result<Never, Broken> {
    let broken = |step, about: &str| {
        let about = about.to_owned();
        move |error: io::Error| Broken::new(step, about, &error)
    };
    let http = boot.inherited_fd("http").ok_or(Errno::ENOENT.into()).and_then(start::inherited);
    let http = http.map_err(broken("boot", "the socket `http`"))?;
    let listener = match how.listen {
        Listen::Inherit => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(broken("listen", "127.0.0.1:0"))?),
        Listen::Port(_) => None,
    };
    let port = match (how.listen, &listener) {
        (Listen::Port(port), _) => port,
        (Listen::Inherit, None) => 0,
        (Listen::Inherit, Some(it)) => it.local_addr().map_err(broken("listen", "its address"))?.port(),
    };
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let signals = signals().map_err(broken("exec", "signals"))?;
    // Nobody in the pid namespace but the supervisor's choice may look into or trace this process.
    let _ = nix::sys::prctl::set_dumpable(false);
    // Where the pid namespace is shared, orphans come to us all the same.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let child = start::program(program, listener.as_ref().map(AsFd::as_fd))
        .map_err(broken("exec", &program.path.display().to_string()))?;
    status.write_all(&[DONE]).map_err(broken("exec", "the status pipe"))?;
    close(status);
    let prober = Prober {
        address,
        listener,
        health: how.health.clone(),
        running: None,
        nonces: Vec::new(),
        next: Some(Instant::now()),
        pause: PROBE_FIRST,
    };
    let dials = Dials::new(http, address).map_err(broken("boot", "the socket `http`"))?;
    Server { program: child, phase: Phase::Starting, control: Control::new(boot), dials, prober, signals }.run()
}

/// The supervisor waits for its end.
fn close(status: &mut File) {
    if let Ok(null) = File::open("/dev/null") {
        drop(std::mem::replace(status, null));
    }
}

fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::from_iter(FORWARDED);
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Control,
    Dials,
    Probe,
}

impl Server {
    fn run(mut self) -> ! {
        loop {
            let now = Instant::now();
            self.control.keep_connected(self.phase, now);
            self.probe_if_due(now);
            for source in self.wait(now) {
                match source {
                    Source::Signals => self.take_signals(),
                    Source::Control => self.take_messages(),
                    Source::Dials => self.dials.advance(self.phase),
                    Source::Probe => self.advance_probe(),
                }
            }
            let now = Instant::now();
            self.dials.give_up(now);
            if self.prober.running.as_ref().is_some_and(|it| it.is_late(now)) {
                self.advance_probe();
            }
            if self.phase == Phase::Draining && self.dials.is_idle() {
                self.phase = Phase::Drained;
                self.control.tell_drained(self.dials.served());
            }
        }
    }

    /// Waits until something is ready or due.
    fn wait(&self, now: Instant) -> Vec<Source> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let mut sources = vec![Source::Signals];
        let parts = [
            (Source::Control, self.control.poll_fds()),
            (Source::Dials, self.dials.poll_fds(self.phase)),
            (Source::Probe, self.prober.running.as_ref().map(Probe::poll_fd).into_iter().flatten().collect()),
        ];
        for (source, part) in parts {
            sources.extend(std::iter::repeat_n(source, part.len()));
            fds.extend(part);
        }
        let deadlines = [
            self.control.deadline(),
            self.dials.deadline(),
            self.prober.running.as_ref().map(Probe::deadline),
            self.prober.next.filter(|_| self.prober.running.is_none()),
        ];
        let due = deadlines.into_iter().flatten().min();
        // Rounded up, or the last millisecond would be spent spinning.
        let left = due.map(|it| it.saturating_duration_since(now) + Duration::from_micros(999));
        let timeout = left.map_or(PollTimeout::NONE, |it| PollTimeout::try_from(it).unwrap_or(PollTimeout::MAX));
        if poll(&mut fds, timeout).is_err() {
            return Vec::new();
        }
        let ready = |(fd, source): (&PollFd<'_>, Source)| fd.any().unwrap_or(true).then_some(source);
        let mut ready: Vec<_> = fds.iter().zip(sources).filter_map(ready).collect();
        ready.dedup_by_key(|it| std::mem::discriminant(it));
        ready
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => self.reap(),
                // It may have ended just now; then its end is the next signal.
                Ok(signal) => drop(kill(self.program, signal)),
                Err(_) => {}
            }
        }
    }

    /// Collects whoever has ended. With the program this process ends too, and the kernel ends whatever is left in its pid namespace.
    fn reap(&self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.program => std::process::exit(code),
                // A pid 1 cannot end itself by a signal: 128 + its number, as shells do.
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.program => {
                    std::process::exit(128 + signal as i32)
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn take_messages(&mut self) {
        for message in self.control.receive() {
            match message {
                ToWorker::Welcome(_) => self.control.welcomed(self.phase),
                ToWorker::Drain { .. } => {
                    if self.phase != Phase::Drained {
                        self.phase = Phase::Draining;
                        self.dials.finish();
                    } else {
                        self.control.tell_drained(self.dials.served());
                    }
                }
                ToWorker::Ping { nonce } => self.prober.nonces.push(nonce),
                ToWorker::Routes { epoch, .. } => self.control.tell_applied(RouteTable::Services, epoch),
                ToWorker::HttpRoutes { epoch, .. } => self.control.tell_applied(RouteTable::Http, epoch),
                ToWorker::Close { channel } => self.control.tell_released(channel),
                // A program without SDK has no channels; their descriptors have been closed.
                ToWorker::Attach(_) | ToWorker::Open { .. } => {}
                // Nor any state that it hands over; nobody asks it.
                ToWorker::ExportState { .. } | ToWorker::ImportState { .. } => {}
            }
        }
    }

    fn probe_if_due(&mut self, now: Instant) {
        let due = !self.prober.nonces.is_empty() || self.prober.next.is_some_and(|it| it <= now);
        if self.prober.running.is_none() && due {
            self.prober.running = Some(Probe::start(self.prober.address, self.prober.health.as_deref(), now));
            self.advance_probe();
        }
    }

    fn advance_probe(&mut self) {
        let Some(probe) = &mut self.prober.running else { return };
        let healthy = match probe.advance(self.prober.listener.as_ref()) {
            Outcome::Pending => return,
            Outcome::Well => true,
            Outcome::Unwell => false,
        };
        self.prober.running = None;
        for nonce in self.prober.nonces.drain(..) {
            self.control.tell_pong(nonce, healthy);
        }
        if self.phase != Phase::Starting {
            return;
        }
        if healthy {
            self.prober.next = None;
            self.phase = Phase::Ready;
            self.control.tell_ready_if_new(self.phase);
        } else {
            self.prober.next = Some(Instant::now() + self.prober.pause);
            self.prober.pause = (self.prober.pause * 2).min(PROBE_MOST);
        }
    }
}

/// For the poll set of a part.
fn readable(fd: &OwnedFd) -> PollFd<'_> {
    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
}
