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

use super::pidfd;
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
        *collected.get_or_insert_with(|| self.told(collect(self.pidfd.as_fd())))
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

fn collect(process: std::os::fd::BorrowedFd<'_>) -> ExitStatus {
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
        // Not our child: a worker of an earlier supervisor, collected by whoever is its parent now. New kernels remember.
        Err(_) => pidfd::exit_code(process).map_or(ExitStatus::Unknown, from_wait_status),
    }
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
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(from_wait_status(0), ExitStatus::Code(0));
        assert_eq!(from_wait_status(3 << 8), ExitStatus::Code(3));
        assert_eq!(from_wait_status(9), ExitStatus::Signal(9));
        assert_eq!(from_wait_status(11 | 0x80), ExitStatus::Signal(11), "with a core dump");
    }
}
