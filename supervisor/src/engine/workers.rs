//! Workers as the loop holds them: their process, control socket and output, and who watches for their end.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mortise_control::{Role, ToWorker, WorkerId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::clock;
use super::control::{self, Control, Identity, Inbound, Message, Outgoing};
use super::pages::Pages;
use super::report::Report;
use crate::api::{ModuleLimits, OperationId};
use crate::failpoint::{self, Point};
use crate::host::{Enforcement, Promise};
use crate::lifecycle::{AdoptOrder, Event, Exit, Remains, SpawnOrder, StartFault};
use crate::logs::{LogSink, LogSource, WorkerOutput};
use crate::manifest::{Manifest, Runtime};
use crate::package::{Digest, PackageStore};
use crate::spawn::{self, Adopted, Inherited, Process, Program, Recorded, Running, Serve, Spawner, WorkerSpec};

/// How long what a worker had printed before its end may take to arrive: its last lines are the reason that people read.
const LAST_LINES_WITHIN: Duration = Duration::from_millis(250);

/// pidfd, two FIFOs.
const DESCRIPTORS_OF_A_PROCESS: u32 = 3;

/// A worker that was started or found again, on its way into the loop.
#[derive(Debug)]
pub(super) struct Begun {
    running: Running,
    order: SpawnOrder,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Spawned,
    Adopted,
}

/// What the performers of workers stand on.
#[derive(Debug)]
pub(super) struct Workers {
    pub spawner: Spawner,
    pub packages: Arc<PackageStore>,
    pub enforcement: Enforcement,
    /// What a base inherits.
    pub listeners: Vec<Inherited>,
    pub sink: Arc<LogSink>,
    pub pages: Pages,
    pub reports: mpsc::Sender<Report>,
    pub inbound: mpsc::Sender<Inbound>,
    pub table: HashMap<WorkerId, Worker>,
    /// Descriptors that were closed for workers whose groups are still to be removed.
    pub closed: HashMap<WorkerId, u32>,
}

/// One worker.
#[derive(Debug, Default)]
pub(super) struct Worker {
    process: Option<Arc<Process>>,
    control: Option<Control>,
    /// The connection on which the loop has last heard of it: what is sent goes there or nowhere.
    outgoing: Option<Outgoing>,
    watch: Option<Watch>,
    /// It was to be killed before there was anything to kill.
    doomed: bool,
}

/// Waits for the worker's end; gives up when it is dropped.
#[derive(Debug)]
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Workers {
    /// Starts a worker.
    pub fn spawn(&mut self, order: SpawnOrder) {
        let worker = order.worker;
        self.table.insert(worker, Worker::default());
        let (packages, spawner, reports) = (Arc::clone(&self.packages), self.spawner.clone(), self.reports.clone());
        let listeners = if order.role == Role::Base { self.listeners.clone() } else { Vec::new() };
        tokio::spawn(async move {
            let wanted = order.clone();
            let spec = tokio::task::spawn_blocking(move || spec(&wanted, &packages, listeners)).await;
            // The runtime is shutting down.
            let Ok(spec) = spec else { return };
            let started = match spec {
                Ok(spec) => spawner.spawn(spec).await.map_err(|error| (error.to_string(), error.fault())),
                Err(refused) => Err(refused),
            };
            let report = match started {
                Ok(running) => Report::Begun(Box::new(Begun { running, order, how: How::Spawned })),
                Err((reason, fault)) => Report::Event(Event::SpawnFailed { worker, reason, fault }),
            };
            let _ = reports.send(report).await;
        });
    }

    /// Finds a worker of an earlier supervisor.
    pub fn adopt(&mut self, order: AdoptOrder) {
        let AdoptOrder { spawn: order, pid, start_time } = order;
        let worker = order.worker;
        self.table.insert(worker, Worker::default());
        let recorded = Recorded { worker, role: order.role, uid: order.uid, pid, start_time };
        let (spawner, reports) = (self.spawner.clone(), self.reports.clone());
        tokio::spawn(async move {
            let report = match spawner.adopt(recorded).await {
                Ok(Adopted::Running(running)) => Report::Begun(Box::new(Begun { running, order, how: How::Adopted })),
                Ok(Adopted::Lost(status)) => {
                    let oom_kills = oom_kills(&spawner, worker).await;
                    Report::Event(Event::Lost { worker, exit: Exit { status, oom_kills, ..Exit::default() } })
                }
                Err(error) => {
                    // Without its socket and its output nobody could lead it: the removal of its group ends it.
                    tracing::error!(%worker, %error, "a worker that runs cannot be taken over");
                    let last_lines = vec![format!("it could not be taken over by a new supervisor: {error}")];
                    Report::Event(Event::Lost { worker, exit: Exit { last_lines, ..Exit::default() } })
                }
            };
            let _ = reports.send(report).await;
        });
    }

    /// A worker is there: it is watched and listened to from now on.
    pub fn begin(&mut self, begun: Begun) -> Event {
        let Begun { running, order, how } = begun;
        let worker = running.worker;
        let (pid, start_time) = (running.pid, running.start_time);
        let process = Arc::clone(&running.process);
        let watched = self.watch(running, &order);
        let entry = self.table.entry(worker).or_default();
        entry.process = Some(Arc::clone(&process));
        let doomed = entry.doomed;
        let event = match watched {
            Ok((control, watch)) => {
                (entry.control, entry.watch) = (Some(control), Some(watch));
                match how {
                    How::Spawned => Event::SpawnDone { worker, pid, start_time },
                    How::Adopted => Event::Adopted { worker, started: clock::of_ticks(start_time) },
                }
            }
            Err(error) => {
                tracing::error!(%worker, %error, "a worker cannot be watched and is ended");
                self.kill(worker);
                tokio::spawn(async move {
                    // It must be collected all the same.
                    let _ = process.exited().await;
                });
                let reason = format!("it could not be watched: {error}");
                match how {
                    How::Spawned => Event::SpawnFailed { worker, reason, fault: StartFault::of(&error) },
                    How::Adopted => Event::Lost { worker, exit: Exit { last_lines: vec![reason], ..Exit::default() } },
                }
            }
        };
        if doomed {
            self.kill(worker);
        }
        event
    }

    fn watch(&self, running: Running, order: &SpawnOrder) -> std::io::Result<(Control, Watch)> {
        let Running { worker, process, group, control, stdout, stderr, .. } = running;
        let source = LogSource {
            tenant: order.key.tenant.clone(),
            module: order.key.module.clone(),
            version: order.spec.version.clone(),
            worker,
            role: order.role,
        };
        let uid = match self.enforcement.keeps(Promise::OwnUid) {
            true => order.uid,
            false => nix::unistd::geteuid().as_raw(),
        };
        failpoint::reach(Point::Watch)?;
        let output = WorkerOutput::read(source, stdout, stderr, &self.sink)?;
        let (ended, exit) = oneshot::channel();
        let control = control::listen(control, Identity { worker, uid, group }, self.inbound.clone(), exit)?;
        let spawner = self.spawner.clone();
        let watch = tokio::spawn(async move {
            let status = process.exited().await;
            let last_lines = output.end(LAST_LINES_WITHIN).await;
            let oom_kills = oom_kills(&spawner, worker).await;
            let _ = ended.send(Exit { status, oom_kills, last_lines });
        });
        Ok((control, Watch(watch)))
    }

    /// The worker has connected, or its connection has ended.
    pub fn connected(&mut self, worker: WorkerId, outgoing: Option<Outgoing>) {
        if let Some(entry) = self.table.get_mut(&worker) {
            entry.outgoing = outgoing;
        }
    }

    /// The connection to the worker, if there is one.
    pub fn outgoing(&self, worker: WorkerId) -> Option<&Outgoing> {
        self.table.get(&worker)?.outgoing.as_ref()
    }

    /// Sends a message, if the worker is connected.
    pub fn send(&self, worker: WorkerId, message: &ToWorker, fds: &[Arc<OwnedFd>]) {
        let Some(outgoing) = self.outgoing(worker) else { return };
        let made =
            failpoint::reach_at(Point::Send, || failpoint::of_message(message)).map_err(|error| error.to_string());
        match made.and_then(|()| Message::new(message, fds).map_err(|error| error.to_string())) {
            Ok(message) => outgoing.send(message),
            Err(error) => {
                // Without it the worker would wait for ever; the end of its connection is something that `step` sees.
                tracing::error!(%worker, error, "a message cannot be sent");
                outgoing.close(format!("a message to it cannot be sent: {error}"));
            }
        }
    }

    /// SIGTERM to the worker's first process.
    pub fn terminate(&self, worker: WorkerId) {
        let Some(process) = self.table.get(&worker).and_then(|it| it.process.as_ref()) else { return };
        if let Err(error) = failpoint::reach(Point::Terminate).and_then(|()| process.terminate()) {
            tracing::error!(%worker, %error, "SIGTERM cannot be sent");
        }
    }

    /// Stops all processes in the worker's group.
    pub fn freeze(&self, worker: WorkerId) {
        let (spawner, reports) = (self.spawner.clone(), self.reports.clone());
        tokio::spawn(async move {
            let event = match spawner.freeze(worker).await {
                Ok(memory_bytes) => Event::Frozen { worker, memory_bytes },
                Err(error) => Event::FrostFailed { worker, reason: error.to_string() },
            };
            let _ = reports.send(Report::Event(event)).await;
        });
    }

    /// Lays other limits upon them.
    pub fn set_limits(&self, operation: OperationId, said: ModuleLimits, workers: Vec<(WorkerId, String)>) {
        let (spawner, packages, reports) = (self.spawner.clone(), Arc::clone(&self.packages), self.reports.clone());
        tokio::spawn(async move {
            let set = move |worker, digest: &str| {
                let digest: Digest = digest.parse().map_err(|_| format!("{digest:?} is no digest"))?;
                let package = packages.find(&digest).map_err(|error| error.to_string())?;
                let limits = package.manifest.limits.with(&said);
                failpoint::reach(Point::Limit).map_err(|error| error.to_string())?;
                spawner.set_limits(worker, &limits).map_err(|error| error.to_string())
            };
            let setting = move || {
                let refused = |(worker, digest): (WorkerId, String)| set(worker, &digest).err().map(|it| (worker, it));
                workers.into_iter().filter_map(refused).collect()
            };
            // An error of the join: the runtime is shutting down.
            let Ok(refused) = tokio::task::spawn_blocking(setting).await else { return };
            let _ = reports.send(Report::Event(Event::LimitsSet { operation, refused })).await;
        });
    }

    /// Lets them go on.
    pub fn thaw(&self, worker: WorkerId) {
        let (spawner, reports) = (self.spawner.clone(), self.reports.clone());
        tokio::spawn(async move {
            let event = match spawner.thaw(worker).await {
                Ok(()) => Event::Thawed { worker },
                Err(error) => Event::FrostFailed { worker, reason: error.to_string() },
            };
            let _ = reports.send(Report::Event(event)).await;
        });
    }

    /// Kills everything in the worker's group.
    pub fn kill(&mut self, worker: WorkerId) {
        let process = self.table.get_mut(&worker).and_then(|entry| {
            entry.doomed = true;
            entry.process.clone()
        });
        let spawner = self.spawner.clone();
        tokio::spawn(async move {
            let killed = spawner.kill(worker).await;
            if let Err(error) = &killed {
                tracing::error!(%worker, %error, "a group cannot be killed");
            }
            if let Some(process) = process {
                // Where the host kills no groups, or did not now.
                let _ = process.kill();
            }
        });
    }

    /// Lets go of everything that is held for the worker, then removes what is left of it on the host.
    pub fn remove(&mut self, worker: WorkerId) {
        let mut closed = self.closed.remove(&worker).unwrap_or(0) + self.pages.forget(worker);
        if let Some(entry) = self.table.remove(&worker) {
            closed += entry.control.as_ref().map_or(0, Control::descriptors);
            closed += entry.process.as_ref().map_or(0, |_| DESCRIPTORS_OF_A_PROCESS);
        }
        self.closed.insert(worker, closed);
        let (spawner, reports) = (self.spawner.clone(), self.reports.clone());
        tokio::spawn(async move {
            let event = match spawner.remove(worker).await {
                Ok(remains) => Event::GroupGone { worker, remains },
                Err(spawn::RemoveBusy { processes, reason }) => Event::GroupBusy { worker, processes, reason },
            };
            let _ = reports.send(Report::Event(event)).await;
        });
    }

    /// Adds what was closed here to what the host gave back.
    pub fn count_closed(&mut self, worker: WorkerId, remains: &mut Remains) {
        remains.descriptors_closed += self.closed.remove(&worker).unwrap_or(0);
    }
}

async fn oom_kills(spawner: &Spawner, worker: WorkerId) -> u64 {
    let spawner = spawner.clone();
    let figures = tokio::task::spawn_blocking(move || spawner.figures(worker)).await;
    figures.ok().flatten().and_then(|it| it.oom_kills).unwrap_or(0)
}

/// What the spawner needs to know, out of the order and the package. Blocks.
fn spec(
    order: &SpawnOrder,
    packages: &PackageStore,
    listeners: Vec<Inherited>,
) -> Result<WorkerSpec, (String, StartFault)> {
    let other = |reason: String| (reason, StartFault::Other);
    failpoint::reach(Point::Package).map_err(|error| (error.to_string(), StartFault::of(&error)))?;
    let digest: Digest = order.digest.parse().map_err(|_| other(format!("{:?} is no digest", order.digest)))?;
    let package = packages.find(&digest).map_err(|error| (error.to_string(), StartFault::of(&error)))?;
    let manifest = package.manifest;
    let program = manifest.program().ok_or_else(|| other("its module.toml names no program".to_owned()))?;
    Ok(WorkerSpec {
        worker: order.worker,
        role: order.role,
        tenant: order.key.tenant.clone(),
        module: order.key.module.clone(),
        version: order.spec.version.clone(),
        token: order.token,
        uid: order.uid,
        package: package.folder,
        program: Program {
            exec: program.exec.clone(),
            arguments: program.args.clone(),
            environment: manifest.env.clone(),
        },
        configuration: manifest.configuration.clone(),
        limits: manifest.limits.with(&order.limits),
        http: manifest.provides.iter().any(|it| it.http.is_some()),
        inherited: listeners,
        serve: serve(&manifest),
    })
}

fn serve(manifest: &Manifest) -> Option<Serve> {
    let Runtime::Http(_, listen) = &manifest.runtime else { return None };
    let health = manifest.health.as_ref().and_then(|it| it.path.clone());
    Some(Serve { listen: *listen, health })
}
