//! What a supervisor hands over to the one that it becomes: the sockets on which somebody may be waiting right now, and that it was told to
//! stop meanwhile.
//!
//! Everything else is found the way a successor finds it after a SIGKILL: in the store, by cgroup, pidfd and start time. The record is JSON in a
//! memfd; [`VARIABLE`] has the number of its descriptor. A program that takes no record of this version says so in its self-check; should it be
//! executed all the same, it leaves the record alone, and the base has the sockets.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{close, dup, execve};
use serde::{Deserialize, Serialize};

use super::candidate::Candidate;
use super::fetched;
use super::passed::Passed;

const VARIABLE: &str = "MORTISE_HANDOVER";
const NAME: &str = "mortise-handover";

/// The version of the record.
pub(super) const VERSION: u32 = 1;

/// What the service manager has said about descriptors of this process, which are others after an exec. `NOTIFY_SOCKET` and `WATCHDOG_…` stay
/// true: the process is the same.
const STALE: [&str; 4] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", VARIABLE];

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    /// Descriptors by number.
    admin: i32,
    admin_is_held: bool,
    listeners: Vec<i32>,
    passed: Vec<i32>,
    stop: bool,
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Handover {
    /// The listener of the admin API.
    pub admin: OwnedFd,
    /// Whether the service manager holds that.
    pub admin_is_held: bool,
    /// Those that a base inherits; which is which is noted elsewhere.
    pub listeners: Vec<OwnedFd>,
    /// The listeners of the ingress that the service manager holds.
    pub passed: Vec<OwnedFd>,
    /// It was told to stop while it was on its way to become another.
    pub stop: bool,
}

impl Handover {
    /// Becomes that program, with the arguments of this process; what this process is goes on if that cannot be executed after all. Returns
    /// only if neither can.
    pub fn exec(&self, candidate: &Candidate) {
        let becoming = format!("/proc/self/fd/{}", candidate.file().as_raw_fd());
        let error = self.replace_by(Path::new(&becoming));
        let binary = candidate.path().display();
        tracing::error!(%binary, %error, "it cannot be executed after all: going on as what this was");
        let error = self.replace_by(Path::new("/proc/self/exe"));
        tracing::error!(%error, "that neither; the workers go on, and the next mortised takes them over");
    }

    fn replace_by(&self, program: &Path) -> io::Error {
        if let Err(error) = crate::failpoint::reach(crate::failpoint::Point::Exec) {
            return error;
        }
        // Whatever somebody has forgotten, and the numbers of an earlier attempt.
        if let Err(error) = fetched::close_all_on_exec() {
            tracing::debug!(%error, "descriptors are closed by an exec only if each of them is to be");
        }
        let executed = self.record().and_then(|record| {
            let inherited = std::env::vars_os().filter(|(name, _)| !STALE.iter().any(|it| name == it));
            let environment: Vec<_> = inherited
                .map(|(name, value)| [name, "=".into(), value].into_iter().collect::<OsString>())
                .chain([format!("{VARIABLE}={record}").into()])
                .map(text)
                .collect::<Result<_, _>>()?;
            let arguments: Vec<_> = std::env::args_os().map(text).collect::<Result<_, _>>()?;
            Ok(execve(&text(program.as_os_str().to_owned())?, &arguments, &environment)?)
        });
        match executed {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Descriptors that outlive the exec, and the record of them.
    fn record(&self) -> io::Result<i32> {
        let outlives = |fd: &OwnedFd| Ok::<_, io::Error>(dup(fd.as_fd())?.into_raw_fd());
        let all = |fds: &[OwnedFd]| fds.iter().map(outlives).collect::<Result<_, _>>();
        let record = Record {
            version: VERSION,
            admin: outlives(&self.admin)?,
            admin_is_held: self.admin_is_held,
            listeners: all(&self.listeners)?,
            passed: all(&self.passed)?,
            stop: self.stop,
        };
        let mut file = File::from(memfd_create(NAME, MFdFlags::empty())?);
        serde_json::to_writer(&mut file, &record)?;
        file.flush()?;
        file.rewind()?;
        Ok(file.into_raw_fd())
    }

    /// Whether an earlier supervisor has handed something to this process, which it was itself, and [`Self::receive`] has not taken it yet.
    pub fn is_waiting() -> bool {
        waiting().is_some()
    }

    /// What it has handed over.
    pub fn receive() -> Option<Self> {
        let (number, path) = waiting()?;
        let record = fs::read(&path).ok().and_then(|it| serde_json::from_slice::<Record>(&it).ok());
        let _ = close(number);
        let Some(record) = record.filter(|it| it.version == VERSION) else {
            tracing::warn!("what the supervisor before has handed over cannot be read: its sockets are made anew");
            return None;
        };
        let all = |fds: Vec<i32>| fds.into_iter().map(take).collect::<Result<_, _>>();
        let taken = take(record.admin).and_then(|admin| {
            Ok(Self {
                admin,
                admin_is_held: record.admin_is_held,
                listeners: all(record.listeners)?,
                passed: all(record.passed)?,
                stop: record.stop,
            })
        });
        taken.inspect_err(|error| tracing::warn!(%error, "what was handed over is not there")).ok()
    }

    /// What the service manager had passed to the supervisor before, as if it had passed it to this one.
    pub fn passed(&self) -> io::Result<Passed> {
        let ingress = self.passed.iter().map(|it| {
            let listener = std::net::TcpListener::from(it.try_clone()?);
            Ok((listener.local_addr()?, listener))
        });
        let admin = self.admin_is_held.then(|| self.admin.try_clone()).transpose()?;
        Ok(Passed { ingress: ingress.collect::<io::Result<_>>()?, admin: admin.map(Into::into) })
    }

    /// The socket with this cookie.
    pub fn with_cookie(&self, cookie: u64) -> Option<OwnedFd> {
        let is_it = |it: &&OwnedFd| fetched::cookie(it).is_ok_and(|found| found == cookie);
        self.listeners.iter().find(is_it)?.try_clone().ok()
    }
}

/// The number and the path of the record.
fn waiting() -> Option<(i32, String)> {
    let number = std::env::var(VARIABLE).ok()?.parse().ok()?;
    let path = format!("/proc/self/fd/{number}");
    // The variable may be older than this process, and the number somebody else's by now.
    let is_ours = |it: PathBuf| it.to_string_lossy().starts_with(&format!("/memfd:{NAME}"));
    fs::read_link(&path).is_ok_and(is_ours).then_some((number, path))
}

fn text(from: OsString) -> io::Result<CString> {
    CString::new(from.into_vec()).map_err(Into::into)
}

/// A descriptor that came through the exec, as one that no program of ours inherits.
fn take(number: i32) -> io::Result<OwnedFd> {
    let taken = fetched::own_descriptor(number)?;
    close(number)?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_recorded_is_taken_and_the_numbers_are_free_again() {
        let folder = tempfile::tempdir().unwrap();
        let listen = |name: &str| OwnedFd::from(UnixListener::bind(folder.path().join(name)).unwrap());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let handover = Handover {
            admin: listen("admin"),
            admin_is_held: true,
            listeners: vec![listen("0"), listen("1")],
            passed: vec![tcp.into()],
            stop: false,
        };
        let number = handover.record().unwrap();
        let record: Record = serde_json::from_slice(&fs::read(format!("/proc/self/fd/{number}")).unwrap()).unwrap();
        assert_eq!((record.version, record.listeners.len()), (VERSION, 2));
        for (number, given) in record.listeners.iter().zip(&handover.listeners) {
            let taken = take(*number).unwrap();
            assert_eq!(fetched::cookie(&taken).unwrap(), fetched::cookie(given).unwrap());
        }
        assert!(take(-1).is_err());
        for number in record.passed.into_iter().chain([number, record.admin]) {
            close(number).unwrap();
        }
        let cookie = fetched::cookie(&handover.listeners[1]).unwrap();
        let found = handover.with_cookie(cookie).unwrap();
        assert_eq!(fetched::cookie(&found).unwrap(), cookie);
        assert!(handover.with_cookie(cookie + 1_000_000).is_none());
        let passed = handover.passed().unwrap();
        assert_eq!((passed.ingress[0].0, passed.admin.is_some()), (address, true));
    }
}
