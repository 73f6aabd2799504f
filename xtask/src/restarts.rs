//! `cargo xtask bench restart`: how long a supervisor takes to come back where many modules run: after its own death, when it takes all
//! workers over, and after the end of everything, when it starts all of them.
//!
//! Each module is a program that does nothing, so the times are the supervisor's and the kernel's.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};
use xtask::daemon::{Daemon, Options};

use crate::swaps::share;

/// How often a supervisor dies in a run, and how often everything is started anew.
const KILLS: usize = 10;
const STARTS: usize = 3;

/// How long all workers may take to be ready.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two looks at what is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Does it with so many modules and prints a row for each case.
pub fn run(modules: usize, as_json: bool) -> Result<(), Failure> {
    let artifacts = Artifacts::build(Profile::Dist)?;
    let folder = tempfile::Builder::new().prefix("mortise-bench-").tempdir()?;
    let options = Options {
        folder: folder.path().join("world"),
        listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        base: Some(artifacts.packages.join("base")),
        allow_degraded: Vec::new(),
        more: Vec::new(),
    };
    let mut daemon = Daemon::start(&artifacts, options.clone())?;
    for number in 0..modules {
        let name = format!("idle-{number}");
        let package = folder.path().join(&name);
        lay_out(&name, &package)?;
        daemon.ask(["install", &package.display().to_string()])?;
        daemon.ask(["start", &name])?;
        fs::remove_dir_all(package)?;
    }
    let (mut answers, mut ready, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let before = pids(&daemon)?;
    for _ in 0..KILLS {
        daemon.kill()?;
        let (answered, said) = timed(&daemon.socket(), || daemon.succeed())?;
        answers.push(answered);
        ready.push(said);
        if pids(&daemon)? != before {
            return Err("workers were ended or started by the death of the supervisor".into());
        }
    }
    for _ in 0..STARTS {
        daemon.stop()?;
        let began = Instant::now();
        daemon = Daemon::start(&artifacts, options.clone())?;
        while pids(&daemon)?.len() < before.len() {
            if began.elapsed() > PATIENCE {
                return Err(format!("not every worker was there after {PATIENCE:?}").into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        all.push(nanos(began.elapsed()));
    }
    daemon.stop()?;
    let rows = [("killed: API answers", answers), ("killed: READY", ready), ("from nothing: all ready", all)];
    if !as_json {
        println!("{modules} modules run\n{:<24} {:>6} {:>12} {:>12}", "case", "count", "p50 ms", "most ms");
    }
    for (case, mut took) in rows {
        took.sort_unstable();
        let (count, p50, most) = (took.len(), share(&took, 0.5), share(&took, 1.0));
        if as_json {
            println!("{}", json!({"case": case, "modules": modules, "count": count, "p50_ns": p50, "max_ns": most}));
        } else {
            println!("{case:<24} {count:>6} {:>12.2} {:>12.2}", p50 as f64 / 1e6, most as f64 / 1e6);
        }
    }
    Ok(())
}

/// A module whose program only waits.
fn lay_out(name: &str, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    let manifest = format!(
        "name = \"{name}\"\nversion = \"1.0.0\"\nruntime = \"http\"\nexec = \"/bin/sleep\"\nargs = [\"infinity\"]\n\
         listen = \"inherit\"\n\n[[provides]]\nservice = \"{name}\"\nhttp = {{ prefix = \"/{name}\" }}\n\n\
         [limits]\nmemory = \"16M\"\ncpu = 0.1\npids = 8\n\n[timeouts]\nstart = \"60s\"\nstop = \"100ms\"\n"
    );
    fs::write(to.join("module.toml"), manifest)?;
    Ok(())
}

/// How long it took until the API answered, and until it was ready.
fn timed(socket: &Path, start: impl FnOnce() -> Result<(), Failure>) -> Result<(u64, u64), Failure> {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let answering = scope.spawn(move || {
            while !answers(socket) && began.elapsed() < PATIENCE {
                std::thread::sleep(LOOK_AGAIN);
            }
            nanos(began.elapsed())
        });
        start()?;
        let ready = nanos(began.elapsed());
        Ok((answering.join().map_err(|_| "the one who asks has ended")?, ready))
    })
}

fn answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let asked = stream.write_all(b"GET /v1/operations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = [0; 12];
    asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"HTTP/1.1 200"
}

/// The processes of all workers that are ready.
fn pids(daemon: &Daemon) -> Result<Vec<u64>, Failure> {
    let status = daemon.ask_json(["status"])?;
    let workers =
        status["modules"].as_array().into_iter().flatten().filter_map(|it| it["workers"].as_array()).flatten();
    let ready = workers.filter(|it| it["state"] == "ready" || it["state"] == "published");
    let mut pids: Vec<u64> = ready.filter_map(|it| it["pid"].as_u64()).collect();
    pids.sort_unstable();
    Ok(pids)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
