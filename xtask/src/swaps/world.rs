//! A supervisor of the benchmark's own, with the modules that call and are called.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use xtask::Failure;
use xtask::artifacts::Artifacts;
use xtask::daemon::{Daemon, Options};
use xtask::ledger::{Account, Ledger};
use xtask::requests::{Rates, Requests};

/// How long a call may take under a constant load.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The two versions that take turns.
pub const VERSIONS: [&str; 2] = ["recorder@1.0.0", "recorder@2.0.0"];

/// A supervisor, and the ledger that its modules write.
pub struct World<'a> {
    artifacts: &'a Artifacts,
    pub daemon: Daemon,
    ledger: Ledger,
    folder: tempfile::TempDir,
}

/// What `callers` do.
#[derive(Clone, Copy)]
pub struct Callers {
    pub closed: u64,
    pub pause: Duration,
    pub open_per_second: u64,
}

/// Calls and requests that go on.
pub struct Load {
    requests: Requests,
}

impl<'a> World<'a> {
    /// With both versions of `recorder`; the first serves.
    pub fn start(artifacts: &'a Artifacts) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("mortise-bench-").tempdir()?;
        let ledger = Ledger::lay(folder.path())?;
        let daemon = Daemon::start(
            artifacts,
            Options {
                folder: folder.path().join("world"),
                listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
                base: Some(artifacts.packages.join("base")),
                allow_degraded: Vec::new(),
                more: Vec::new(),
            },
        )?;
        let world = Self { artifacts, daemon, ledger, folder };
        world.install("recorder", "2.0.0", |text| text)?;
        world.install("recorder", "1.0.0", |text| text)?;
        world.daemon.ask(["start", VERSIONS[0]])?;
        world.daemon.ask(["publish", "recorder"])?;
        Ok(world)
    }

    /// Installs a module as another version, with another module.toml.
    pub fn install(&self, module: &str, version: &str, edit: impl Fn(String) -> String) -> Result<(), Failure> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        self.artifacts.lay_out_as(module, version, folder.path())?;
        let manifest = folder.path().join("module.toml");
        fs::write(&manifest, edit(fs::read_to_string(&manifest)?))?;
        self.daemon.ask([Path::new("install"), folder.path()])?;
        Ok(())
    }

    /// Starts `callers`.
    pub fn call(&self, callers: Callers) -> Result<(), Failure> {
        let Callers { closed, pause, open_per_second } = callers;
        let (pause, patience) = (pause.as_micros(), PATIENCE.as_millis());
        self.install("callers", "1.0.0", |text| {
            format!(
                "{text}\n[configuration]\nclosed = {closed}\npause-us = {pause}\nopen-per-second = {open_per_second}\n\
                 patience-ms = {patience}\n"
            )
        })?;
        self.daemon.ask(["start", "callers"])?;
        Ok(())
    }

    /// The constant load: calls and requests, each in a closed loop and in an open one.
    pub fn load(&self) -> Result<Load, Failure> {
        let pause = Duration::from_millis(5);
        self.call(Callers { closed: 4, pause, open_per_second: 200 })?;
        let rates = Rates { closed: 2, pause, open_per_second: 100, patience: PATIENCE };
        Ok(Load { requests: Requests::begin(self.daemon.ingress()?, rates) })
    }

    /// Does something with a module, as `mortise` does it; the operation.
    pub fn ask(&self, words: &[&str]) -> Result<Value, Failure> {
        self.daemon.ask_json(words)
    }

    /// Ends the load, then the supervisor; what was written down.
    pub fn account(self, load: Option<Load>) -> Result<Account, Failure> {
        let asked = load.map_or_else(|| Ok(Vec::new()), |it| it.requests.end())?;
        self.daemon.ask(["stop", "callers"])?;
        let mut account = self.end()?;
        account.seen.extend(asked);
        Ok(account)
    }

    /// Ends the supervisor; what was written down.
    pub fn end(self) -> Result<Account, Failure> {
        self.daemon.stop()?;
        self.ledger.close()
    }
}
