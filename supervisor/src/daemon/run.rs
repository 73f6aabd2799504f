//! From the arguments to a running supervisor, and back.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use mortise_control::ModuleName;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::candidate::Candidate;
use super::ground::{Ground, raise_descriptors};
use super::handover::Handover;
use super::listeners::{self, Listeners, bind_unix};
use super::passed::Passed;
use super::reload::{Reload, open_to_roles};
use super::settings::Settings;
use super::{LogFormat, StartError, base, meant_for_us, notify, standing, workers_unit};
use crate::admin::{self, AdminApi, Shutdown};
use crate::api::HostStatus;
use crate::cgroup::{Groups, Layout};
use crate::doctor::Places;
use crate::engine::{Engine, Parts};
use crate::failpoint::{self, Point};
use crate::host::{self, Enforcement};
use crate::lifecycle::Runtime;
use crate::logs::{FileMirror, LogSink, LogStore, Mirror};
use crate::package::{Digest, PackageStore};
use crate::spawn::{self, Spawner};
use crate::store::{self, OccupantRecord, Rebuilt, Records, Store};

/// The store, in the state folder.
pub(crate) const STORE: &str = "mortise.redb";

/// Threads that wait for disks and children.
const BLOCKING_THREADS: usize = 128;

/// A log file of a module that would grow over this becomes an older one.
const LOG_FILE_BYTES: u64 = 16 << 20;

/// So many older ones are kept.
const LOG_FILES_OLDER: u32 = 2;

/// How a supervisor ended that was told to.
#[derive(Debug)]
pub(super) enum Ended {
    /// By a signal, and nothing runs any more.
    Stopped,
    /// By `mortise shutdown`, and nothing runs any more; the workers have a unit of their own.
    ShutDown,
    /// By a signal; the workers go on in their unit.
    Left,
    /// By `mortise upgrade`: this process is to become that program.
    Becomes(Arc<Candidate>, Handover),
}

/// What it was told.
#[derive(Clone, Debug)]
enum Told {
    Signal,
    ShutDown,
    Become(Arc<Candidate>),
}

/// Runs the supervisor until it is told to stop.
pub(super) fn run(mut reload: Reload, format: LogFormat) -> Result<Ended, StartError> {
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(StartError::kernel("start the event loop"))?;
    runtime.block_on(supervise(&mut reload, format))
}

/// What was made sure of before anything is started.
struct Prepared {
    settings: Settings,
    state: Ground,
    run: Ground,
    groups: Arc<Groups>,
    promises: host::Report,
    enforcement: Enforcement,
    packages: Arc<PackageStore>,
    /// The module of `--base`.
    base: Option<ModuleName>,
    store: Store,
    records: Records,
    rebuilt: Option<Rebuilt>,
    listeners: Listeners,
    /// Those of the ingress that the service manager holds.
    held: Vec<OwnedFd>,
    admin: Option<UnixListener>,
    handed: Option<Handover>,
}

async fn supervise(reload: &mut Reload, format: LogFormat) -> Result<Ended, StartError> {
    // From here on a SIGTERM is not the end, but the beginning of an orderly one, and a SIGHUP no end at all.
    let mut signals = Signals::new()?;
    let mut hangups = signal(SignalKind::hangup()).map_err(StartError::kernel("catch signals"))?;
    meant_for_us().thread_unblock().map_err(|errno| StartError::kernel("catch signals")(errno.into()))?;
    tracing::debug!(files = ?reload.in_force.files, "settings:\n{}", reload.in_force);
    let settings = reload.in_force.settings.clone();
    let mut opened = None;
    let ended = match prepare(settings, &mut opened) {
        Ok(prepared) => serve(prepared, format, &mut signals, (reload, &mut hangups)).await,
        Err(error) => Err(error),
    };
    // A start that is none leaves no groups behind, unless there are workers of an earlier life in them.
    if matches!(ended, Err(_) | Ok(Ended::Stopped | Ended::ShutDown))
        && let Some(Err(error)) = opened.map(|it| it.close())
        && ended.is_ok()
    {
        // What is left in them is told, not hidden: they stay.
        tracing::error!(%error, "the supervisor's groups cannot be removed");
    }
    ended
}

/// `opened` has the groups as soon as there are any.
fn prepare(settings: Settings, opened: &mut Option<Arc<Groups>>) -> Result<Prepared, StartError> {
    let handed = Handover::receive();
    let passed = match &handed {
        Some(handed) => handed.passed().map_err(StartError::kernel("take the sockets that were handed over"))?,
        None => Passed::take()?,
    };
    let state = Ground::take(&settings.state, 0o700, "--state")?;
    let run = Ground::take(&settings.run, 0o755, "--run")?;
    let layout = match &settings.workers_unit {
        None => Layout::detect()?,
        Some(unit) => Layout::detect()?.below(&workers_unit::group(unit)?)?,
    };
    let groups = Arc::new(Groups::open(layout, state.path())?);
    *opened = Some(Arc::clone(&groups));
    let step = |what| notify::starting(what, notify::STEP);
    step("looking at what this host can keep");
    let promises = host::probe(&groups);
    let enforcement = promises.decide(&settings.allow_degraded.iter().copied().collect())?;
    let packages = Arc::new(PackageStore::open(&state.path().join("packages"))?);
    step("opening the store");
    let (store, records, rebuilt) = store::open(&state.path().join(STORE), &packages)?;
    let base = settings.base.as_deref().map_or(Ok(None), base::look)?;
    if handed.is_some() {
        let recorded: Vec<u32> = occupants(&records).filter_map(|it| Some(it.process?.0)).collect();
        spawn::collect_strangers(&recorded);
    }
    let ingress = passed.ingress.iter().map(|(_, socket)| Ok(socket.try_clone()?.into())).collect::<io::Result<_>>();
    let held = ingress.map_err(StartError::kernel("keep the sockets of the service manager"))?;
    let (bases, before) = (bases(&records), handed.as_ref());
    let listeners = listeners::open(state.path(), run.path(), &settings.listen, passed.ingress, &bases, before)?;
    let admin = passed.admin;
    Ok(Prepared {
        settings,
        state,
        run,
        groups,
        promises,
        enforcement,
        packages,
        base,
        store,
        records,
        rebuilt,
        listeners,
        held,
        admin,
        handed,
    })
}

/// The processes of the bases that an earlier supervisor had started.
fn bases(records: &Records) -> Vec<u32> {
    let is_base = |it: &&OccupantRecord| {
        let version = records.versions.iter().find(|v| v.key == it.key && v.spec.version == it.version);
        version.is_some_and(|it| it.spec.runtime == Runtime::Base)
    };
    occupants(records).filter(is_base).filter_map(|it| Some(it.process?.0)).collect()
}

/// What may have a process.
fn occupants(records: &Records) -> impl Iterator<Item = &OccupantRecord> {
    records.workers.iter().filter_map(|it| it.occupant.as_ref())
}

async fn serve(
    prepared: Prepared,
    format: LogFormat,
    signals: &mut Signals,
    (reload, hangups): (&mut Reload, &mut Signal),
) -> Result<Ended, StartError> {
    let Prepared {
        settings,
        state,
        run,
        groups,
        promises,
        enforcement,
        packages,
        base,
        store,
        records,
        rebuilt,
        listeners,
        held,
        admin,
        handed,
    } = prepared;
    let host = host_status(&listeners, &promises, &store::kept_aside(store.path()));
    let spawning = spawn::Config {
        run: run.path().into(),
        init: libexec(&settings)?.join("mortise-init"),
        http_gid: settings.tenant_uids - 1,
        enforcement: enforcement.clone(),
    };
    let http_folder = spawning.http_folder();
    let config = settings.policy(http_folder.clone());
    let spawner = Spawner::new(spawning, Arc::clone(&groups))?;
    #[cfg(feature = "failpoints")]
    crate::failpoint::serve(run.path()).map_err(StartError::file("listen for failpoints in", run.path()))?;
    clean_up(&records, &spawner, &groups, &packages, rebuilt.is_some()).await;

    let admin_socket = settings.admin_socket();
    let admin_is_held = admin.is_some();
    let to_stop = handed.as_ref().is_some_and(|it| it.stop);
    let handed = handed.map(|it| UnixListener::from(it.admin));
    let admin_listener = admin.or(handed).map_or_else(|| bind_unix(&admin_socket, 0o660), Ok)?;
    open_to_roles(&admin_socket, &settings.roles);
    let admin_kept = admin_listener.try_clone().map_err(StartError::file("watch the socket", &admin_socket))?;
    let listeners_kept: Vec<_> = listeners.inherited.iter().map(|it| Arc::clone(&it.fd)).collect();
    let admin_listener = tokio::net::UnixListener::from_std(admin_listener)
        .map_err(StartError::file("watch the socket", &admin_socket))?;
    let logs = Arc::new(LogStore::default());
    let mirror = match format {
        LogFormat::Journal => Mirror::Tracing,
        LogFormat::Text | LogFormat::Json => Mirror::Files(FileMirror {
            folder: state.path().join("logs"),
            file_bytes: LOG_FILE_BYTES,
            older: LOG_FILES_OLDER,
        }),
    };
    let sink = LogSink::new(Arc::clone(&logs), mirror).map_err(StartError::kernel("start the log"))?;
    let (engine, handle, controls) = Engine::new(Parts {
        config,
        store,
        records,
        packages: Arc::clone(&packages),
        groups,
        spawner,
        enforcement,
        listeners: listeners.inherited,
        logs,
        sink: Arc::new(sink),
        host,
        invoke_socket: Some(listeners.invoke.clone()),
    })?;
    let mut engine = tokio::spawn(engine.run());
    let (stop_admin, admin_stops) = oneshot::channel::<()>();
    let shutdown = Shutdown::default();
    let api = AdminApi {
        handle: handle.clone(),
        packages: Arc::clone(&packages),
        doctor: Places {
            state: state.path().into(),
            run: run.path().into(),
            libexec: Some(libexec(&settings)?),
            listen: Vec::new(),
        },
        promises: Arc::new(promises),
        shutdown: shutdown.clone(),
        roles: Arc::clone(&reload.roles),
    };
    let admin = tokio::spawn(admin::serve(admin_listener, api, async {
        let _ = admin_stops.await;
    }));
    let watchdog = tokio::spawn(notify::watchdog(controls.clone()));

    let replacing = standing::Replacing { shutdown: &shutdown, state: state.path() };
    let base = settings.base.as_deref().map(|path| base::Wanted {
        path,
        state: state.path(),
        packages: &packages,
        module: base,
    });
    let told = tokio::select! {
        // Whichever comes first; a base that takes long does not keep anybody from stopping.
        biased;
        // What was told while this was another program.
        () = std::future::ready(()), if to_stop => Told::Signal,
        told = told(signals, &shutdown) => told,
        () = standing::keep(&handle, &controls, base, &listeners.fresh, (reload, hangups, &http_folder), &replacing, rebuilt.as_ref()) => {
            told(signals, &shutdown).await
        }
        _ = &mut engine => {
            tracing::error!("the loop ended unasked");
            Told::Signal
        }
    };
    let becomes = matches!(told, Told::Become(_));
    let mut ending = match (told, &settings.workers_unit) {
        (Told::Become(candidate), _) => {
            notify::reloading("becoming another version");
            controls.leave().await;
            let listeners = listeners_kept.iter().map(|it| it.try_clone()).collect::<io::Result<_>>();
            let listeners = listeners.map_err(StartError::kernel("hand over the sockets"))?;
            let admin = admin_kept.into();
            Ended::Becomes(candidate, Handover { admin, admin_is_held, listeners, passed: held, stop: false })
        }
        (Told::Signal, Some(unit)) => {
            notify::stopping("leaving the modules to the next supervisor");
            tracing::info!(unit, "the modules go on without this supervisor");
            controls.leave().await;
            Ended::Left
        }
        (told, unit) => {
            notify::stopping("stopping all modules");
            tracing::info!("stopping all modules");
            controls.stop().await;
            if matches!(told, Told::ShutDown) && unit.is_some() { Ended::ShutDown } else { Ended::Stopped }
        }
    };
    let ended = async {
        if !engine.is_finished() {
            let _ = engine.await;
        }
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => break,
            () = signals.stop() => match &mut ending {
                Ended::Becomes(_, handover) => handover.stop = true,
                Ended::Stopped | Ended::ShutDown | Ended::Left => {
                    tracing::warn!("still stopping; SIGKILL ends mortised and leaves its workers running");
                }
            },
        }
    }
    watchdog.abort();
    if !becomes {
        shutdown.end();
    }
    let _ = stop_admin.send(());
    let _ = admin.await;
    if !admin_is_held && !becomes {
        let _ = std::fs::remove_file(&admin_socket);
    }
    if !matches!(ending, Ended::Left | Ended::Becomes(..)) {
        // The base listens on it as long as it lives.
        let _ = std::fs::remove_file(&listeners.invoke);
    }
    if !becomes {
        tracing::info!("stopped");
    }
    Ok(ending)
}

/// Returns when somebody has told it to end.
async fn told(signals: &mut Signals, shutdown: &Shutdown) -> Told {
    tokio::select! {
        () = signals.stop() => Told::Signal,
        () = shutdown.asked() => Told::ShutDown,
        candidate = shutdown.becomes() => Told::Become(candidate),
    }
}

fn host_status(listeners: &Listeners, promises: &host::Report, kept_aside: &[PathBuf]) -> HostStatus {
    HostStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        started: Some(Timestamp::now()),
        ingress: listeners.ingress.iter().map(|it| format!("http://{it}")).collect(),
        degraded: promises
            .degraded()
            .map(|it| format!("{}: {}", it.promise, it.why))
            .chain(kept_aside.iter().map(|it| {
                format!(
                    "store: a damaged one is kept as {}, and another was made; remove it when it was looked at",
                    it.display()
                )
            }))
            .collect(),
    }
}

pub(super) fn libexec(settings: &Settings) -> Result<PathBuf, StartError> {
    if let Some(folder) = &settings.libexec {
        return std::path::absolute(folder).map_err(StartError::file("find the folder", folder));
    }
    let own = std::env::current_exe().map_err(StartError::kernel("find this program's own file"))?;
    Ok(own.parent().map(Into::into).unwrap_or_default())
}

/// Removes what an earlier life left and nobody will miss: groups and folders of workers that no record names, groups of resources
/// (their memory lives as long as a worker maps it), packages that were sent and never registered.
async fn clean_up(
    records: &Records,
    spawner: &Spawner,
    groups: &Arc<Groups>,
    packages: &Arc<PackageStore>,
    is_rebuilt: bool,
) {
    let occupied = records.workers.iter().filter(|it| it.occupant.is_some()).map(|it| it.worker).collect();
    failpoint::pass(Point::Sweep);
    let swept = spawner.sweep(occupied).await;
    let keep: Result<std::collections::BTreeSet<_>, _> =
        records.versions.iter().map(|it| it.digest.parse::<Digest>()).collect();
    let (groups, packages) = (Arc::clone(groups), Arc::clone(packages));
    let resources = tokio::task::spawn_blocking(move || {
        match keep {
            // A new store may not know all that the old one did.
            Ok(_) if is_rebuilt => {}
            Ok(keep) => {
                if let Err(error) = packages.retain(&keep) {
                    tracing::warn!(%error, "packages that nobody registered are left");
                }
            }
            Err(error) => tracing::error!(%error, "the store names a package that cannot be; none is removed"),
        }
        groups.sweep(|name| !name.starts_with(crate::engine::RESOURCE_GROUP_PREFIX))
    });
    let resources = resources.await.unwrap_or_default();
    for (name, reason) in swept.left.iter().chain(&resources.left) {
        tracing::warn!(name, reason, "something of an earlier life is left");
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, StartError> {
        let catch = |kind| signal(kind).map_err(StartError::kernel("catch signals"));
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    /// Returns when either has come.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
