//! A worker's first process, known by its pidfd.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use mortise_control::Role;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::{pidfd, stat};
use crate::lifecycle::ExitStatus;

/// A worker's first process. It must be waited for ([`Self::exited`]), or it stays a zombie.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    pid: u32,
    role: Role,
    collected: Mutex<Option<ExitStatus>>,
}

impl Process {
    pub(super) const fn new(pid: u32, pidfd: OwnedFd, role: Role) -> Self {
        Self { pidfd, pid, role, collected: Mutex::new(None) }
    }

    /// Its pid, as the host sees it.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end and collects it. Must be called in a tokio runtime. Cancel safe; answers the same again when asked again.
    pub async fn exited(&self) -> ExitStatus {
        // A descriptor of its own for each caller: a reactor takes each only once.
        let ended = async {
            let fd = pidfd::in_reactor(self.pidfd.try_clone()?)?;
            fd.readable().await.map(|_| ())
        };
        if let Err(error) = ended.await {
            tracing::error!(pid = self.pid, %error, "cannot wait for a process in the event loop; a thread waits for it");
            let Ok(fd) = self.pidfd.try_clone() else { return ExitStatus::Unknown };
            let waiting = tokio::task::spawn_blocking(move || {
                let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            });
            let _ = waiting.await;
        }
        self.collect()
    }

    /// Sends SIGTERM. One that has ended is no error.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Sends SIGKILL to this process alone; with a pid namespace of its own, the kernel then ends the others in it. To end a worker
    /// as a whole, kill its group.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Waits for its end in this thread and collects it.
    pub(super) fn wait(&self) -> ExitStatus {
        while let Err(Errno::EINTR) = poll(&mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)
        {
        }
        self.collect()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd::signal(self.pidfd.as_fd(), signal) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// It has ended: how?
    fn collect(&self) -> ExitStatus {
        let mut collected = self.collected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *collected.get_or_insert_with(|| self.told(collect(self.pid, self.pidfd.as_fd())))
    }

    /// A pid 1 cannot die of a signal that it sends itself, so the init of a program without SDK ends with 128 + the signal of the
    /// program, as shells do.
    fn told(&self, status: ExitStatus) -> ExitStatus {
        match (self.role, status) {
            (Role::Http, ExitStatus::Code(code)) if (129..=192).contains(&code) => ExitStatus::Signal(code - 128),
            (_, status) => status,
        }
    }
}

/// How a process ended that has: its own parent collects it, also one that has become another program since.
pub(super) fn collect(pid: u32, process: std::os::fd::BorrowedFd<'_>) -> ExitStatus {
    let ended = loop {
        match waitid(Id::PIDFd(process), WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            other => break other,
        }
    };
    match ended {
        Ok(WaitStatus::Exited(_, code)) => ExitStatus::Code(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::Signal(signal as i32),
        Ok(_) => ExitStatus::Unknown,
        // Not our child: a worker of an earlier supervisor.
        Err(_) => ended_elsewhere(pid, process),
    }
}

/// How a process ended that is not our child. Whoever is its parent now collects it, sooner or later: before that /proc tells, after
/// it a new kernel's pidfd.
fn ended_elsewhere(pid: u32, process: std::os::fd::BorrowedFd<'_>) -> ExitStatus {
    let collected = || pidfd::exit_code(process);
    // As long as it is not collected, its number is its own.
    let waiting = || stat::exit_code(pid).filter(|_| pidfd::is_there(process));
    // It may be collected between the two.
    collected().or_else(waiting).or_else(collected).map_or(ExitStatus::Unknown, from_wait_status)
}

fn from_wait_status(status: i32) -> ExitStatus {
    match status & 0x7f {
        0 => ExitStatus::Code((status >> 8) & 0xff),
        signal => ExitStatus::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_an_orphan_ended_is_known_before_and_after_its_new_parent_collects_it() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};
        // By way of descriptor 3: a shell gives what it starts with `&` /dev/null for an input, and the orphan would not wait.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", r#"exec 3<&0; /bin/sh -c 'read line; exit 7' <&3 & echo $!"#])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let gate = shell.stdin.take().unwrap();
        shell.wait().unwrap();
        let pid = line.trim().parse().unwrap();
        let orphan = Process::new(pid, pidfd::open(pid).unwrap(), Role::Sdk);
        drop(gate);
        // Nobody may have collected it yet.
        assert_eq!(orphan.wait(), ExitStatus::Code(7));
        while pidfd::is_there(orphan.pidfd.as_fd()) {
            std::thread::yield_now();
        }
        match pidfd::exit_code(orphan.pidfd.as_fd()) {
            None => println!("skipped: this kernel forgets the exit code with the process (before Linux 6.15)"),
            Some(_) => assert_eq!(ended_elsewhere(pid, orphan.pidfd.as_fd()), ExitStatus::Code(7)),
        }
    }

    #[test]
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(from_wait_status(0), ExitStatus::Code(0));
        assert_eq!(from_wait_status(3 << 8), ExitStatus::Code(3));
        assert_eq!(from_wait_status(9), ExitStatus::Signal(9));
        assert_eq!(from_wait_status(11 | 0x80), ExitStatus::Signal(11), "with a core dump");
    }
}
