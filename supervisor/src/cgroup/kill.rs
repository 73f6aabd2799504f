//! Ending every process of a group.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::figures::keyed;
use super::{CgroupError, Controller, Group};
use crate::spawn::pidfd;

/// How often the members are listed before it is given up that they become fewer.
const ROUNDS: usize = 64;

pub(super) fn kill(group: &Group) -> Result<(), CgroupError> {
    if let Some(v2) = &group.v2 {
        let file = v2.path.join("cgroup.kill");
        match fs::write(&file, "1") {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {} // before Linux 5.14, or the group is gone
            Err(source) => return Err(CgroupError::File { what: "write", path: file, source }),
        }
    }
    kill_one_by_one(group)
}

/// Without cgroup.kill: nobody in the group can fork any more, all are stopped, all are signalled, and the signals take effect
/// when it is thawed (a frozen v1 task does not die). Repeated until a listing shows nobody new: a fork that was under way when the
/// limit was set still adds its child.
fn kill_one_by_one(group: &Group) -> Result<(), CgroupError> {
    for folder in group.folders_with(Controller::Pids) {
        let file = folder.join("pids.max");
        match fs::write(&file, "0") {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(CgroupError::file("write", &file)(e)),
            Ok(()) | Err(_) => {}
        }
    }
    let mut signalled = BTreeSet::new();
    for _ in 0..ROUNDS {
        let frozen = group.freeze().is_ok();
        let mut news = false;
        for pid in group.processes() {
            // By pidfd, looked at again: the number alone could by now be somebody else's.
            let Ok(process) = pidfd::open(pid) else { continue };
            if group.contains(pid) && pidfd::signal(process.as_fd(), Signal::SIGKILL).is_ok() {
                news |= signalled.insert(pid);
            }
        }
        if frozen {
            group.thaw()?;
        }
        if !news {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits until no process is left; how many are, when time is up.
pub(super) fn wait_empty(group: &Group, within: Duration) -> Result<(), u32> {
    let deadline = Instant::now() + within;
    loop {
        let populated = match &group.v2 {
            Some(v2) => wait_unpopulated(&v2.path, deadline),
            None => wait_members(group, deadline),
        };
        if !populated {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(u32::try_from(group.processes().len()).unwrap_or(u32::MAX));
        }
    }
}

/// The kernel tells when the last one has left a v2 group. Whether it is populated still.
fn wait_unpopulated(folder: &Path, deadline: Instant) -> bool {
    use std::io::{Read, Seek};

    let Ok(mut file) = fs::File::open(folder.join("cgroup.events")) else { return false };
    loop {
        let mut text = String::new();
        if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() || keyed(&text, "populated") != Some(1)
        {
            return false;
        }
        if !wait(&file.as_fd(), PollFlags::POLLPRI, deadline) {
            return true;
        }
    }
}

/// v1 tells nothing, but every member does.
fn wait_members(group: &Group, deadline: Instant) -> bool {
    let members: Vec<OwnedFd> = group.processes().into_iter().filter_map(|pid| pidfd::open(pid).ok()).collect();
    for member in &members {
        wait(&member.as_fd(), PollFlags::POLLIN, deadline);
    }
    !group.processes().is_empty()
}

/// Whether it became ready before the deadline.
fn wait(fd: &impl AsFd, flags: PollFlags, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd.as_fd(), flags)], timeout) {
        Ok(ready) => ready > 0,
        Err(_) => !left.is_zero(),
    }
}
