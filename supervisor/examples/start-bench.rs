//! What starting a worker costs, in units of a bare `posix_spawn` of the same binary in the same run.
//!
//! `cargo xtask bench start [--json]`. Cases and their limit are interleaved, each figure is a median, and the ratio is what counts:
//! times on a shared machine are noise.
//!
//! - `cold-full`: this binary as a worker, in the full sandbox and fresh cgroups, from the order to its first byte;
//! - `kill-reap`: from the kill of such a worker to its cgroup being gone, against a bare kill and wait.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mortise_control::{ModuleName, Role, TenantName, Token, WorkerId};
use mortise_supervisor::cgroup::{Groups, Layout};
use mortise_supervisor::host::{Promises, probe};
use mortise_supervisor::manifest::{Exec, Limits, PackagePath};
use mortise_supervisor::spawn::{Config, Program, Spawner, WorkerSpec};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The argument with which this program is its own worker.
const WORKER: &str = "--as-worker";
const WARM_UP: usize = 5;
const ROUNDS: usize = 100;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(WORKER) {
        return work();
    }
    let json = std::env::args().any(|it| it == "--json");
    match bench(json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("start-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says one byte and waits to be killed.
fn work() -> ExitCode {
    let mut stdout = std::io::stdout();
    if stdout.write_all(b"x").and_then(|()| stdout.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        std::thread::park();
    }
}

/// Times of one case and of its limit.
#[derive(Default)]
struct Case {
    times: Vec<Duration>,
    limit: Vec<Duration>,
}

fn bench(json: bool) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("start-bench: skipped: the full sandbox needs root");
        return Ok(());
    }
    let me = std::env::current_exe()?;
    let folder = tempfile::tempdir()?;
    let package = folder.path().join("package");
    std::fs::create_dir(&package)?;
    let program = package.join("worker");
    std::fs::copy(&me, &program)?;
    let groups = Arc::new(Groups::open(Layout::detect()?, folder.path())?);
    let enforcement = probe(&groups).decide(&Promises::new())?;
    let config = Config { run: folder.path().join("run"), init: init(&me)?, http_gid: 269_999, enforcement };
    let spawner = Spawner::new(config, Arc::clone(&groups))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(rounds(&spawner, &package, &program));
    let left = runtime.block_on(spawner.sweep(Vec::new())).left;
    groups.close()?;
    let [start, kill] = measured?;
    print("cold-full", &start, json);
    print("kill-reap", &kill, json);
    if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}").into()) }
}

/// Next to this example's folder.
fn init(me: &Path) -> Result<PathBuf, Failure> {
    let candidates = [me.parent(), me.ancestors().nth(2)];
    let found = candidates.into_iter().flatten().map(|it| it.join("mortise-init")).find(|it| it.exists());
    Ok(found.ok_or("mortise-init is not built: cargo build -p mortise-init with the same profile")?)
}

async fn rounds(spawner: &Spawner, package: &Path, program: &Path) -> Result<[Case; 2], Failure> {
    let (mut start, mut kill) = (Case::default(), Case::default());
    for round in 0..WARM_UP + ROUNDS {
        let worker = WorkerId { slot: 1, generation: u32::try_from(round)? };
        let (bare, bare_kill) = bare(program)?;
        let (full, full_kill) = full(spawner, spec(worker, package)?).await?;
        if round >= WARM_UP {
            start.limit.push(bare);
            start.times.push(full);
            kill.limit.push(bare_kill);
            kill.times.push(full_kill);
        }
    }
    Ok([start, kill])
}

/// `Command` uses posix_spawn where nothing asks for more. To the first byte, and from kill to wait.
fn bare(program: &Path) -> Result<(Duration, Duration), Failure> {
    let mut command = Command::new(program);
    command.arg(WORKER).stdout(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn()?;
    child.stdout.as_mut().ok_or("no pipe")?.read_exact(&mut [0])?;
    let started = begin.elapsed();
    let begin = Instant::now();
    child.kill()?;
    child.wait()?;
    Ok((started, begin.elapsed()))
}

async fn full(spawner: &Spawner, spec: WorkerSpec) -> Result<(Duration, Duration), Failure> {
    let begin = Instant::now();
    let running = spawner.spawn(spec).await?;
    wait_readable(&running.stdout)?;
    let started = begin.elapsed();
    let begin = Instant::now();
    spawner.kill(running.worker).await?;
    running.process.exited().await;
    spawner.remove(running.worker).await?;
    Ok((started, begin.elapsed()))
}

fn wait_readable(fd: &OwnedFd) -> Result<(), Failure> {
    let ready = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000_u16))?;
    if ready == 0 { Err("the worker says nothing".into()) } else { Ok(()) }
}

fn spec(worker: WorkerId, package: &Path) -> Result<WorkerSpec, Failure> {
    let program = Program {
        exec: Exec::Package(PackagePath::new("worker")?),
        arguments: vec![WORKER.into()],
        environment: BTreeMap::new(),
    };
    Ok(WorkerSpec {
        worker,
        role: Role::Sdk,
        tenant: TenantName::new("bench")?,
        module: ModuleName::new("bench")?,
        version: semver::Version::new(1, 0, 0),
        token: Token([0; 16]),
        uid: 270_000,
        package: package.into(),
        program,
        configuration: BTreeMap::new(),
        limits: Limits::default(),
        http: false,
        inherited: Vec::new(),
        serve: None,
    })
}

fn print(case: &str, it: &Case, json: bool) {
    let sorted = |times: &[Duration]| {
        let mut times: Vec<_> = times.iter().map(Duration::as_nanos).collect();
        times.sort_unstable();
        times
    };
    let (times, limit) = (sorted(&it.times), sorted(&it.limit));
    let (p50, p99, limit_p50) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100], limit[ROUNDS / 2]);
    let ratio = (p50 as f64 / limit_p50 as f64 * 100.0).round() / 100.0;
    if json {
        let line = serde_json::json!({
            "bench": "start", "case": case, "p50_ns": p50, "p99_ns": p99, "limit_p50_ns": limit_p50, "ratio": ratio,
        });
        println!("{line}");
    } else {
        let us = |ns: u128| ns as f64 / 1e3;
        println!(
            "{case:<10}  p50 {:>9.1} µs   p99 {:>9.1} µs   bare {:>9.1} µs   {ratio:.2} x",
            us(p50),
            us(p99),
            us(limit_p50)
        );
    }
}
