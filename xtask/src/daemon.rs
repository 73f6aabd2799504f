//! A `mortised` of our own: its private folder, its start and its end.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Failure;
use crate::artifacts::Artifacts;
use crate::command::output;

/// How long a supervisor may take to say that it is ready, and to end after SIGTERM. On a machine that builds meanwhile, it needs some.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a supervisor is to be started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder: state, run and log go below it.
    pub folder: PathBuf,
    /// Where the ingress listens; port 0 takes any.
    pub listen: SocketAddr,
    /// The base to install at start.
    pub base: Option<PathBuf>,
    /// Promises that need not be kept, by name.
    pub allow_degraded: Vec<String>,
    /// Further arguments.
    pub more: Vec<String>,
}

/// A supervisor that runs. Dropped without [`Daemon::stop`], it is told to stop and waited for, then killed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    programs: PathBuf,
    options: Options,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    ///
    /// # Errors
    /// It ended or was not ready in time: with the end of its log.
    pub fn start(artifacts: &Artifacts, options: Options) -> Result<Self, Failure> {
        fs::create_dir_all(&options.folder)?;
        let child = launch(&artifacts.programs, &options)?;
        Ok(Self { child, programs: artifacts.programs.clone(), options })
    }

    /// The folder that everything of it is in.
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.options.folder.join("run/admin.sock")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A `mortise` that speaks to it.
    pub fn mortise<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, words: I) -> Command {
        let mut mortise = Command::new(self.programs.join("mortise"));
        mortise.arg("--socket").arg(self.socket()).args(words);
        mortise
    }

    /// Runs `mortise` and returns what it printed.
    ///
    /// # Errors
    /// It failed; with what it said.
    pub fn ask<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, words: I) -> Result<String, Failure> {
        output(&mut self.mortise(words))
    }

    /// Runs `mortise --json` and returns what it printed.
    ///
    /// # Errors
    /// It failed, or that was no JSON.
    pub fn ask_json<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, words: I) -> Result<Value, Failure> {
        let mut mortise = self.mortise(["--json"]);
        let text = output(mortise.args(words))?;
        serde_json::from_str(&text).map_err(|e| format!("{e}: {text}").into())
    }

    /// Where its ingress listens.
    ///
    /// # Errors
    /// It did not say.
    pub fn ingress(&self) -> Result<SocketAddr, Failure> {
        let status = self.ask_json(["status"])?;
        let address = status["host"]["ingress"][0].as_str().ok_or_else(|| format!("no ingress in {status}"))?;
        Ok(address.trim_start_matches("http://").parse()?)
    }

    /// Ends it by SIGKILL: its workers go on.
    ///
    /// # Errors
    /// It could not be killed.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts its successor on the same folder, after [`Daemon::kill`].
    ///
    /// # Errors
    /// As for [`Daemon::start`].
    pub fn succeed(&mut self) -> Result<(), Failure> {
        self.child = launch(&self.programs, &self.options)?;
        Ok(())
    }

    /// The same with faults that it is asked for from the beginning, if it was built with failpoints.
    ///
    /// # Errors
    /// As for [`Daemon::start`].
    pub fn succeed_with(&mut self, faults: &str) -> Result<(), Failure> {
        self.child = launch_with(&self.programs, &self.options, &[("MORTISE_FAILPOINTS", faults)])?;
        Ok(())
    }

    /// Tells it to stop and waits for its end.
    ///
    /// # Errors
    /// It did not end in time, or not with status 0.
    pub fn stop(mut self) -> Result<(), Failure> {
        let status = self.end()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("mortised ended with {status}\n{}", log_end(&self.options.folder)).into())
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// It could not be asked.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        Ok(self.child.try_wait()?)
    }

    fn end(&mut self) -> Result<ExitStatus, Failure> {
        let ended = self.told_to_end();
        if let Some(group) = group(&self.options.folder) {
            // Only an empty group can be removed, so nothing that still runs is hidden by this.
            let _ = fs::remove_dir(group);
        }
        ended
    }

    fn told_to_end(&mut self) -> Result<ExitStatus, Failure> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        match wait(&mut self.child, PATIENCE)? {
            Some(status) => Ok(status),
            None => {
                self.child.kill()?;
                self.child.wait()?;
                Err(format!("mortised did not end in {PATIENCE:?}\n{}", log_end(&self.options.folder)).into())
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            eprintln!("{failure}");
        }
    }
}

fn launch(programs: &Path, options: &Options) -> Result<Child, Failure> {
    launch_with(programs, options, &[])
}

fn launch_with(programs: &Path, options: &Options, environment: &[(&str, &str)]) -> Result<Child, Failure> {
    let folder = &options.folder;
    let notify_path = folder.join("notify.sock");
    let _ = fs::remove_file(&notify_path);
    let notify = UnixDatagram::bind(&notify_path)
        .map_err(|e| format!("{}: {e} (a socket's path has at most 107 bytes)", notify_path.display()))?;
    let log = File::options().create(true).append(true).open(folder.join("mortised.log"))?;
    let mut mortised = in_a_group(programs.join("mortised"), folder);
    // This host's own mortise.toml is none of our business.
    mortised.args(["--config", "/dev/null"]);
    mortised.arg("--state").arg(folder.join("state")).arg("--run").arg(folder.join("run"));
    mortised.arg("--listen").arg(options.listen.to_string());
    if let Some(base) = &options.base {
        mortised.arg("--base").arg(base);
    }
    if !options.allow_degraded.is_empty() {
        mortised.arg("--allow-degraded").arg(options.allow_degraded.join(","));
    }
    mortised.args(&options.more).env("NOTIFY_SOCKET", &notify_path).envs(environment.iter().copied());
    mortised.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = mortised.spawn().map_err(|e| format!("{}: {e}", programs.join("mortised").display()))?;
    match await_ready(&mut child, &notify) {
        Ok(()) => {
            let _ = fs::remove_file(&notify_path);
            Ok(child)
        }
        Err(failure) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(format!("{failure}\n{}", log_end(folder)).into())
        }
    }
}

/// On cgroup v2 a supervisor needs a group that has no other process. Where MORTISE_CGROUP names a group whose controllers are
/// passed on, it gets one below that; elsewhere it starts in ours. Its successor begins where it was itself, in the leaf that it has
/// made: the group above has children now, and admits no process.
pub fn in_a_group(program: PathBuf, folder: &Path) -> Command {
    let Some(group) = group(folder) else { return Command::new(program) };
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"mkdir -p "$0"; leaf="$0/mortise-supervisor"; [ -d "$leaf" ] || leaf=$0; echo $$ > "$leaf/cgroup.procs" && exec "$@""#]).arg(group).arg(program);
    shell
}

fn group(folder: &Path) -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("MORTISE_CGROUP")?).join(folder.file_name()?))
}

/// Waits for `READY=1` the way systemd does, but also notices an early end.
fn await_ready(child: &mut Child, notify: &UnixDatagram) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    notify.set_read_timeout(Some(Duration::from_millis(50)))?;
    while Instant::now() < deadline {
        if let Ok(len) = notify.recv(&mut buffer)
            && buffer[..len].split(|b| *b == b'\n').any(|line| line == b"READY=1")
        {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("mortised ended with {status} before it was ready").into());
        }
    }
    Err(format!("mortised was not ready in {PATIENCE:?}").into())
}

fn wait(child: &mut Child, within: Duration) -> Result<Option<ExitStatus>, Failure> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        // The standard library has no wait with a deadline; this polls for an end that is on its way.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn log_end(folder: &Path) -> String {
    let text = fs::read(folder.join("mortised.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    format!("its log ends with:\n  {}", lines[lines.len().saturating_sub(30)..].join("\n  "))
}
