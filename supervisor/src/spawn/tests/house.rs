//! A spawner with folders and groups of its own, that leaves nothing behind, also when a test panics.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mortise_control::{ModuleName, Role, TenantName, Token, WorkerId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use semver::Version;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::cgroup::{Groups, Layout};
use crate::host::{Enforcement, Promises, probe};
use crate::lifecycle::ExitStatus;
use crate::manifest::{Exec, Limits};
use crate::spawn::{Config, Program, Running, Spawner, WorkerSpec};

/// Nothing that a test waits for takes this long, unless it is broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_UID: u32 = 260_000;

pub(super) struct House {
    pub runtime: Runtime,
    pub spawner: Spawner,
    pub groups: Arc<Groups>,
    pub config: Config,
    pub folder: TempDir,
}

impl House {
    /// None, and a line that says so, when this process is not root.
    pub fn build() -> Option<Self> {
        Self::build_with(probe_all)
    }

    pub fn build_with(enforcement: impl FnOnce(&Groups) -> Enforcement) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root, to start workers in their sandbox");
            return None;
        }
        Self::build_as_anybody(enforcement)
    }

    pub fn build_as_anybody(enforcement: impl FnOnce(&Groups) -> Enforcement) -> Option<Self> {
        // First: nothing is there yet that a panic would leave behind.
        let init = init();
        let folder = tempfile::tempdir().unwrap();
        let groups = Arc::new(Groups::open(Layout::detect().unwrap(), folder.path()).unwrap());
        let config =
            Config { run: folder.path().join("run"), init, http_gid: FIRST_UID - 1, enforcement: enforcement(&groups) };
        std::fs::create_dir_all(folder.path().join("package")).unwrap();
        std::fs::write(folder.path().join("package/greeting"), "hello\n").unwrap();
        make_reachable(folder.path());
        let spawner = Spawner::new(config.clone(), Arc::clone(&groups)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Some(Self { runtime, spawner, groups, config, folder })
    }

    /// A worker that runs a program of the host.
    pub fn spec(&self, program: &str, arguments: &[&str]) -> WorkerSpec {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let slot = NEXT.fetch_add(1, Ordering::Relaxed);
        WorkerSpec {
            worker: WorkerId { slot, generation: 1 },
            role: Role::Sdk,
            tenant: TenantName::new("test").unwrap(),
            module: ModuleName::new("probe").unwrap(),
            version: Version::new(1, 0, 0),
            token: Token([7; 16]),
            uid: FIRST_UID + slot,
            package: self.folder.path().join("package"),
            program: Program {
                exec: Exec::Host(PathBuf::from(program)),
                arguments: arguments.iter().map(ToString::to_string).collect(),
                environment: BTreeMap::new(),
            },
            configuration: BTreeMap::new(),
            limits: Limits::default(),
            http: false,
            inherited: Vec::new(),
            serve: None,
        }
    }

    pub fn shell(&self, script: &str) -> WorkerSpec {
        self.spec("/bin/sh", &["-c", script])
    }

    pub fn spawn(&self, spec: WorkerSpec) -> Running {
        self.runtime.block_on(self.spawner.spawn(spec)).unwrap()
    }

    /// Runs a worker to its end: what it wrote, and how it ended. Nothing of it is left then.
    pub fn run(&self, spec: WorkerSpec) -> (String, ExitStatus) {
        let running = self.spawn(spec);
        let written = read_all(&running.stdout);
        let status = self.exit(&running);
        self.remove(&running);
        (written, status)
    }

    pub fn exit(&self, running: &Running) -> ExitStatus {
        let ended = async { tokio::time::timeout(PATIENCE, running.process.exited()).await };
        self.runtime.block_on(ended).expect("the worker does not end")
    }

    pub fn remove(&self, running: &Running) {
        self.runtime.block_on(self.spawner.remove(running.worker)).unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let swept = self.runtime.block_on(self.spawner.sweep(Vec::new()));
        let closed = self.groups.close();
        if !std::thread::panicking() {
            assert!(swept.left.is_empty(), "{:?}", swept.left);
            closed.unwrap();
        }
    }
}

pub(super) fn probe_all(groups: &Groups) -> Enforcement {
    probe(groups).decide(&Promises::new()).unwrap()
}

/// A worker's own user has to come as far as its package.
fn make_reachable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The init of this build: made if it is not there or is older than its source.
fn init() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        // Whoever is not root was started by a test that is, and that has built it.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = std::process::Command::new(cargo).args(["build", "--quiet", "-p", "mortise-init"]).status();
        assert!(built.unwrap().success(), "mortise-init does not build");
    });
    let tests = std::env::current_exe().unwrap();
    tests.ancestors().nth(2).unwrap().join("mortise-init")
}

/// Waits until it can be read.
pub(super) fn wait_readable(fd: &OwnedFd) {
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    assert!(poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() > 0, "nothing comes");
}

fn read_some(fd: &OwnedFd) -> Vec<u8> {
    let mut file = File::from(fd.try_clone().unwrap());
    let mut chunk = [0; 4096];
    loop {
        wait_readable(fd);
        match file.read(&mut chunk) {
            Ok(read) => return chunk[..read].to_vec(),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// Until nobody is left who can write.
pub(super) fn read_all(fd: &OwnedFd) -> String {
    String::from_utf8_lossy(&read_all_bytes(fd)).into_owned()
}

pub(super) fn read_all_bytes(fd: &OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        match read_some(fd) {
            it if it.is_empty() => return all,
            it => all.extend(it),
        }
    }
}

/// Until the text has come.
pub(super) fn read_until(fd: &OwnedFd, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        match read_some(fd) {
            it if it.is_empty() => panic!("it ended with {all:?} and without {text:?}"),
            it => all.push_str(&String::from_utf8_lossy(&it)),
        }
    }
    all
}
