//! The attacker, the victims, and what is compared at the end.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use mortise_tests::{World, dying_groups, eventually};
use serde_json::{Value, json};

/// Descriptors that the supervisor may have more than before: a connection of the admin API that is being closed.
const DESCRIPTORS: usize = 4;

/// KiB of its own that the supervisor may have more than before: pages that its allocator keeps, lines and events up to their bounds.
const MEMORY: usize = 8 << 10;

/// A supervisor with two victims, `unruly` and `load`, which calls it.
pub struct Scene {
    /// The supervisor and all that is known of it.
    pub world: World,
    /// Groups that were dying before it, if the kernel tells.
    pub dying: Option<u64>,
    before: Footprint,
    /// The number of the first event that belongs to this attack.
    since: u64,
    /// Whose attacker it is.
    tenant: RefCell<String>,
}

/// A module.toml for the attacker.
pub struct Attack<'a> {
    /// What it does.
    pub attack: &'a str,
    /// What it needs to know.
    pub arguments: &'a [String],
    /// Tables of module.toml beside those of [`Attack::new`].
    pub more: &'a str,
    /// Whose module it is: the victims are of `default`.
    pub tenant: &'a str,
    /// How often it may end before it is given up.
    pub crashes: u32,
}

impl<'a> Attack<'a> {
    /// An attack by a worker with small limits and short timeouts.
    pub const fn new(attack: &'a str) -> Self {
        Self { attack, arguments: &[], more: "", tenant: "default", crashes: 3 }
    }

    fn module_toml(&self) -> String {
        let arguments: Vec<String> = std::iter::once(self.attack.to_owned()).chain(self.arguments.to_vec()).collect();
        format!(
            "name = \"attacker\"\nversion = \"1.0.0\"\nruntime = \"sdk\"\nexec = \"bin/attacker\"\nargs = {arguments:?}\n\
             {more}\n\
             [limits]\nmemory = \"32M\"\ncpu = 0.4\npids = 16\n\
             [timeouts]\nstart = \"5s\"\ndrain = \"1s\"\nstop = \"1s\"\n\
             [restart]\nbackoff = \"20ms\"\nbackoff_max = \"100ms\"\ncrashes = {crashes}\nstable = \"60s\"\n",
            more = self.more,
            crashes = self.crashes
        )
    }
}

/// The scene that the last attack has left, for the next.
static KEPT: Mutex<Option<Scene>> = Mutex::new(None);

/// Stops the supervisor, if there is one.
pub fn stop() {
    drop(keep(None));
}

/// What was kept.
fn keep(scene: Option<Scene>) -> Option<Scene> {
    std::mem::replace(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner), scene)
}

impl Scene {
    /// The victims, at work.
    pub fn set() -> Self {
        let scene = keep(None).unwrap_or_else(Self::new);
        let events = scene.world.mortise(&["--json", "events"]);
        let last = events.lines().last().and_then(|it| serde_json::from_str::<Value>(it).ok());
        let since = last.and_then(|it| it["seq"].as_u64()).expect("the number of the last event") + 1;
        Self { since, ..scene }
    }

    fn new() -> Self {
        let dying = dying_groups();
        let world = World::start();
        world.deploy("unruly");
        world.deploy("load");
        let scene = Self { before: Footprint::of(&world), world, dying, since: 0, tenant: RefCell::default() };
        scene.victims_go_on();
        Self { before: Footprint::of(&scene.world), ..scene }
    }

    /// A tenant for the attacker that may call `unruly`.
    pub fn allow(&self, tenant: &str) {
        let tenants = self.world.daemon.ask_json(["tenant", "ls"]).expect("the tenants");
        if tenants.to_string().contains(&format!("\"{tenant}\"")) {
            return;
        }
        self.world.mortise(&["tenant", "add", tenant]);
        self.world.mortise(&["tenant", "export", "unruly", tenant]);
        self.world.mortise(&["--tenant", tenant, "tenant", "import", "unruly", "default"]);
    }

    /// Installs the attacker.
    pub fn install(&self, attack: &Attack<'_>) {
        self.tenant.replace(attack.tenant.to_owned());
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        let program = self.world.package("attacker").join("bin/attacker");
        fs::copy(program, folder.path().join("bin/attacker")).expect("the attacker's program");
        fs::write(folder.path().join("module.toml"), attack.module_toml()).expect("written");
        self.of_attacker(&["install", &folder.path().display().to_string()]);
    }

    /// Installs and starts it: it becomes ready.
    pub fn attack(&self, attack: &Attack<'_>) {
        self.install(attack);
        self.of_attacker(&["start", "attacker"]);
    }

    /// Installs it and starts it, whatever comes of it; what was said.
    pub fn try_attack(&self, attack: &Attack<'_>) -> String {
        self.install(attack);
        let start = ["--tenant", attack.tenant, "start", "attacker"];
        let output = self.world.daemon.mortise(start).output().expect("mortise runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// The attacker's log, once it has this in it.
    pub fn log_with(&self, text: &str) -> String {
        let mut log = String::new();
        let said = eventually(|| {
            log = self.of_attacker(&["logs", "attacker"]);
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

    /// The events of the attacker's tenant since this attack began.
    pub fn events(&self) -> String {
        self.of_attacker(&["events", "--since", &self.since.to_string()])
    }

    fn of_attacker(&self, words: &[&str]) -> String {
        self.world.mortise(&[&["--tenant", &self.tenant.borrow()], words].concat())
    }

    /// The events since this attack began, once this is among them.
    pub fn events_with(&self, text: &str) -> String {
        let mut events = String::new();
        let there = eventually(|| {
            events = self.events();
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

    /// The victims did not notice, the attacker is removed, and nothing of it is left. The next attack has this scene.
    pub fn end(self) {
        self.victims_go_on();
        let report = self.report();
        assert_eq!(report["failed"], 0, "calls between the victims failed: {report}");
        for victim in ["unruly", "load"] {
            let worker = self.world.worker(victim);
            assert_eq!(worker["restarts"], 0, "{victim} was started again: {worker}");
        }
        self.remove_attacker();
        let mut after = self.before;
        let settled = eventually(|| {
            after = Footprint::of(&self.world);
            after.descriptors <= self.before.descriptors + DESCRIPTORS && after.memfds <= self.before.memfds
        });
        assert!(settled, "descriptors of the supervisor: {:?} before and {after:?} after", self.before);
        let grown = after.memory.saturating_sub(self.before.memory);
        assert!(grown <= MEMORY, "the supervisor has {grown} KiB more than before the attacks");
        keep(Some(self));
    }

    fn remove_attacker(&self) {
        let status = self.world.daemon.ask_json(["status"]).expect("mortise status");
        let modules = status["modules"].as_array().expect("modules");
        for module in modules.iter().filter(|it| it["module"] == "attacker") {
            let tenant = module["tenant"].as_str().expect("its tenant");
            self.world.mortise(&["--tenant", tenant, "stop", "attacker"]);
            let processes = attackers();
            assert!(processes.is_empty(), "stopped, and left behind: {processes:?}");
            self.world.mortise(&["--tenant", tenant, "uninstall", "attacker"]);
        }
    }

    /// Stops the supervisor: nothing is left of it.
    pub fn close(self) {
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
    /// Without log files.
    descriptors: usize,
    memfds: usize,
    /// KiB.
    memory: usize,
}

impl Footprint {
    fn of(world: &World) -> Self {
        let process = Path::new("/proc").join(world.daemon.pid().to_string());
        let descriptors = fs::read_dir(process.join("fd")).expect("its descriptors").flatten();
        let mut descriptors: Vec<_> = descriptors.filter_map(|it| fs::read_link(it.path()).ok()).collect();
        // It keeps up to 64 of them open, whosever they are.
        descriptors.retain(|it| it.extension() != Some(OsStr::new("log")));
        let memfds = descriptors.iter().filter(|it| it.as_os_str().as_bytes().starts_with(b"/memfd:")).count();
        let status = fs::read_to_string(process.join("status")).expect("its status");
        let memory = status.lines().find_map(|it| it.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok());
        Self { descriptors: descriptors.len(), memfds, memory: memory.expect("RssAnon") }
    }
}
