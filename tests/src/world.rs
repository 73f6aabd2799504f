//! A supervisor of the test's own, with its base and whatever modules it installs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::artifacts::{Artifacts, Profile};
use xtask::daemon::{Daemon, Options};

use crate::Baseline;

/// How long something may take that is on its way. Long, because a machine that builds meanwhile is slow; a test that passes does
/// not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running supervisor with a base, the stock one unless a test wants another. Dropped without [`World::end`], it is stopped without being looked at.
pub struct World {
    /// The supervisor.
    pub daemon: Daemon,
    /// Where its ingress listens.
    pub ingress: SocketAddr,
    before: Baseline,
    folder: tempfile::TempDir,
    http: ureq::Agent,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("folder", &self.folder.path()).finish_non_exhaustive()
    }
}

/// Programs and modules, built and laid out once.
///
/// # Panics
/// They do not build.
pub fn artifacts() -> &'static Artifacts {
    static BUILT: OnceLock<Artifacts> = OnceLock::new();
    BUILT.get_or_init(|| Artifacts::build(Profile::Dev).expect("the programs build"))
}

impl World {
    /// A supervisor with its base.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further arguments for `mortised`.
    #[must_use]
    pub fn start_with(more: &[&str]) -> Self {
        Self::start_as("base", more)
    }

    /// The same with another base: one of the laid out modules.
    #[must_use]
    pub fn start_on(base: &str) -> Self {
        Self::start_as(base, &[])
    }

    fn start_as(base: &str, more: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("mortise-test-").tempdir().expect("a temporary folder");
        Self::start_in(folder, base, more)
    }

    /// The same in a folder that was prepared for it: what is in `state` there is used.
    #[must_use]
    pub fn start_in(folder: tempfile::TempDir, base: &str, more: &[&str]) -> Self {
        let artifacts = artifacts();
        let before = Baseline::take();
        let daemon = Daemon::start(
            artifacts,
            Options {
                folder: folder.path().to_owned(),
                listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
                base: Some(artifacts.packages.join(base)),
                allow_degraded: Vec::new(),
                more: more.iter().map(|it| (*it).to_owned()).collect(),
            },
        )
        .expect("the supervisor starts");
        let ingress = daemon.ingress().expect("it has an ingress");
        let configuration = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self { daemon, ingress, before, folder, http: configuration.into() }
    }

    /// The folder of a module that was laid out for `mortise install`.
    #[must_use]
    pub fn package(&self, name: &str) -> PathBuf {
        artifacts().packages.join(name)
    }

    /// Runs `mortise`, which must succeed.
    pub fn mortise(&self, words: &[&str]) -> String {
        self.daemon.ask(words).unwrap_or_else(|failure| panic!("mortise {}: {failure}", words.join(" ")))
    }

    /// Runs `mortise`, which must fail; what it said on stderr.
    pub fn mortise_fails(&self, words: &[&str]) -> String {
        let output = self.daemon.mortise(words).output().expect("mortise runs");
        assert!(!output.status.success(), "mortise {} succeeded", words.join(" "));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Installs a module that was laid out.
    pub fn install(&self, name: &str) {
        let package = self.package(name).display().to_string();
        self.mortise(&["install", &package]);
    }

    /// Installs a module that was laid out once more, as another version.
    ///
    /// # Panics
    /// Its folder cannot be copied.
    pub fn install_as(&self, name: &str, version: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        artifacts().lay_out_as(name, version, folder.path()).expect("another version");
        self.mortise(&["install", &folder.path().display().to_string()]);
    }

    /// Installs, starts and publishes a module whose folder has its name.
    pub fn deploy(&self, name: &str) {
        self.install(name);
        self.mortise(&["start", name]);
        self.mortise(&["publish", name]);
    }

    /// Deploys the example site and what it calls; markdown is version 1.0.
    pub fn deploy_site(&self) {
        for module in ["dictionary", "spell", "markdown-1", "site"] {
            self.install(module);
        }
        for module in ["dictionary", "spell", "markdown", "site"] {
            self.mortise(&["start", module]);
        }
        for module in ["spell", "markdown", "site"] {
            self.mortise(&["publish", module]);
        }
    }

    /// `mortise call`: the answer, or what was said instead.
    ///
    /// # Errors
    /// The call's error, as the CLI says it.
    pub fn call(&self, method: &str, arguments: &Value) -> Result<Value, String> {
        let output =
            self.daemon.mortise(["--json", "call", method, &arguments.to_string()]).output().expect("mortise runs");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&output.stdout)))
    }

    /// The status of a module.
    #[must_use]
    pub fn status(&self, module: &str) -> Value {
        let all = self.daemon.ask_json(["status"]).expect("mortise status");
        let modules = all["modules"].as_array().expect("modules");
        modules.iter().find(|it| it["module"] == module).unwrap_or_else(|| panic!("{module} in {all}")).clone()
    }

    /// The newest worker of a module that is not over.
    #[must_use]
    pub fn worker(&self, module: &str) -> Value {
        let status = self.status(module);
        let workers = status["workers"].as_array().expect("workers");
        let living = |it: &&Value| it["state"] != "stopped";
        workers.iter().rfind(living).unwrap_or_else(|| panic!("no worker in {status}")).clone()
    }

    /// A GET through the ingress: status and body.
    ///
    /// # Errors
    /// No answer.
    pub fn get(&self, path: &str) -> Result<(u16, String), ureq::Error> {
        self.get_with(path, &[])
    }

    /// The same with headers.
    ///
    /// # Errors
    /// No answer.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<(u16, String), ureq::Error> {
        let request = self.http.get(format!("http://{}{path}", self.ingress));
        let mut answer = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value)).call()?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    /// A POST through the ingress: status and body.
    ///
    /// # Errors
    /// No answer.
    pub fn post(&self, path: &str, body: &str) -> Result<(u16, String), ureq::Error> {
        let mut answer = self.http.post(format!("http://{}{path}", self.ingress)).send(body)?;
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    /// Stops the supervisor in order; nothing may be left behind.
    pub fn end(self) {
        let Self { daemon, before, folder, .. } = self;
        daemon.stop().expect("the supervisor stops");
        let run = folder.path().join("run");
        let left: Vec<_> = std::fs::read_dir(&run).into_iter().flatten().flatten().map(|it| it.path()).collect();
        assert!(left.iter().all(|it| it.is_dir()), "files left in {}: {left:?}", run.display());
        let mut left_over = Vec::new();
        let gone = eventually(|| {
            left_over = before.left_over();
            left_over.is_empty()
        });
        assert!(gone, "left behind: {left_over:#?}");
    }
}

/// Whether `is_so` becomes true in good time: for what is on its way and cannot be waited for.
pub fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Sends one request after the other until told to stop, and returns how many.
///
/// # Panics
/// At the first that fails.
pub fn request_until(stop: &AtomicBool, url: &str) -> u64 {
    let agent = ureq::Agent::new_with_defaults();
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        agent.get(url).call().unwrap_or_else(|error| panic!("request {asked}: {error}"));
        asked += 1;
    }
    asked
}
