//! The attacker, the victims, and what is compared at the end.

use std::fs;
use std::path::Path;

use mortise_tests::{World, eventually};
use serde_json::{Value, json};

/// Descriptors that the supervisor may have more than before: a connection of the admin API that is being closed.
const DESCRIPTORS: usize = 4;

/// KiB that the supervisor may have more than before: pages that its allocator keeps, and buffers of a size once needed.
const MEMORY: usize = 24 << 10;

/// A supervisor with two victims, `unruly` and `load`, which calls it.
pub struct Scene {
    /// The supervisor and all that is known of it.
    pub world: World,
    before: Footprint,
}

/// A module.toml for the attacker.
pub struct Attack<'a> {
    /// What it does.
    pub attack: &'a str,
    /// What it needs to know.
    pub arguments: &'a [String],
    /// Tables of module.toml beside those of [`Attack::new`].
    pub more: &'a str,
}

impl<'a> Attack<'a> {
    /// An attack by a worker with small limits and short timeouts.
    pub const fn new(attack: &'a str) -> Self {
        Self { attack, arguments: &[], more: "" }
    }

    fn module_toml(&self) -> String {
        let arguments: Vec<String> = std::iter::once(self.attack.to_owned()).chain(self.arguments.to_vec()).collect();
        format!(
            "name = \"attacker\"\nversion = \"1.0.0\"\nruntime = \"sdk\"\nexec = \"bin/attacker\"\nargs = {arguments:?}\n\
             {more}\n\
             [limits]\nmemory = \"32M\"\ncpu = 0.4\npids = 16\n\
             [timeouts]\nstart = \"5s\"\ndrain = \"1s\"\nstop = \"1s\"\n\
             [restart]\nbackoff = \"20ms\"\nbackoff_max = \"100ms\"\ncrashes = 3\nstable = \"60s\"\n",
            more = self.more
        )
    }
}

impl Scene {
    /// The victims, at work.
    pub fn set() -> Self {
        let world = World::start();
        world.deploy("unruly");
        world.deploy("load");
        let scene = Self { before: Footprint::of(&world), world };
        scene.victims_go_on();
        Self { before: Footprint::of(&scene.world), ..scene }
    }

    /// No victims: the attacker is to have them in its hands.
    pub fn alone() -> Self {
        let world = World::start();
        Self { before: Footprint::of(&world), world }
    }

    /// Installs the attacker.
    pub fn install(&self, attack: &Attack<'_>) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        let program = self.world.package("attacker").join("bin/attacker");
        fs::copy(program, folder.path().join("bin/attacker")).expect("the attacker's program");
        fs::write(folder.path().join("module.toml"), attack.module_toml()).expect("written");
        self.world.mortise(&["install", &folder.path().display().to_string()]);
    }

    /// Installs and starts it: it becomes ready.
    pub fn attack(&self, attack: &Attack<'_>) {
        self.install(attack);
        self.world.mortise(&["start", "attacker"]);
    }

    /// Installs it and starts it, whatever comes of it; what was said.
    pub fn try_attack(&self, attack: &Attack<'_>) -> String {
        self.install(attack);
        let output = self.world.daemon.mortise(["start", "attacker"]).output().expect("mortise runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The attacker's log, once it has this in it.
    pub fn log_with(&self, text: &str) -> String {
        let mut log = String::new();
        let said = eventually(|| {
            log = self.world.mortise(&["logs", "attacker"]);
            log.contains(text)
        });
        assert!(said, "{text:?} is not in the log, and the module is {}:\n{log}", self.world.status("attacker"));
        log
    }

    /// What the attacker says that it has found out about `what`.
    pub fn found(log: &str, what: &str) -> String {
        let mark = format!("found {what}: ");
        let line = log.lines().find_map(|line| Some(line.split_once(&mark)?.1.trim().to_owned()));
        line.unwrap_or_else(|| panic!("nothing about {what} in\n{log}"))
    }

    /// The events, once this is among them.
    pub fn events_with(&self, text: &str) -> String {
        let mut events = String::new();
        let there = eventually(|| {
            events = self.world.mortise(&["events"]);
            events.contains(text)
        });
        assert!(there, "{text:?} is not among the events:\n{events}");
        events
    }

    /// Waits until the victims have done some more work.
    pub fn victims_go_on(&self) {
        let answered = || self.report()["answered"].as_u64().unwrap_or(0);
        let before = answered();
        assert!(eventually(|| answered() > before + 20), "the victims stand still: {}", self.report());
    }

    fn report(&self) -> Value {
        self.world.call("load.report", &json!({})).unwrap_or_else(|error| panic!("load.report: {error}"))
    }

    /// The victims did not notice, the attacker is removed, and nothing of it is left.
    pub fn end(self) {
        self.victims_go_on();
        let report = self.report();
        assert_eq!(report["failed"], 0, "calls between the victims failed: {report}");
        for victim in ["unruly", "load"] {
            let worker = self.world.worker(victim);
            assert_eq!(worker["restarts"], 0, "{victim} was started again: {worker}");
        }
        self.end_without_victims();
    }

    /// The same, where a victim was in the attacker's hands.
    pub fn end_without_victims(self) {
        self.world.mortise(&["stop", "attacker"]);
        let processes = attackers();
        assert!(processes.is_empty(), "stopped, and left behind: {processes:?}");
        self.world.mortise(&["uninstall", "attacker"]);
        let mut after = self.before;
        let settled = eventually(|| {
            after = Footprint::of(&self.world);
            after.descriptors <= self.before.descriptors + DESCRIPTORS
        });
        assert!(
            settled,
            "descriptors of the supervisor: {} before and {} after",
            self.before.descriptors, after.descriptors
        );
        let grown = after.memory.saturating_sub(self.before.memory);
        assert!(grown <= MEMORY, "the supervisor has {grown} KiB more than before the attack");
        self.world.end();
    }
}

/// Processes of the attacker, by what they execute.
fn attackers() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.starts_with(b"/module/bin/attacker") {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// What the supervisor has.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    descriptors: usize,
    /// KiB.
    memory: usize,
}

impl Footprint {
    fn of(world: &World) -> Self {
        let process = Path::new("/proc").join(world.daemon.pid().to_string());
        let descriptors = fs::read_dir(process.join("fd")).expect("its descriptors").count();
        let status = fs::read_to_string(process.join("status")).expect("its status");
        let memory = status.lines().find_map(|it| it.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        Self { descriptors, memory: memory.expect("VmRSS") }
    }
}
