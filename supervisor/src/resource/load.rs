//! The supervisor's side: starts the loader and believes nothing that it can check.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Instant;

use ipc_channel::ipc::{IpcOneShotServer, IpcSender};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::loader::{Report, SEALS};
use super::{LoadError, LoadOrder, LoadedResource};

/// What is kept of what a loader says before it ends.
const LAST_WORDS: usize = 2048;

/// Loads a resource. The loader is gone when this returns; one that hung is killed, and goes when its disk lets it.
///
/// # Errors
/// [`LoadError`] says why, for people.
pub async fn load(order: LoadOrder) -> Result<LoadedResource, LoadError> {
    let file = order.file.clone();
    let loading = tokio::task::spawn_blocking(move || load_here(&order));
    let loaded = loading.await.unwrap_or_else(|_| Err("the supervisor is stopping".into()));
    loaded.map_err(|problem| LoadError(format!("{file}: {problem}")))
}

fn load_here(order: &LoadOrder) -> Result<LoadedResource, String> {
    let file = crate::package::open_inside(&order.package, &order.file).map_err(|error| error.to_string())?;
    let memfd = memfd_create("mortise-resource", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|errno| format!("no memory file is to be had: {errno}"))?;
    let (server, name) = IpcOneShotServer::<Result<Report, String>>::new()
        .map_err(|error| format!("no channel to the loader is to be had: {error}"))?;

    let mut child = start(order, &name, file, &memfd).map_err(|error| format!("the loader did not start: {error}"))?;
    let deadline = Instant::now() + order.within;
    let Ok(last_words) = until_it_ends(child.stderr.take(), deadline) else {
        abandon(child);
        return Err(format!("the loader took longer than {:?}", order.within));
    };
    let status = child.wait().map_err(|error| format!("the loader's end is unknown: {error}"))?;

    // A loader that reports does so before it ends, and then its connection is the first in the queue. One of our own behind
    // it makes sure that there is something to accept.
    IpcSender::<Result<Report, String>>::connect(name)
        .and_then(|own| own.send(Err(silent(status, &last_words))).map_err(std::io::Error::other))
        .map_err(|error| format!("the channel to the loader is broken: {error}"))?;
    let (_, report) = server.accept().map_err(|error| format!("the loader's report cannot be read: {error}"))?;
    check(memfd, &report?)
}

fn start(order: &LoadOrder, name: &str, file: File, memfd: &OwnedFd) -> std::io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg(super::loader::WORD)
        .arg(name)
        .args(&order.join)
        .env_clear()
        .stdin(file)
        .stdout(memfd.try_clone()?)
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits until nobody has the other end of the loader's standard error any more, which is its end.
fn until_it_ends(stderr: Option<ChildStderr>, deadline: Instant) -> Result<String, TookTooLong> {
    let Some(mut stderr) = stderr else { return Ok(String::new()) };
    let mut words = Vec::new();
    let mut buffer = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a wait of zero milliseconds would spin through the last one.
        let left = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => return Err(TookTooLong),
            Ok(_) => match stderr.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(got) => words.extend(&buffer[..got.min(LAST_WORDS - words.len())]),
            },
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    Ok(crate::manifest::visible(String::from_utf8_lossy(&words).trim()))
}

struct TookTooLong;

/// Kills it and leaves its end to a thread: a process that waits for a disk does not die before the disk answers.
fn abandon(mut child: Child) {
    let _ = child.kill();
    let reap = std::thread::Builder::new().name("loader-end".into());
    // Without a thread it stays a zombie until the supervisor ends, which is all that can be done.
    let _ = reap.spawn(move || child.wait());
}

fn silent(status: ExitStatus, last_words: &str) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    let end = match status.signal() {
        Some(libc::SIGKILL) => "the loader was killed: the file may not fit into the memory of its group".to_owned(),
        _ => format!("the loader ended without a report ({status})"),
    };
    if last_words.is_empty() { end } else { format!("{end}: {last_words}") }
}

fn check(memfd: OwnedFd, report: &Report) -> Result<LoadedResource, String> {
    let seals = fcntl(&memfd, FcntlArg::F_GET_SEALS).map_err(|errno| format!("the seals cannot be read: {errno}"))?;
    if !SealFlag::from_bits_retain(seals).contains(SEALS) {
        return Err("the loader did not seal it".into());
    }
    let len = nix::sys::stat::fstat(&memfd).map_err(|errno| format!("its length cannot be read: {errno}"))?.st_size;
    if u64::try_from(len) != Ok(report.len) {
        return Err(format!("the loader reports {} bytes, and there are {len}", report.len));
    }
    let sha256 = crate::package::Digest::from(report.sha256).to_string();
    Ok(LoadedResource { memfd, len: report.len, sha256 })
}
