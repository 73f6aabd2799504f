//! The engine's way to workers' processes.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mortise_control::{Role, WorkerId};

use super::run_folder::RunFolder;
use super::sandbox::{HostView, Place};
use super::start::{self, Sources};
use super::thread::Cloner;
use super::{Process, SpawnError, WorkerSpec, pidfd, process, stat};
use crate::cgroup::{CgroupError, Figures, Group, Groups, Pressure, RemoveError, Swept};
use crate::failpoint::{self, Point};
use crate::host::{Enforcement, Promise};
use crate::lifecycle::{ExitStatus, Remains};
use crate::manifest;

/// How long [`Spawner::remove`] waits for killed processes to end.
const REMOVE_WITHIN: Duration = Duration::from_secs(2);

/// What a spawner needs to know once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The run folder, `RUN`: absolute, on a file system that takes sockets.
    pub run: PathBuf,
    /// The program `mortise-init`: absolute.
    pub init: PathBuf,
    /// The group of workers that may connect to `RUN/http`: the base's. No worker's own gid.
    pub http_gid: u32,
    /// What is enforced.
    pub enforcement: Enforcement,
}

impl Config {
    /// The folder of the workers' HTTP sockets, as a base sees it.
    #[must_use]
    pub fn http_folder(&self) -> PathBuf {
        if self.enforcement.keeps(Promise::MountNamespace) { "/run/mortise/http".into() } else { self.run.join("http") }
    }
}

/// Starts, finds and ends workers. Cheap to clone. Nothing here blocks the runtime it is called in.
#[derive(Clone, Debug)]
pub struct Spawner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    groups: Arc<Groups>,
    folder: RunFolder,
    seen: HostView,
    cloner: Cloner,
    /// First processes, as long as the engine has them: where there is no group to kill, a pid namespace ends with its first.
    processes: Mutex<HashMap<WorkerId, Weak<Process>>>,
}

/// A worker that was started or found again.
#[derive(Debug)]
pub struct Running {
    /// Who it is.
    pub worker: WorkerId,
    /// As the host sees it.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat: pid and this together are unique.
    pub start_time: u64,
    /// Its first process.
    pub process: Arc<Process>,
    /// Its group.
    pub group: Group,
    /// Listens on its `control.sock`: seqpacket, non-blocking.
    pub control: OwnedFd,
    /// What it writes to its standard output: the reading end of a FIFO, non-blocking. Ends (0 bytes) when nobody is left who has it.
    pub stdout: OwnedFd,
    /// The same for its standard error.
    pub stderr: OwnedFd,
}

/// What is recorded of a worker of an earlier supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Who it is.
    pub worker: WorkerId,
    /// What kind of program.
    pub role: Role,
    /// The uid it runs as.
    pub uid: u32,
    /// As recorded.
    pub pid: u32,
    /// As recorded.
    pub start_time: u64,
}

/// The answer to [`Spawner::adopt`].
#[derive(Debug)]
pub enum Adopted {
    /// It runs: same pid, start time and group. Its control socket listens again.
    Running(Running),
    /// It is gone, and this is what is known of how. Its group and run folder may be there still.
    Lost(ExitStatus),
}

/// Something of a worker could not be removed yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RemoveBusy {
    /// Processes that are left in its group.
    pub processes: u32,
    /// For people.
    pub reason: String,
}

impl Spawner {
    /// Makes `RUN/workers`, `RUN/http` and the thread that clones. It runs as long as a clone of this is there.
    ///
    /// # Errors
    /// [`SpawnError`] when a folder, init or the thread is not to be had.
    pub fn new(config: Config, groups: Arc<Groups>) -> Result<Self, SpawnError> {
        for (field, path) in [("run", &config.run), ("init", &config.init)] {
            if !path.is_absolute() {
                let value = path.display().to_string();
                return Err(SpawnError::Spec { field, value, reason: "is not an absolute path".into() });
            }
        }
        nix::unistd::access(&config.init, nix::unistd::AccessFlags::X_OK).map_err(|errno| SpawnError::Spec {
            field: "init",
            value: config.init.display().to_string(),
            reason: format!("cannot be executed ({}); --libexec names its folder", errno.desc()),
        })?;
        let init = CString::new(config.init.as_os_str().as_bytes()).map_err(|_| SpawnError::Spec {
            field: "init",
            value: config.init.display().to_string(),
            reason: "has a NUL in it".into(),
        })?;
        let own_uid = config.enforcement.keeps(Promise::OwnUid);
        let folder = RunFolder::open(&config.run, own_uid.then_some(config.http_gid))?;
        let (seen, cloner) = (HostView::look(), Cloner::start(init)?);
        let inner = Inner { groups, folder, seen, cloner, config, processes: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes groups, run folder and sockets and starts the worker. Returns when its init has finished its plan.
    ///
    /// # Errors
    /// [`SpawnError`]; then [`Self::remove`] removes what was made.
    pub async fn spawn(&self, spec: WorkerSpec) -> Result<Running, SpawnError> {
        // As a whole on a thread of its own, so that dropping the future leaves no child that nobody waits for half-made.
        self.off_loop(move |it| it.spawn(&spec)).await.unwrap_or(Err(SpawnError::Stopping))
    }

    /// Finds a worker of an earlier supervisor.
    ///
    /// # Errors
    /// [`SpawnError`] when it is there but its control socket or FIFOs are not to be had.
    pub async fn adopt(&self, recorded: Recorded) -> Result<Adopted, SpawnError> {
        self.off_loop(move |it| it.adopt(&recorded)).await.unwrap_or(Err(SpawnError::Stopping))
    }

    /// Kills everything in the worker's group, and its first process in any case. That nothing is there is no error.
    ///
    /// # Errors
    /// [`SpawnError::Group`]
    pub async fn kill(&self, worker: WorkerId) -> Result<(), SpawnError> {
        let killing = move |it: &Inner| {
            fault(Point::Kill, "kill", Path::new(&group_name(worker)))?;
            Ok(it.kill(worker)?)
        };
        self.off_loop(killing).await.unwrap_or(Err(SpawnError::Stopping))
    }

    /// Stops all processes in the worker's group; the bytes that are charged to it.
    ///
    /// # Errors
    /// [`SpawnError::Group`], also when there is no such group.
    pub async fn freeze(&self, worker: WorkerId) -> Result<u64, SpawnError> {
        let freezing = move |it: &Inner| {
            let group = it.group(worker)?;
            fault(Point::Freeze, "freeze", Path::new(group.name()))?;
            group.freeze()?;
            Ok(group.figures().memory_bytes.unwrap_or(0))
        };
        self.off_loop(freezing).await.unwrap_or(Err(SpawnError::Stopping))
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`SpawnError::Group`], also when there is no such group.
    pub async fn thaw(&self, worker: WorkerId) -> Result<(), SpawnError> {
        let thawing = move |it: &Inner| {
            let group = it.group(worker)?;
            fault(Point::Thaw, "thaw", Path::new(group.name()))?;
            Ok(group.thaw()?)
        };
        self.off_loop(thawing).await.unwrap_or(Err(SpawnError::Stopping))
    }

    /// Kills what is left in the worker's group and removes group, run folder, FIFOs and sockets. That some or all of it is not
    /// there is no error. `descriptors_closed` of the answer is 0: they are the caller's.
    ///
    /// # Errors
    /// [`RemoveBusy`] when processes have not ended after two seconds.
    pub async fn remove(&self, worker: WorkerId) -> Result<Remains, RemoveBusy> {
        let stopping = || RemoveBusy { processes: 0, reason: "the supervisor is stopping".into() };
        self.off_loop(move |it| it.remove(worker)).await.unwrap_or_else(|| Err(stopping()))
    }

    /// The figures of the worker's group; none if there is no such group. Blocks for some microseconds.
    #[must_use]
    pub fn figures(&self, worker: WorkerId) -> Option<Figures> {
        self.inner.groups.find(&group_name(worker)).map(|it| it.figures())
    }

    /// How long the worker's group has waited, if there is such a group and the host measures it. Blocks for some microseconds.
    #[must_use]
    pub fn pressure(&self, worker: WorkerId) -> Option<Pressure> {
        self.inner.groups.find(&group_name(worker)).and_then(|it| it.pressure())
    }

    /// Lays other limits upon a worker that runs; one that is gone has none. Blocks for some microseconds, or for as long as the kernel
    /// takes memory back.
    ///
    /// # Errors
    /// [`CgroupError::Limit`] names the one that the kernel refused.
    pub fn set_limits(&self, worker: WorkerId, limits: &manifest::Limits) -> Result<(), CgroupError> {
        self.inner.groups.find(&group_name(worker)).map_or(Ok(()), |it| it.set_limits(&limits.into()))
    }

    /// Kills and removes everything that an earlier supervisor left of workers other than these. Leaves resources' groups (`r-…`) alone.
    pub async fn sweep(&self, keep: Vec<WorkerId>) -> Swept {
        self.off_loop(move |it| it.sweep(&keep)).await.unwrap_or_default()
    }

    /// None: the runtime is shutting down.
    async fn off_loop<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> T + Send + 'static) -> Option<T> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(done) => Some(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }
}

fn fault(point: Point, what: &'static str, path: &Path) -> Result<(), SpawnError> {
    failpoint::reach(point).map_err(|source| SpawnError::RunFolder { what, path: path.into(), source })
}

/// The name of a worker's group.
fn group_name(worker: WorkerId) -> String {
    format!("w-{worker}")
}

impl Inner {
    /// The gid of what belongs to a worker.
    fn gid(&self, uid: u32) -> Option<u32> {
        self.config.enforcement.keeps(Promise::OwnUid).then_some(uid)
    }

    fn spawn(&self, spec: &WorkerSpec) -> Result<Running, SpawnError> {
        let worker = spec.worker;
        let (name, limits) = (group_name(worker), (&spec.limits).into());
        // A base is the operator's: no tenant's quota is for it.
        let group = match spec.role {
            Role::Base => self.groups.create(&name, &limits)?,
            Role::Sdk | Role::Http => self.groups.create_for(spec.tenant.as_str(), &name, &limits)?,
        };
        fault(Point::Folder, "make", &self.folder.worker(worker))?;
        let [out, err] = self.folder.create(worker, self.gid(spec.uid))?;
        fault(Point::Control, "bind the socket", &self.folder.worker(worker))?;
        let control = self.folder.listen_control(worker, self.gid(spec.uid))?;
        let http = spec.http.then(|| self.folder.listen_http(worker)).transpose()?;
        let place = Place {
            over: self.folder.root(),
            run: self.folder.worker(worker),
            http: self.folder.http(),
            http_gid: self.config.http_gid,
            own: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
            free_port: start::free_port(spec, &self.config.enforcement)?,
        };
        let sources = Sources { group: &group, stdout: &out.write, stderr: &err.write, http };
        let process = start::start(spec, &place, &self.config.enforcement, &self.seen, sources, &self.cloner)?;
        // It has not been collected, so the number is still its own.
        let start_time = stat::start_time(process.pid()).unwrap_or(0);
        Ok(Running {
            worker,
            pid: process.pid(),
            start_time,
            process: self.remember(worker, process),
            group,
            control,
            stdout: out.read,
            stderr: err.read,
        })
    }

    fn adopt(&self, recorded: &Recorded) -> Result<Adopted, SpawnError> {
        let Recorded { worker, role, uid, pid, start_time } = *recorded;
        fault(Point::Adopt, "open", &self.folder.worker(worker))?;
        let name = group_name(worker);
        let group = match self.groups.find(&name) {
            None if self.groups.is_empty() => None,
            None => return Ok(Adopted::Lost(ExitStatus::Swept)),
            found => found,
        };
        let Ok(pidfd) = pidfd::open(pid) else { return Ok(Adopted::Lost(ExitStatus::Unknown)) };
        // One that nobody has collected is in no group any more.
        if stat::start_time(pid) == Some(start_time) && stat::exit_code(pid).is_some() {
            return Ok(Adopted::Lost(process::collect(pid, pidfd.as_fd())));
        }
        let group = match group {
            Some(group) if group.contains(pid) => group,
            Some(_) => return Ok(Adopted::Lost(ExitStatus::Unknown)),
            None => self.groups.create(&name, &crate::cgroup::Limits::default())?,
        };
        // Read while it is there (asked last), so all of it is about the process that the pidfd names.
        let same = stat::start_time(pid) == Some(start_time);
        if !same || !pidfd::is_there(pidfd.as_fd()) {
            return Ok(Adopted::Lost(ExitStatus::Unknown));
        }
        let [stdout, stderr] = self.folder.reopen(worker)?;
        let control = self.folder.listen_control(worker, self.gid(uid))?;
        let process = self.remember(worker, Process::new(pid, pidfd, role));
        Ok(Adopted::Running(Running { worker, pid, start_time, process, group, control, stdout, stderr }))
    }

    fn remember(&self, worker: WorkerId, process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.retain(|_, it| it.strong_count() > 0);
        processes.insert(worker, Arc::downgrade(&process));
        process
    }

    fn group(&self, worker: WorkerId) -> Result<Group, CgroupError> {
        let name = group_name(worker);
        let missing = || CgroupError::Odd { path: name.clone().into(), found: "no such group".into() };
        self.groups.find(&name).ok_or_else(missing)
    }

    fn kill(&self, worker: WorkerId) -> Result<(), CgroupError> {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let process = processes.get(&worker).and_then(Weak::upgrade);
        drop(processes);
        if let Some(group) = self.groups.find(&group_name(worker)) {
            group.kill()?;
        }
        if let Some(Err(error)) = process.map(|it| it.kill()) {
            tracing::warn!(%worker, %error, "the first process of a worker was not killed");
        }
        Ok(())
    }

    fn remove(&self, worker: WorkerId) -> Result<Remains, RemoveBusy> {
        let mut remains = Remains::default();
        let busy = |reason: String| RemoveBusy { processes: 0, reason };
        failpoint::reach(Point::Remove).map_err(|it| busy(it.to_string()))?;
        self.kill(worker).map_err(|it| busy(it.to_string()))?;
        if let Some(group) = self.groups.find(&group_name(worker)) {
            remains.memory_bytes = group.figures().memory_bytes.unwrap_or(0);
            remains.cgroups_removed = group.remove(REMOVE_WITHIN).map_err(|it| match it {
                RemoveError::Busy { processes } => RemoveBusy { processes, reason: it.to_string() },
                RemoveError::Below { .. } | RemoveError::Kernel(_) => busy(it.to_string()),
            })?;
        }
        self.folder.remove(worker).map_err(|it| busy(it.to_string()))?;
        Ok(remains)
    }

    fn sweep(&self, keep: &[WorkerId]) -> Swept {
        let kept: Vec<_> = keep.iter().map(|it| group_name(*it)).collect();
        let mut swept = self.groups.sweep(|name| !name.starts_with("w-") || kept.iter().any(|it| it == name));
        for worker in self.folder.workers().into_iter().filter(|it| !keep.contains(it)) {
            if let Err(error) = self.folder.remove(worker) {
                swept.left.push((worker.to_string(), error.to_string()));
            }
        }
        swept
    }
}
