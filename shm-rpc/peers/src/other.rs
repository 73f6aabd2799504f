//! The process at the other end of a way: started, stopped while it is not measured, ended.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::page;
use crate::ways::Way;

const VARIABLE: &str = "IPC_PEERS_OTHER";

/// Where the two processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    TwoCores,
    OneCore,
}

impl Placement {
    pub const ALL: [Self; 2] = [Self::TwoCores, Self::OneCore];

    pub const fn name(self) -> &'static str {
        match self {
            Self::TwoCores => "two cores",
            Self::OneCore => "one core",
        }
    }

    const fn callee_cpu(self) -> usize {
        match self {
            Self::TwoCores => 1,
            Self::OneCore => 0,
        }
    }
}

/// Pins the calling thread, and all that it starts.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).expect("two CPUs are needed");
}

/// A process at the other end.
pub struct Other {
    child: Child,
    /// Called before it is killed.
    end: Option<Box<dyn FnOnce()>>,
}

impl Other {
    /// Starts it, hands it `fds`, and waits until it says that it is ready.
    pub fn start(way: &str, placement: Placement, fds: &[&dyn AsRaw], text: &str) -> Self {
        let mut other = Self::begin(way, placement, fds, text);
        other.wait_ready();
        other
    }

    /// Starts it without waiting.
    pub fn begin(way: &str, placement: Placement, fds: &[&dyn AsRaw], text: &str) -> Self {
        for fd in fds {
            fcntl(fd.borrowed(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        }
        let numbers: Vec<_> = fds.iter().map(|it| it.borrowed().as_raw_fd().to_string()).collect();
        let child = Command::new("/proc/self/exe")
            .env(VARIABLE, format!("{way} {} {} {text}", placement.callee_cpu(), numbers.join(",")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for fd in fds {
            fcntl(fd.borrowed(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        Self { child, end: None }
    }

    pub fn wait_ready(&mut self) {
        self.child.stdout.as_mut().unwrap().read_exact(&mut [0]).expect("the other process ended early");
    }

    pub fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"g").unwrap();
    }

    /// What lets it end by itself, for those that must clean up.
    pub fn ended_by(mut self, end: impl FnOnce() + 'static) -> Self {
        self.end = Some(Box::new(end));
        self
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Stops it, all its threads, and knows it.
    pub fn pause(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    }

    pub fn resume(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.resume();
        match self.end.take() {
            Some(end) => end(),
            None => drop(self.child.kill()),
        }
        let _ = self.child.wait();
    }
}

/// Anything that is a descriptor.
pub trait AsRaw {
    fn borrowed(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsRaw for T {
    fn borrowed(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

/// What the other process was given.
pub struct Given {
    fds: Vec<i32>,
    pub text: String,
}

impl Given {
    /// Opens the file behind descriptor number `index`.
    pub fn open(&self, index: usize) -> File {
        File::options().read(true).write(true).open(format!("/proc/self/fd/{}", self.fds[index])).unwrap()
    }

    /// Opens it for reading: there are writable seals on it.
    pub fn open_to_read(&self, index: usize) -> File {
        File::open(format!("/proc/self/fd/{}", self.fds[index])).unwrap()
    }

    /// Takes descriptor number `index` over, once.
    pub fn take(&self, index: usize) -> OwnedFd {
        page::inherited(self.fds[index])
    }

    pub fn ready(&self) {
        std::io::stdout().write_all(b"r").unwrap();
        std::io::stdout().flush().unwrap();
    }

    pub fn wait_for_go_on(&self) {
        std::io::stdin().read_exact(&mut [0]).unwrap();
    }
}

/// What the other process does.
pub fn serve_if_asked() -> bool {
    let Ok(asked) = std::env::var(VARIABLE) else { return false };
    let mut words = asked.splitn(4, ' ');
    let mut word = || words.next().unwrap();
    let (way, cpu, fds, text) = (word(), word(), word(), word());
    pin(cpu.parse().unwrap());
    let fds = fds.split(',').filter(|it| !it.is_empty()).map(|it| it.parse().unwrap()).collect();
    (Way::named(way).serve)(&Given { fds, text: text.to_owned() });
    true
}
