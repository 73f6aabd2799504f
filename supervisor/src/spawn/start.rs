//! From a worker's spec to its first process.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mortise_control::plan::{DONE, Failure, MAX_FAILURE};
use mortise_control::{BOOT_FD, Boot, InheritedFd, PROTOCOL, Role};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::memfd::{errno_of, sealed};
use super::sandbox::{self, HostView, Place, View};
use super::thread::{Cloner, Owned};
use super::{Process, SpawnError, WorkerSpec, seccomp};
use crate::cgroup::Group;
use crate::failpoint::{self, Point};
use crate::host::{Enforcement, Promise};
use crate::manifest;

/// How long init may take for its plan. It needs some milliseconds; a host that is short of memory may need seconds.
const PLAN_WITHIN: Duration = Duration::from_secs(20);
/// The most descriptors a worker inherits.
const MOST_INHERITED: usize = 32;
/// Descriptors for a child are moved to at least this number, so that none lies where another one goes.
const FLOOR: i32 = 64;

/// What was made for the worker.
pub(super) struct Sources<'a> {
    pub group: &'a Group,
    pub stdout: &'a OwnedFd,
    pub stderr: &'a OwnedFd,
    pub http: Option<OwnedFd>,
}

/// Starts the worker's init and waits until it has finished its plan.
pub(super) fn start(
    spec: &WorkerSpec,
    place: &Place,
    host: &Enforcement,
    seen: &HostView,
    sources: Sources<'_>,
    cloner: &Cloner,
) -> Result<Process, SpawnError> {
    check(spec)?;
    let plan = sandbox::plan(spec, place, host, seen, seccomp::filter());
    let (boot, inherited) = boot(spec, &View::of(spec, place, host), sources.http.as_ref());
    let boot = sealed("mortise-boot", &encode(&boot)?)?;
    let plan = sealed("mortise-plan", &encode(&plan)?)?;
    let (status, status_write) = pipe()?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null: OwnedFd = null.map_err(|e| kernel("open /dev/null")(errno_of(&e)))?.into();
    let mut descriptors = vec![&null, sources.stdout, sources.stderr, &boot];
    descriptors.extend(inherited);
    descriptors.extend([&plan, &status_write]);
    let count = descriptors.len();
    let arguments = ["mortise-init".to_owned(), (count - 2).to_string(), (count - 1).to_string()];
    let order = Owned {
        namespaces: namespaces(host),
        cgroup: sources.group.v2_folder().map(|it| open(it, OFlag::O_PATH | OFlag::O_DIRECTORY)).transpose()?,
        tasks: sources.group.v1_tasks().map(|it| open(&it, OFlag::O_WRONLY)).collect::<Result<_, _>>()?,
        descriptors: descriptors.into_iter().map(|it| move_up(it.as_fd())).collect::<Result<_, _>>()?,
        user_map: user_map(place, host),
        arguments: arguments.into_iter().filter_map(|it| CString::new(it).ok()).collect(),
    };
    let child = cloner.clone_child(order)?;
    drop(status_write);
    let process = Process::new(child.pid, child.pidfd, spec.role);
    let fault = failpoint::reach(Point::Plan).map_err(|e| kernel("wait for init")(errno_of(&e)));
    match fault.and_then(|()| outcome(status)) {
        Ok(()) => Ok(process),
        Err(error) => {
            // It is ours, and nobody else will wait for it.
            let _ = sources.group.kill();
            let _ = process.kill();
            let status = process.wait();
            Err(match error {
                SpawnError::Silent(why) => SpawnError::Silent(format!("{why}; it ended with {status:?}")),
                other => other,
            })
        }
    }
}

fn check(spec: &WorkerSpec) -> Result<(), SpawnError> {
    let refuse = |field, value: String, reason: &str| Err(SpawnError::Spec { field, value, reason: reason.into() });
    if (spec.role == Role::Http) != spec.serve.is_some() {
        return refuse("serve", format!("{:?}", spec.serve), "is for the role http, and only for it");
    }
    if spec.serve.is_some() && !spec.http {
        return refuse("http", "false".into(), "a program without the SDK is reached by its HTTP socket only");
    }
    if spec.inherited.len() > MOST_INHERITED {
        return refuse("inherited", spec.inherited.len().to_string(), "at most 32 descriptors are inherited");
    }
    if !spec.package.is_absolute() {
        return refuse("package", spec.package.display().to_string(), "is not an absolute path");
    }
    Ok(())
}

/// The boot record, and the descriptors it names in their order.
fn boot<'a>(spec: &'a WorkerSpec, view: &View, http: Option<&'a OwnedFd>) -> (Boot, Vec<&'a OwnedFd>) {
    let http = http.map(|it| ("http", it));
    let others = spec.inherited.iter().map(|it| (it.name.as_str(), it.fd.as_ref()));
    let (names, descriptors): (Vec<_>, Vec<_>) = http.into_iter().chain(others).unzip();
    let inherited = names.into_iter().zip(BOOT_FD + 1..).map(|(name, fd)| InheritedFd { name: name.to_owned(), fd });
    let boot = Boot {
        protocol: PROTOCOL,
        worker: spec.worker,
        role: spec.role,
        tenant: spec.tenant.clone(),
        module: spec.module.clone(),
        version: spec.version.clone(),
        token: spec.token,
        control: view.run.join("control.sock"),
        inherited: inherited.collect(),
        configuration: spec.configuration.clone(),
    };
    (boot, descriptors)
}

fn namespaces(host: &Enforcement) -> u64 {
    let flags = [
        (Promise::PidNamespace, libc::CLONE_NEWPID),
        (Promise::MountNamespace, libc::CLONE_NEWNS),
        (Promise::IpcNamespace, libc::CLONE_NEWIPC),
        (Promise::UtsNamespace, libc::CLONE_NEWUTS),
        (Promise::NetNamespace, libc::CLONE_NEWNET),
    ];
    let wanted = flags.into_iter().filter(|(promise, _)| host.keeps(*promise)).fold(0, |all, (_, flag)| all | flag);
    // Without root the right to make the others comes with a user namespace.
    let user = if user_map_needed(host) { libc::CLONE_NEWUSER } else { 0 };
    (wanted | user) as u64
}

fn user_map_needed(host: &Enforcement) -> bool {
    !host.keeps(Promise::OwnUid) && host.keeps(Promise::UserNamespace)
}

/// Init is root in its namespace, which is our own uid outside.
fn user_map(place: &Place, host: &Enforcement) -> Option<[Vec<u8>; 2]> {
    let (uid, gid) = place.own;
    user_map_needed(host).then(|| [gid, uid].map(|id| format!("0 {id} 1").into_bytes()))
}

/// A port for a program that binds one in the host's network. Somebody else may take it before the program does; where that matters
/// the network is its own.
pub(super) fn free_port(spec: &WorkerSpec, host: &Enforcement) -> Result<u16, SpawnError> {
    let binds = spec.serve.as_ref().is_some_and(|it| it.listen == manifest::Listen::Port);
    if !binds || host.keeps(Promise::NetNamespace) {
        return Ok(0);
    }
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|it| it.local_addr());
    port.map(|it| it.port()).map_err(|e| kernel("find a free port")(errno_of(&e)))
}

/// Reads the status pipe to its end.
fn outcome(status: OwnedFd) -> Result<(), SpawnError> {
    let deadline = Instant::now() + PLAN_WITHIN;
    let mut status = File::from(status);
    let mut said = Vec::new();
    loop {
        let left = PollTimeout::try_from(deadline.saturating_duration_since(Instant::now()));
        match poll(&mut [PollFd::new(status.as_fd(), PollFlags::POLLIN)], left.unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(SpawnError::Silent(format!("it was not done after {} s", PLAN_WITHIN.as_secs()))),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(kernel("wait for init")(errno)),
        }
        let mut chunk = [0; MAX_FAILURE];
        match status.read(&mut chunk) {
            Ok(0) => return understand(&said),
            Ok(read) => said.extend_from_slice(&chunk[..read]),
            Err(e) => return Err(kernel("read what init says")(errno_of(&e))),
        }
        if said.len() > 2 * MAX_FAILURE {
            return Err(SpawnError::Silent("it said too much".into()));
        }
    }
}

fn understand(said: &[u8]) -> Result<(), SpawnError> {
    let failure = match said {
        [] => return Err(SpawnError::Silent("it ended without a word".into())),
        [DONE] => return Ok(()),
        [DONE, failure @ ..] | failure => failure,
    };
    match rmp_serde::from_slice::<Failure>(failure) {
        Ok(Failure { step, about, errno }) => Err(SpawnError::Step { step, about, errno: Errno::from_raw(errno) }),
        Err(e) => Err(SpawnError::Silent(format!("what it said is not understood: {e}"))),
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, SpawnError> {
    let refused = |e: rmp_serde::encode::Error| SpawnError::Silent(format!("its plan cannot be written down: {e}"));
    rmp_serde::to_vec_named(value).map_err(refused)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(kernel("make a pipe"))
}

fn move_up(fd: BorrowedFd<'_>) -> Result<OwnedFd, SpawnError> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(FLOOR)).map_err(kernel("duplicate a descriptor"))?;
    Ok(super::pidfd::own(number))
}

fn open(path: &std::path::Path, flags: OFlag) -> Result<OwnedFd, SpawnError> {
    let opened = nix::fcntl::open(path, flags | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty());
    opened.map_err(|e| SpawnError::RunFolder { what: "open", path: path.into(), source: e.into() })
}

fn kernel(what: &'static str) -> impl FnOnce(Errno) -> SpawnError {
    move |errno| SpawnError::Kernel { what, errno }
}
