//! What `mortised` says to whoever has started it, and how it does without root.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mortise_tests::{Baseline, as_root, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::artifacts::{Artifacts, Profile};

/// Nothing that a test waits for takes this long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The uid of a supervisor without privileges: `nobody`.
const NOBODY: u32 = 65_534;

/// The mortise.toml of a supervisor in this folder; empty, if nobody has written it.
fn config(folder: &Path) -> PathBuf {
    let path = folder.join("mortise.toml");
    if !path.exists() {
        fs::write(&path, "").expect("mortise.toml");
    }
    path
}

/// A `mortised` started by hand, and what it tells its service manager.
struct Mortised {
    child: Child,
    notify: UnixDatagram,
    folder: PathBuf,
    programs: PathBuf,
}

impl Mortised {
    /// In a group that it may have for itself.
    fn start(folder: &Path, programs: &Path, change: impl FnOnce(&mut Command)) -> Self {
        Self::run(xtask::daemon::in_a_group(programs.join("mortised"), folder), folder, programs, change)
    }

    /// As somebody who may make no group.
    fn start_without_root(folder: &Path, programs: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(programs.join("mortised"));
        command.uid(NOBODY).gid(NOBODY).args(["--listen", "127.0.0.1:0"]);
        Self::run(command, folder, programs, change)
    }

    fn run(mut command: Command, folder: &Path, programs: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let socket = folder.join("notify.sock");
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a socket");
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).expect("a mode");
        notify.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        command.arg("--state").arg(folder.join("state")).arg("--run").arg(folder.join("run"));
        command.arg("--config").arg(config(folder));
        command.env("NOTIFY_SOCKET", &socket).env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command.stdin(Stdio::null()).stderr(fs::File::create(folder.join("log")).expect("a log"));
        change(&mut command);
        let child = command.spawn().expect("mortised starts");
        Self { child, notify, folder: folder.to_owned(), programs: programs.to_owned() }
    }

    /// The next message in which a line begins so; that line.
    fn told(&mut self, line: &str) -> String {
        let message = self.told_with(line);
        message.lines().find(|it| it.starts_with(line)).expect("it is in it").to_owned()
    }

    /// The same with the rest of the message.
    fn told_with(&mut self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            if let Ok(len) = self.notify.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if text.lines().any(|it| it.starts_with(line)) {
                    return text;
                }
            } else if let Some(status) = self.child.try_wait().expect("it can be asked") {
                panic!("mortised ended with {status}\n{}", self.log());
            }
        }
        panic!("mortised did not say {line}\n{}", self.log());
    }

    fn mortise(&self, words: &[&str]) -> Output {
        let mut mortise = Command::new(self.programs.join("mortise"));
        mortise.arg("--socket").arg(self.folder.join("run/admin.sock")).args(words);
        mortise.output().expect("mortise runs")
    }

    fn asked(&self, words: &[&str]) -> String {
        let output = self.mortise(words);
        assert!(output.status.success(), "{words:?}: {}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn has_logged(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// Has it read mortise.toml again; the status afterwards.
    fn hang_up(&mut self) -> String {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGHUP).expect("it runs");
        // In one message with RELOADING=1, or systemd does not believe it.
        self.told("MONOTONIC_USEC=");
        self.told("STATUS=")
    }

    /// How a start ends that is none: the exit code, and the last status.
    fn ends(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("its end").code();
        let (mut status, mut buffer) = (String::new(), [0; 4096]);
        while let Ok(len) = self.notify.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]);
            if let Some(told) = text.lines().find_map(|it| it.strip_prefix("STATUS=")) {
                told.clone_into(&mut status);
            }
        }
        (code, status)
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).expect("it runs");
        self.told("STOPPING=1");
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Mortised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let (Some(group), Some(name)) = (std::env::var_os("MORTISE_CGROUP"), self.folder.file_name()) {
            // Only an empty group can be removed.
            let _ = fs::remove_dir(Path::new(&group).join(name));
        }
    }
}

fn artifacts() -> Artifacts {
    Artifacts::build(Profile::Dev).expect("the programs build")
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("mortise-test-").tempdir().expect("a temporary folder")
}

fn nothing_is_left(before: &Baseline) {
    let mut left = Vec::new();
    let gone = eventually(|| {
        left = before.left_over();
        left.is_empty()
    });
    assert!(gone, "left behind: {left:#?}");
}

#[test]
fn the_watchdog_is_told_as_long_as_the_loop_turns() {
    as_root!();
    let (artifacts, before, folder) = (artifacts(), Baseline::take(), folder());
    let mut mortised = Mortised::start(folder.path(), &artifacts.programs, |it| {
        it.env("WATCHDOG_USEC", "600000");
    });
    mortised.told("READY=1");
    for _ in 0..5 {
        mortised.told("WATCHDOG=1");
    }
    mortised.stop();
    nothing_is_left(&before);
}

#[test]
fn a_hangup_takes_all_of_mortise_toml_or_nothing() {
    as_root!();
    let (artifacts, before, folder) = (artifacts(), Baseline::take(), folder());
    let config = config(folder.path());
    fs::write(&config, "log = \"warn\"\n").expect("mortise.toml");
    let mut mortised = Mortised::start(folder.path(), &artifacts.programs, |it| {
        it.env_remove("MORTISE_LOG");
    });
    assert_eq!(mortised.told("STATUS=ready"), "STATUS=ready");
    // With a filter that lets it through, what changed is in the log.
    fs::write(&config, "log = \"info\"\n[timeouts]\nflip = \"9s\"\n").expect("mortise.toml");
    assert_eq!(mortised.hang_up(), "STATUS=ready");
    assert!(mortised.has_logged("timeouts.flip"), "{}", mortised.log());
    // One thing that cannot change, one that is wrong: nothing of either is taken, not even what could be.
    fs::write(&config, "log = \"debug\"\nlisten = [\"127.0.0.1:1\"]\n").expect("mortise.toml");
    let status = mortised.hang_up();
    assert!(status.contains("ready; mortise.toml was refused (1 error"), "{status}");
    assert!(mortised.has_logged("`listen` cannot change while mortised runs"), "{}", mortised.log());
    fs::write(&config, "log = \"debug\"\nnonsense = 1\ntenant_uids = 1\n").expect("mortise.toml");
    let status = mortised.hang_up();
    assert!(status.contains("(2 errors"), "{status}");
    assert!(mortised.has_logged("mortise.toml:2:1"), "{}", mortised.log());
    assert!(!mortised.has_logged("DEBUG"), "{}", mortised.log());
    // Right again.
    fs::write(&config, "log = \"debug\"\n").expect("mortise.toml");
    assert_eq!(mortised.hang_up(), "STATUS=ready");
    mortised.asked(&["ps"]);
    mortised.stop();
    nothing_is_left(&before);
}

#[test]
fn modules_that_are_required_are_ready_before_the_supervisor_says_so() {
    as_root!();
    let (artifacts, before, folder) = (artifacts(), Baseline::take(), folder());
    let mut first = Mortised::start(folder.path(), &artifacts.programs, |_| {});
    first.told("READY=1");
    first.asked(&["install", &artifacts.packages.join("unruly").display().to_string()]);
    first.asked(&["start", "unruly"]);
    first.stop();

    // As after a reboot: it is to run, and does not yet. The other one is not waited for, since nobody has installed it.
    let config = config(folder.path());
    fs::write(&config, "readiness.modules = [\"unruly\", \"team/absent\"]\n").expect("mortise.toml");
    let mut mortised = Mortised::start(folder.path(), &artifacts.programs, |_| {});
    let message = mortised.told_with("STATUS=waiting for");
    assert!(message.lines().any(|it| it == "EXTEND_TIMEOUT_USEC=70000000"), "{message}");
    assert_eq!(mortised.told("STATUS=degraded"), "STATUS=degraded: not ready: team/absent (it is not installed)");
    let ps: serde_json::Value = serde_json::from_str(&mortised.asked(&["--json", "ps"])).expect("JSON");
    assert_eq!((ps[0]["module"].as_str(), ps[0]["state"].as_str()), (Some("unruly"), Some("ready")), "{ps}");

    fs::write(&config, "readiness.modules = [\"unruly\"]\n").expect("mortise.toml");
    assert_eq!(mortised.hang_up(), "STATUS=ready");
    mortised.asked(&["stop", "unruly"]);
    assert_eq!(mortised.told("STATUS="), "STATUS=degraded: not ready: default/unruly (it is stopped)");
    mortised.asked(&["start", "unruly"]);
    mortised.told("STATUS=ready");
    mortised.stop();
    nothing_is_left(&before);
}

#[test]
fn a_configuration_is_checked_without_starting_anything() {
    let (artifacts, folder) = (artifacts(), folder());
    let config = config(folder.path());
    let check = |text: &str| {
        fs::write(&config, text).expect("mortise.toml");
        let mut mortised = Command::new(artifacts.programs.join("mortised"));
        mortised.env_remove("MORTISE_LOG").arg("--config").arg(&config).args(["--check-config", "--run", "/elsewhere"]);
        let Output { status, stdout, stderr } = mortised.output().expect("mortised");
        (status.code(), String::from_utf8(stdout).expect("text"), String::from_utf8(stderr).expect("text"))
    };
    let (code, printed, errors) = check("log = \"debug\"\n");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let line = |key: &str| printed.lines().find(|it| it.starts_with(key)).unwrap_or_else(|| panic!("{key}: {printed}"));
    assert!(line("log = \"debug\"").ends_with("mortise.toml:1"), "{printed}");
    assert!(line("run = \"/elsewhere\"").ends_with("# --run"), "{printed}");
    assert!(line("state").ends_with("# default"), "{printed}");
    let (code, printed, errors) = check("log = \"debug\"\nlogg = 1\n");
    assert_eq!((code, printed.as_str()), (Some(78), ""));
    assert!(errors.contains("mortise.toml:2:1") && errors.contains("did you mean `log`"), "{errors}");
}

#[test]
fn a_start_that_would_fail_again_says_so_by_its_exit_code() {
    as_root!();
    let (artifacts, before, folder) = (artifacts(), Baseline::take(), folder());
    let start = |more: &[&str]| {
        let run = Mortised::start(folder.path(), &artifacts.programs, |it| {
            it.args(more);
        });
        run.ends()
    };
    let module = artifacts.packages.join("unruly");
    let (code, status) = start(&["--base", &module.display().to_string()]);
    assert_eq!(code, Some(78), "{status}");
    assert!(status.starts_with("not started: --base") && status.contains("the module unruly is no base"), "{status}");
    // A port that somebody else has may be free the next time.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let (code, status) = start(&["--listen", &address]);
    assert_eq!(code, Some(1), "{status}");
    assert!(status.starts_with(&format!("not started: --listen {address}")), "{status}");
    fs::write(config(folder.path()), "logg = 1\n").expect("mortise.toml");
    let told = "not started: mortise.toml is wrong (1 error, see the log)";
    assert_eq!(start(&[]), (Some(78), told.to_owned()));
    nothing_is_left(&before);
}

#[test]
fn a_base_that_does_not_start_is_told_and_the_supervisor_works_without_it() {
    as_root!();
    let (artifacts, before, folder) = (artifacts(), Baseline::take(), folder());
    let base = folder.path().join("base");
    fs::create_dir(&base).expect("a folder");
    let manifest = "name = \"base\"\nversion = \"9.9.9\"\nruntime = \"base\"\nexec = \"/bin/false\"\n\
                    [restart]\nbackoff = \"20ms\"\nbackoff_max = \"20ms\"\ncrashes = 2\n";
    fs::write(base.join("module.toml"), manifest).expect("module.toml");
    let mut mortised = Mortised::start(folder.path(), &artifacts.programs, |it| {
        it.arg("--base").arg(&base).args(["--listen", "127.0.0.1:0"]);
    });
    // Each step of the start asks for the time that it may take.
    for step in ["STATUS=opening the store", "STATUS=reading the package", "STATUS=starting the base"] {
        let message = mortised.told_with(step);
        assert!(message.contains("EXTEND_TIMEOUT_USEC="), "{message}");
    }
    let status = mortised.told("STATUS=degraded");
    assert!(status.contains("the base does not serve") && status.contains("exit status 1"), "{status}");
    // With a base that starts it is as if nothing had been.
    let better = artifacts.packages.join("base").display().to_string();
    mortised.asked(&["stop", "base"]);
    mortised.asked(&["install", &better]);
    let version = fs::read_to_string(Path::new(&better).join("module.toml")).expect("module.toml");
    let version = version.lines().find_map(|it| it.strip_prefix("version = ")).expect("a version").trim_matches('"');
    mortised.asked(&["start", &format!("base@{version}")]);
    assert_eq!(mortised.told("STATUS=ready"), "STATUS=ready");
    mortised.stop();
    nothing_is_left(&before);
}

#[test]
fn without_root_it_starts_once_the_operator_has_named_what_is_not_kept() {
    as_root!();
    let (artifacts, before, folder) = (artifacts(), Baseline::take(), folder());
    // Whoever it runs as must reach its programs and own its folder.
    let programs = folder.path().join("bin");
    fs::create_dir(&programs).expect("a folder");
    for program in ["mortised", "mortise-init", "mortise"] {
        fs::copy(artifacts.programs.join(program), programs.join(program)).expect("a copy");
    }
    let base = folder.path().join("base");
    fs::create_dir_all(base.join("bin")).expect("a folder");
    for file in ["module.toml", "bin/mortise-base"] {
        fs::copy(artifacts.packages.join("base").join(file), base.join(file)).expect("a copy");
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("an owner");

    let mut refused = Mortised::start_without_root(folder.path(), &programs, |_| {});
    let status = refused.child.wait().expect("its end");
    let said = refused.log();
    assert!(!status.success() && said.contains("own-uid") && said.contains("--allow-degraded"), "{status} {said}");
    drop(refused);

    // `NAME (why; remedy: …); NAME (…)`
    let (_, list) = said.split_once("does not keep: ").expect("a list");
    let names: Vec<&str> =
        list.split("); ").filter_map(|it| it.split_once(" (")).map(|(name, _)| name.trim()).collect();
    assert!(names.contains(&"own-uid") && names.iter().all(|it| !it.contains(' ')), "{names:?} in {said}");
    let mut mortised = Mortised::start_without_root(folder.path(), &programs, |it| {
        it.arg("--base").arg(&base).arg("--allow-degraded").arg(names.join(","));
    });
    let told = mortised.told("STATUS=ready");
    assert!(told.starts_with("STATUS=ready; not kept on this host: ") && told.contains("own-uid"), "{told}");
    let status: serde_json::Value = serde_json::from_str(&mortised.asked(&["--json", "status"])).expect("JSON");
    let degraded = status["host"]["degraded"].as_array().expect("a list");
    for name in names {
        assert!(degraded.iter().any(|it| it.as_str().is_some_and(|it| it.starts_with(name))), "{name} in {degraded:?}");
    }
    let unruly = artifacts.packages.join("unruly").display().to_string();
    for words in [["install", &unruly], ["start", "unruly"], ["publish", "unruly"]] {
        mortised.asked(&words);
    }
    let answer = mortised.asked(&["--json", "call", "unruly.view", "{}"]);
    let view: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(view["pid"], 1, "namespaces are kept without root too: {view}");
    let ingress = status["host"]["ingress"][0].as_str().expect("an address").trim_start_matches("http://");
    TcpStream::connect(ingress).expect("the base listens");
    mortised.stop();
    nothing_is_left(&before);
}
