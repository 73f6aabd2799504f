//! A loop that answers like the engine, behind the real admin API on a real socket. It runs nothing.
//!
//! Its world (the tenant `full` may install nothing): the module `spell` 1.0.0 and 1.1.0 runs and provides the service `spell`; `stuck` never gets ready; `broken`
//! fails to start; everything else does what is asked at once.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use mortise_control::{ModuleName, ServiceName, TenantName};
use mortise_supervisor::admin::{self, AdminApi};
use mortise_supervisor::api::{
    ApiError, Blame, Desired, ErrorCode, Event, EventKind, HostStatus, InstalledVersion, LimitsStatus, LogLine,
    LogStream, ModuleStatus, Operation, OperationId, OperationState, PressureStatus, Receipt, Request, RuntimeKind,
    ServiceFigures, ServiceStatus, Snapshot, StepRecord, WorkerState, WorkerStatus,
};
use mortise_supervisor::doctor::Places;
use mortise_supervisor::engine::{EngineHandle, EventLog, Published, Submission};
use mortise_supervisor::host;
use mortise_supervisor::logs::LogStore;
use mortise_supervisor::package::PackageStore;
use semver::Version;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

/// A supervisor that is none. Stops when it is dropped.
pub struct Fake {
    pub socket: PathBuf,
    pub handle: EngineHandle,
    published: Arc<Published>,
    pub packages: Arc<PackageStore>,
    shutdown: admin::Shutdown,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

pub fn tenant() -> TenantName {
    TenantName::new("default").unwrap()
}

pub fn module(name: &str) -> ModuleName {
    ModuleName::new(name).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

impl Fake {
    pub fn start() -> Self {
        Self::with_base(None)
    }

    /// With a base that answers on this socket.
    pub fn with_base(invoke_socket: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (changed, _) = watch::channel(0);
        let published = Arc::new(Published {
            state: ArcSwap::from_pointee(world()),
            operations: ArcSwap::default(),
            changed,
            events: Arc::new(EventLog::starting_at(10)),
            logs: Arc::new(LogStore::default()),
            invoke_socket,
            figures: Box::new(|_| {}),
        });
        let (submissions, received) = mpsc::channel(16);
        let handle = EngineHandle::new(submissions, Arc::clone(&published));
        let socket = folder.path().join("admin.sock");
        let packages = Arc::new(PackageStore::open(&folder.path().join("packages")).unwrap());
        runtime.spawn(engine(received, Arc::clone(&published), Arc::clone(&packages)));
        let shutdown = admin::Shutdown::default();
        let mut fake =
            Self { socket, handle, published, packages, shutdown, stop: None, served: None, runtime, folder };
        fake.serve();
        fake.event("the supervisor has started", None);
        fake.event("spell is ready", Some("spell"));
        fake
    }

    /// Serves the API (again) on its socket.
    pub fn serve(&mut self) {
        let listener = {
            let _inside = self.runtime.enter();
            UnixListener::bind(&self.socket).unwrap()
        };
        let (stop, stopped) = oneshot::channel();
        let api = AdminApi {
            handle: self.handle.clone(),
            packages: Arc::clone(&self.packages),
            doctor: Places { state: self.folder.path().join("state"), run: "/run/mortise".into(), ..Places::default() },
            promises: Arc::new(host::Report { findings: vec![] }),
            shutdown: self.shutdown.clone(),
            roles: Arc::default(),
        };
        let until = async {
            let _ = stopped.await;
        };
        self.served = Some(self.runtime.spawn(admin::serve(listener, api, until)));
        self.stop = Some(stop);
    }

    /// Ends the API in order, as a supervisor that stops; the socket's file is gone then.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(served) = self.served.take() {
            self.runtime.block_on(served).unwrap();
        }
        std::fs::remove_file(&self.socket).unwrap();
    }

    /// Waits until an orderly end is asked for, and says that it has come, after `meanwhile`.
    pub fn shut_down(&self, meanwhile: impl FnOnce()) {
        self.runtime.block_on(self.shutdown.asked());
        meanwhile();
        self.shutdown.end();
    }

    /// A supervisor that dies in the middle of an answer: the next connection gets this and breaks.
    pub fn die_after(&mut self, answer: &[u8]) {
        self.stop();
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answer).unwrap();
        std::fs::remove_file(&self.socket).unwrap();
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn event(&self, text: &str, about: Option<&str>) {
        self.published.events.append(Event {
            seq: 0,
            at: at(5),
            kind: EventKind::Worker,
            tenant: about.map(|_| tenant()),
            module: about.map(module),
            version: None,
            worker: None,
            operation: None,
            text: text.into(),
        });
    }

    pub fn log(&self, about: &str, text: &str) {
        self.published.logs.append(LogLine {
            at: at(6),
            tenant: tenant(),
            module: module(about),
            version: "1.0.0".into(),
            worker: "0.1".into(),
            stream: LogStream::Stdout,
            level: None,
            text: text.into(),
            fields: BTreeMap::new(),
            dropped_before: 0,
        });
    }

    /// Lets the operation that is stuck end.
    pub fn release(&self, id: &OperationId) {
        end(&self.published, id, Ok(None));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

fn installed(version: Version) -> InstalledVersion {
    let digest = format!("{:02x}", version.minor).repeat(32);
    InstalledVersion { version, runtime: None, digest, installed: at(0) }
}

fn status(name: &str) -> ModuleStatus {
    ModuleStatus {
        tenant: tenant(),
        module: module(name),
        runtime: Some(RuntimeKind::Sdk),
        desired: Desired::Installed,
        version: None,
        beside: None,
        beside_share: None,
        beside_paused: false,
        beside_shadow: None,
        shadow: None,
        limits: mortise_supervisor::api::ModuleLimits::default(),
        installed: vec![installed(Version::new(1, 0, 0))],
        services: vec![],
        workers: vec![],
    }
}

pub fn world() -> Snapshot {
    let mut latency_log2 = vec![0; 32];
    latency_log2[3] = 90;
    latency_log2[9] = 10;
    let worker = WorkerStatus {
        worker: "0.1".into(),
        version: Version::new(1, 0, 0),
        state: WorkerState::Published,
        reason: None,
        pid: Some(4711),
        since: at(5),
        restarts: 2,
        oom_kills: 1,
        memory_bytes: 3 << 20,
        cpu_usec: 2_500_000,
        pressure: Some(PressureStatus { memory_usec: 1_500_000, cpu_usec: 99_000, io_usec: 0 }),
        pids: 4,
        limits: LimitsStatus { memory_bytes: Some(32 << 20), cpu: Some(0.5), pids: Some(16) },
        figures: vec![ServiceFigures {
            service: ServiceName::new("spell").unwrap(),
            calls: 100,
            errors: 10,
            latency_log2,
            latency_sum_ns: 5_000_000,
        }],
        kept: None,
    };
    let mut failed = worker.clone();
    failed.worker = "3.8".into();
    failed.state = WorkerState::Failed;
    failed.reason = Some("killed by the kernel: over its memory limit of 32M".into());
    failed.figures.clear();
    let spell = ModuleStatus {
        desired: Desired::Running,
        version: Some(Version::new(1, 0, 0)),
        installed: vec![installed(Version::new(1, 1, 0)), installed(Version::new(1, 0, 0))],
        services: vec![ServiceStatus {
            service: ServiceName::new("spell").unwrap(),
            published: true,
            http: Some("/spell".into()),
            callers: 1,
        }],
        workers: vec![worker, failed],
        ..status("spell")
    };
    Snapshot {
        groups: Vec::new(),
        tenants: Vec::new(),
        measured: None,
        modules: [status("broken"), spell, status("stuck")].map(Into::into).into(),
        resources: vec![],
        operations: vec![],
        routes: vec![],
        ingress_behind: false,
        host: HostStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: 1,
            started: Some(at(0)),
            ingress: vec!["http://127.0.0.1:8080".into()],
            degraded: vec!["io-weight: no controller".into()],
        },
    }
}

async fn engine(mut received: mpsc::Receiver<Submission>, published: Arc<Published>, packages: Arc<PackageStore>) {
    let mut count = 0;
    while let Some(Submission { id, request, answer }) = received.recv().await {
        count += 1;
        let id = id.unwrap_or_else(|| OperationId(format!("own-{count}")));
        let known = published.operations.load().get(&id).cloned();
        let answered = match known {
            Some(operation) => Ok(operation),
            None => accept(&published, id.clone(), request),
        };
        let accepted = answered.is_ok();
        let _ = answer.send(answered);
        if accepted {
            perform(&published, &packages, &id);
        }
    }
}

fn accept(published: &Published, id: OperationId, request: Request) -> Result<Operation, ApiError> {
    if let Some(name) = request.module()
        && !published.state.load().modules.iter().any(|it| it.module == *name && it.tenant == *request.tenant())
    {
        let message = format!("the tenant {} has no module {name}", request.tenant());
        return Err(ApiError::new(ErrorCode::NotFound, Blame::Caller, message).remedy("`mortise ps` lists them."));
    }
    if let Request::Swap { version, .. } = &request
        && *version == Version::new(1, 0, 0)
    {
        let message = "spell runs 1.0.0 already";
        return Err(ApiError::new(ErrorCode::Conflict, Blame::Caller, message));
    }
    if request.tenant().as_str() == "full" {
        return Err(ApiError::new(ErrorCode::Quota, Blame::Caller, "the tenant full has as many modules as it may"));
    }
    let operation = Operation {
        id,
        request,
        state: OperationState::Running,
        steps: vec![StepRecord { step: "accepted".into(), at: at(7), said: None }],
        error: None,
        receipt: None,
        started: at(7),
        ended: None,
    };
    put(published, operation.clone());
    Ok(operation)
}

fn perform(published: &Published, packages: &PackageStore, id: &OperationId) {
    let operations = published.operations.load();
    let operation = &operations[id];
    if operation.state != OperationState::Running {
        return;
    }
    let outcome = match (&operation.request, operation.request.module().map(ModuleName::as_str)) {
        (Request::Start { .. }, Some("stuck")) => return,
        (Request::Install { digest, .. }, _) => {
            register(published, packages, digest);
            Ok(None)
        }
        (Request::Start { .. }, Some("broken")) => {
            let message = "the worker 7.1 of broken ended with status 3 before it was ready";
            Err(ApiError::new(ErrorCode::Failed, Blame::Module, message)
                .remedy("`mortise logs broken` shows its output."))
        }
        (Request::Stop { .. } | Request::Uninstall { .. }, _) => {
            let disk_bytes = if matches!(operation.request, Request::Uninstall { .. }) { 5 << 20 } else { 0 };
            let memory_bytes = 3 << 20;
            Ok(Some(Receipt { workers: 1, cgroups_removed: 4, memory_bytes, disk_bytes, ..Receipt::default() }))
        }
        _ => Ok(None),
    };
    end(published, id, outcome);
}

fn register(published: &Published, packages: &PackageStore, digest: &str) {
    let package = packages.find(&digest.parse().unwrap()).unwrap();
    let mut state = Snapshot::clone(&published.state.load());
    let name = package.manifest.name.as_str();
    if !state.modules.iter().any(|it| it.module.as_str() == name) {
        let version = package.manifest.version.clone();
        let installed = vec![InstalledVersion { version, runtime: None, digest: digest.to_owned(), installed: at(0) }];
        state.modules.push(ModuleStatus { installed, ..status(name) }.into());
    }
    published.state.store(Arc::new(state));
}

fn end(published: &Published, id: &OperationId, outcome: Result<Option<Receipt>, ApiError>) {
    let mut operation = published.operations.load()[id].clone();
    operation.ended = Some(at(8));
    match outcome {
        Ok(receipt) => (operation.state, operation.receipt) = (OperationState::Done, receipt),
        Err(error) => (operation.state, operation.error) = (OperationState::Failed, Some(error)),
    }
    put(published, operation);
}

fn put(published: &Published, operation: Operation) {
    let mut operations = HashMap::clone(&published.operations.load());
    operations.insert(operation.id.clone(), operation);
    let mut state = Snapshot::clone(&published.state.load());
    state.operations = operations.values().cloned().collect();
    published.operations.store(Arc::new(operations));
    published.state.store(Arc::new(state));
    published.changed.send_modify(|it| *it += 1);
}
