//! A supervisor with failpoints, `unruly` in three versions, `load` that calls it, and what a case does with them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mortise_tests::{Baseline, eventually};
use serde_json::{Value, json};
use xtask::artifacts::{Artifacts, Profile};
use xtask::daemon::{Daemon, Options};

use crate::asks;
use crate::group::{self, Group};
use crate::operations::{Operation, Paused, UNDER_WAY, routes};
use crate::other_tenant::OtherTenant;
use crate::table::{After, Answer, Case, Fault};

/// The versions of `unruly` that are there besides 1.0.0.
const OTHERS: [&str; 4] = ["2.0.0", NEVER_READY, "4.0.0", "5.0.0"];
const NEVER_READY: &str = "3.0.0";
/// Those that hand their state over.
const HAND_OVER: [&str; 2] = ["4.0.0", "5.0.0"];

/// The stage of all cases of an operation.
pub struct Scene {
    daemon: Daemon,
    before: Baseline,
    folder: tempfile::TempDir,
    /// The package of `unruly` 2.0.0, of 3.0.0, which is never ready, and of 4.0.0 and 5.0.0, which hand their state over.
    others: [PathBuf; 4],
    cases: u32,
    /// The swap by steps that is under way, to be steered.
    under_way: RefCell<Option<String>>,
    /// How long the log of the supervisor was when a fault was asked for that stays.
    held_at: usize,
}

/// What can be seen of a module and its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    desired: String,
    version: String,
    installed: BTreeSet<String>,
    published: bool,
    /// Version and state of each, those apart of which nothing is left.
    workers: Vec<String>,
    resources: usize,
    /// Whether there is a worker that was not there before.
    fresh: bool,
    /// The version that runs beside, with its share.
    beside: String,
    limits: Value,
    routes: Vec<Value>,
    /// How the swap that is steered has ended, if it has.
    swap: String,
    other: OtherTenant,
    group: Group,
}

/// The module before and after an operation, and the points that are passed in between.
pub struct States {
    old: State,
    new: State,
    pub passed: BTreeSet<String>,
}

impl State {
    /// The same with no workers kept frozen.
    fn unkept(&self) -> Self {
        Self { workers: without_frozen(&self.workers), group: self.group.unkept(), ..self.clone() }
    }
}

pub fn artifacts() -> &'static Artifacts {
    static BUILT: OnceLock<Artifacts> = OnceLock::new();
    BUILT.get_or_init(|| Artifacts::build_with_failpoints(Profile::Dev).expect("the programs build"))
}

impl Scene {
    pub fn set() -> Self {
        let folder = tempfile::Builder::new().prefix("mortise-test-").tempdir().expect("a temporary folder");
        let (artifacts, before) = (artifacts(), Baseline::take());
        let options = Options {
            folder: folder.path().to_owned(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            base: Some(artifacts.packages.join("base")),
            allow_degraded: Vec::new(),
            more: Vec::new(),
        };
        let daemon = Daemon::start(artifacts, options).expect("the supervisor starts");
        let others = OTHERS.map(|version| folder.path().join(format!("unruly-{version}.mortise")));
        let scene = Self { daemon, before, folder, others, cases: 0, under_way: RefCell::default(), held_at: 0 };
        for (version, package) in OTHERS.iter().zip(&scene.others) {
            let laid_out = package.with_extension("");
            artifacts.lay_out_as("unruly", version, &laid_out).expect("another version");
            let told = match *version {
                NEVER_READY => "\n[configuration]\nnever-ready = \"hang\"\n[timeouts]\nstart = \"1s\"\n",
                it if HAND_OVER.contains(&it) => {
                    "\n[configuration]\nhands-over = \"it does\"\n[handover]\nversion = 1\n"
                }
                _ => "",
            };
            if !told.is_empty() {
                let manifest = laid_out.join("module.toml");
                let manifested = fs::read_to_string(&manifest).expect("module.toml") + told;
                fs::write(manifest, manifested).expect("module.toml");
            }
            scene.mortise(&["pack", &text(&laid_out), "--output", &text(package)]);
        }
        let load = scene.file("load-2.0.0");
        artifacts.lay_out_as("load", "2.0.0", &load).expect("another version");
        let package = |name: &str| artifacts.packages.join(name);
        for module in [package("unruly"), package("load"), load, package("dictionary")] {
            scene.mortise(&["install", &text(&module)]);
        }
        scene.mortise(&["publish", "unruly"]);
        scene.mortise(&["publish", "load"]);
        scene.mortise(&["start", &format!("load@{}", group::ALONE)]);
        scene
    }

    /// A file of this name in the scene's folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn mortise(&self, words: &[&str]) -> String {
        self.daemon.ask(words).unwrap_or_else(|failure| panic!("mortise {}: {failure}", words.join(" ")))
    }

    fn ask(&self, line: &str, body: &[u8]) -> io::Result<(u16, Value)> {
        asks::http(&self.daemon.socket(), line, body)
    }

    fn failpoints(&self, line: &str) -> String {
        asks::failpoints(&self.folder.path().join("run"), line)
    }

    /// A list of points.
    pub fn points(&self, which: &str) -> BTreeSet<String> {
        self.failpoints(which).split_whitespace().map(str::to_owned).collect()
    }

    pub(super) fn snapshot(&self) -> Value {
        self.ask("GET /v1/snapshot", b"").expect("the supervisor answers").1
    }

    /// The module as it is; `old` are the pids that were there before.
    pub fn state(&self, operation: &Operation, old: &BTreeSet<u64>) -> State {
        let snapshot = self.snapshot();
        let module = &module(&snapshot, "default", operation.module);
        let list = |key: &str| module[key].as_array().cloned().unwrap_or_default();
        let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        State {
            desired: word(&module["desired"]),
            version: word(&module["version"]),
            installed: list("installed").iter().map(|it| word(&it["version"])).collect(),
            published: list("services").iter().any(|it| it["published"] == true),
            workers: workers(module),
            resources: snapshot["resources"].as_array().map_or(0, Vec::len),
            fresh: living(module).iter().filter_map(|it| it["pid"].as_u64()).any(|it| !old.contains(&it)),
            beside: ["beside", "beside_share", "beside_paused", "beside_shadow"]
                .map(|it| module[it].to_string())
                .join(" "),
            limits: module["limits"].clone(),
            routes: snapshot["routes"].as_array().cloned().unwrap_or_default().iter().map(of_tenant).collect(),
            swap: self.steered(&snapshot),
            other: OtherTenant::of(&snapshot),
            group: Group::of(&snapshot),
        }
    }

    /// The processes of `unruly`.
    pub fn pids(&self) -> BTreeSet<u64> {
        let unruly = module(&self.snapshot(), "default", "unruly");
        living(&unruly).iter().filter_map(|it| it["pid"].as_u64()).collect()
    }

    fn is_quiet(&self) -> bool {
        let operations = self.snapshot()["operations"].as_array().cloned().unwrap_or_default();
        let steered = self.under_way.borrow();
        operations.iter().all(|it| it["state"] != "running" || it["id"].as_str() == steered.as_deref())
    }

    /// How the swap that is steered goes, or has ended; empty: there is none.
    fn steered(&self, snapshot: &Value) -> String {
        let Some(id) = self.under_way.borrow().clone() else { return String::new() };
        let operations = snapshot["operations"].as_array().cloned().unwrap_or_default();
        let swap = operations.iter().find(|it| it["id"] == id.as_str()).cloned().unwrap_or_default();
        format!("{} {}", swap["state"], swap["error"]["message"])
    }

    /// Ends the swap that is under way.
    fn without_swap(&self) {
        let Some(id) = self.under_way.take() else { return };
        if self.ask(&format!("GET /v1/operations/{id}"), b"").expect("the supervisor answers").1["state"] == "running" {
            self.mortise(&["swap", "abort", "unruly"]);
            assert_eq!(self.ended(&id).expect("the supervisor answers").0, Answer::Failed);
        }
    }

    /// Begins a swap by steps that stays at its share.
    fn roll_out(&self, paused: Paused) {
        let id = format!("under-way-{}", self.cases);
        let mut body: Value = serde_json::from_str(UNDER_WAY).expect("JSON");
        body["id"] = json!(id);
        let accepted = self.ask("POST /v1/operations", body.to_string().as_bytes()).expect("the supervisor answers");
        assert_eq!(accepted.0, 202, "{}", accepted.1);
        self.under_way.replace(Some(id));
        let shared = || module(&self.snapshot(), "default", "unruly")["beside_share"] == 30;
        assert!(eventually(shared), "{}", self.snapshot()["operations"]);
        if paused {
            self.mortise(&["swap", "pause", "unruly"]);
        }
    }

    /// Brings about what the operation begins with.
    pub fn prepare(&self, operation: &Operation) {
        let wanted = &operation.before;
        self.without_swap();
        assert!(eventually(|| self.is_quiet()), "something goes on for ever: {}", self.snapshot()["operations"]);
        self.without_group();
        let now = self.state(&Operation { module: "unruly", ..*operation }, &BTreeSet::new());
        if now.workers.iter().any(|it| it.ends_with("frozen")) {
            self.mortise(&["discard", "unruly"]);
        }
        if now.desired == "running" {
            self.mortise(&["stop", "unruly"]);
        }
        if now.limits.as_object().is_some_and(|it| !it.is_empty()) {
            self.mortise(&["limits", "unruly", "pids=default"]);
        }
        let instances = wanted.instances.to_string();
        self.mortise(&["scale", "unruly", &instances]);
        for (version, package) in OTHERS.iter().zip(&self.others) {
            match (wanted.installed.contains(version), now.installed.contains(*version)) {
                (true, false) => drop(self.mortise(&["install", &text(package)])),
                (false, true) => drop(self.mortise(&["uninstall", &format!("unruly@{version}")])),
                _ => {}
            }
        }
        for (index, file) in wanted.routes.iter().enumerate() {
            self.apply(file, index);
        }
        self.mortise(&[if wanted.published { "publish" } else { "unpublish" }, "unruly"]);
        if let Some(first) = wanted.kept.or(wanted.running) {
            self.mortise(&["start", &format!("unruly@{first}")]);
        }
        if let (Some(_), Some(second)) = (wanted.kept, wanted.running) {
            self.mortise(&["swap", &format!("unruly@{second}"), "--keep", "1h"]);
        }
        if let Some(other) = wanted.beside {
            self.mortise(&["start", &format!("unruly@{other}"), "--beside"]);
        }
        if let Some(paused) = wanted.rolls_out {
            self.roll_out(paused);
        }
        for applied in wanted.group {
            self.apply_group(applied);
        }
        self.prepare_other_tenant(wanted.acme);
        self.mortise(&[if wanted.resource { "start" } else { "stop" }, "dictionary"]);
        let count = usize::from(wanted.resource);
        let is_so = || self.snapshot()["resources"].as_array().is_some_and(|it| it.len() == count);
        assert!(eventually(is_so), "{}", self.snapshot()["resources"]);
        self.settled(operation);
    }

    /// `load` is ready, and whoever is to be called by it is routed to.
    fn settled(&self, operation: &Operation) {
        let calls = operation.before.running.is_some() && operation.before.published;
        let is_so = || {
            let snapshot = self.snapshot();
            let load = module(&snapshot, "default", "load");
            let ready = load["workers"].as_array().is_some_and(|it| it.iter().any(|it| it["state"] == "published"));
            let callers = module(&snapshot, "default", "unruly")["services"][0]["callers"].as_u64().unwrap_or(0);
            let foreign = u64::from(operation.before.acme.is_some_and(|it| it.calls && it.exported && it.imported));
            ready && (!calls || callers > foreign) && (foreign == 0 || OtherTenant::of(&snapshot).reaches)
        };
        assert!(eventually(is_so), "{}", self.snapshot()["modules"]);
    }

    fn apply(&self, file: &str, index: usize) {
        self.apply_for("default", file, index);
    }

    /// Puts these routes of a tenant in force.
    pub(super) fn apply_for(&self, tenant: &str, file: &str, index: usize) {
        let id = format!("routes-{tenant}-{}-{index}", self.cases);
        let body = json!({"kind": "apply-routes", "tenant": tenant, "routes": routes(file), "id": id}).to_string();
        let accepted = self.ask("POST /v1/operations", body.as_bytes()).expect("the supervisor answers");
        let ended = self.ended(&id).expect("the supervisor answers");
        assert_eq!(ended.0, Answer::Done, "{accepted:?} {}", ended.1);
    }

    fn submit(&self, operation: &Operation, id: &str) -> io::Result<(u16, Value)> {
        match operation.body(id) {
            Some(body) => self.ask("POST /v1/operations", body.as_bytes()),
            None => {
                let package = fs::read(&self.others[0])?;
                self.ask(&format!("POST /v1/packages?tenant=default&id={id}"), &package)
            }
        }
    }

    /// How the operation of this id ended.
    fn ended(&self, id: &str) -> io::Result<(Answer, Value)> {
        loop {
            let (status, said) = self.ask(&format!("GET /v1/operations/{id}?wait=20"), b"")?;
            match (status, said["state"].as_str()) {
                (404, _) => return Ok((Answer::Unknown, said)),
                (200, Some("done")) => return Ok((Answer::Done, said)),
                (200, Some("failed")) => return Ok((Answer::Failed, said)),
                (200, Some("running")) => {}
                _ => return Err(io::Error::other(format!("{status} {said}"))),
            }
        }
    }

    /// The operation as it goes when nothing is in its way.
    pub fn without_faults(&mut self, operation: &Operation) -> States {
        self.prepare(operation);
        let pids = self.pids();
        let old = self.state(operation, &pids);
        self.failpoints("clear");
        self.cases += 1;
        let id = format!("without-{}", self.cases);
        self.submit(operation, &id).expect("the supervisor answers");
        let (answer, said) = self.ended(&id).expect("the supervisor answers");
        assert_eq!(answer, operation.ends, "{said}");
        // What follows on it, such as routes to a new worker, belongs to it.
        let mut new = self.state(operation, &pids);
        let came_to_rest = eventually(|| {
            let before = std::mem::replace(&mut new, self.state(operation, &pids));
            // A swap that was aborted ends after the abort.
            let goes_on = new.swap.starts_with("\"running") && new.beside.starts_with("null");
            before == new && !goes_on && !new.workers.iter().any(|it| it.contains("drain") || it.contains("start"))
        });
        assert!(came_to_rest, "{new:?}");
        let passed = self.points("reached");
        States { old, new, passed }
    }

    /// Waits until the module is in this state.
    fn becomes(&self, operation: &Operation, state: &State, old: &BTreeSet<u64>) -> Result<(), String> {
        let mut now = None;
        let is_so = eventually(|| {
            now = Some(self.state(operation, old));
            now.as_ref() == Some(state) && self.is_quiet()
        });
        if is_so { Ok(()) } else { Err(format!("it is {now:?}, not {state:?}")) }
    }

    /// What becomes of the operation with that fault.
    pub fn run(&mut self, operation: &Operation, case: &Case, states: &States) -> Result<(Answer, After), String> {
        // What went back to what it was need not be prepared.
        if self.state(operation, &self.pids()) != states.old {
            self.prepare(operation);
        }
        self.settled(operation);
        let pids = self.pids();
        self.cases += 1;
        let id = format!("case-{}", self.cases);
        self.failpoints("clear");
        for (point, fault) in case.fault.asked(&case.point) {
            self.failpoints(&format!("set {point} {}", fault.word()));
        }
        let submitted = self.submit(operation, &id);
        let answer = match case.fault {
            Fault::Kill => {
                if !eventually(|| self.daemon.has_ended().is_ok_and(|it| it.is_some())) {
                    self.failpoints("clear");
                    return Err("the supervisor did not come by there".into());
                }
                self.daemon.succeed().map_err(|failure| failure.to_string())?;
                self.ended(&id).map_err(|error| error.to_string())?.0
            }
            Fault::Error(..) => {
                let failed = eventually(|| self.points("failed").contains(&case.point));
                match submitted {
                    Ok((507, said)) if said["code"] == "storage" => Answer::Storage,
                    Ok((202, _)) if failed => self.ended(&id).map_err(|error| error.to_string())?.0,
                    Ok((202, _)) => return Err("the supervisor did not come by there".into()),
                    other => return Err(format!("{other:?}")),
                }
            }
        };
        let state = self.settles(operation, states, &pids)?;
        self.asks_again(operation, &id, answer, states, &pids)?;
        Ok((answer, state))
    }

    /// Which of the two it becomes.
    pub fn settles(&self, operation: &Operation, states: &States, pids: &BTreeSet<u64>) -> Result<After, String> {
        let mut found = None;
        let mut now = None;
        let is_so = eventually(|| {
            // Both questions of one moment at which nothing is under way.
            let state = self.state(operation, pids);
            found = match () {
                () if !self.is_quiet() => None,
                () if state == states.old => Some(After::Old),
                () if state == states.new => Some(After::New),
                () if state == states.old.unkept() => Some(After::OldUnkept),
                () if state == states.new.unkept() => Some(After::NewUnkept),
                () => None,
            };
            now = Some(state);
            found.is_some()
        });
        found.filter(|_| is_so).ok_or_else(|| format!("it is {now:?}, neither {:?} nor {:?}", states.old, states.new))
    }

    /// The same id again: the same answer, or, where it was never accepted, the operation.
    fn asks_again(
        &self,
        operation: &Operation,
        id: &str,
        answer: Answer,
        states: &States,
        pids: &BTreeSet<u64>,
    ) -> Result<(), String> {
        let known = self.ended(id).map_err(|error| error.to_string())?;
        let again = self.submit(operation, id).map_err(|error| error.to_string())?;
        match answer {
            Answer::Unknown | Answer::Storage => {
                let ended = self.ended(id).map_err(|error| error.to_string())?;
                if ended.0 != operation.ends {
                    return Err(format!("asked again: {again:?}, {ended:?}"));
                }
                self.becomes(operation, &states.new, pids)
            }
            Answer::Done | Answer::Failed if again == (202, known.1.clone()) => Ok(()),
            Answer::Done | Answer::Failed | Answer::None => Err(format!("the same id: {again:?}, not {:?}", known.1)),
        }
    }

    /// The module as it is, and as it is when each of its workers was started anew; with its processes.
    pub fn states(&self, operation: &Operation) -> (States, BTreeSet<u64>) {
        let pids = self.pids();
        let old = self.state(operation, &pids);
        (States { new: State { fresh: true, ..old.clone() }, old, passed: BTreeSet::new() }, pids)
    }

    pub fn kill(&mut self) {
        self.daemon.kill().expect("it is killed");
    }

    /// Has the successor of a supervisor that has died meet the fault, and another one follow if that kills it.
    pub fn succeed(&mut self, case: &Case) {
        let asked = format!("{}={}", case.point, case.fault.word());
        match (self.daemon.succeed_with(&asked), case.fault) {
            (Err(_), Fault::Kill) => self.daemon.succeed().expect("the one after it starts"),
            (Ok(()), Fault::Kill) => {
                let dies = eventually(|| self.daemon.has_ended().is_ok_and(|it| it.is_some()));
                assert!(dies, "{case}: the supervisor did not come by there");
                self.daemon.succeed().expect("the one after it starts");
            }
            (Ok(()), Fault::Error(..)) => {
                assert!(eventually(|| self.points("failed").contains(&case.point)), "{case}: it did not come by there");
                self.failpoints("clear");
            }
            (Err(failure), Fault::Error(..)) => panic!("{case}: {failure}"),
        }
    }

    /// Has the supervisor become itself, with the fault.
    pub fn upgrade(&mut self, case: &Case) {
        self.failpoints("clear");
        self.failpoints(&format!("set {} {}", case.point, case.fault.word()));
        let program = artifacts().programs.join("mortised");
        let upgraded = self.daemon.mortise(["upgrade", &text(&program)]).output().expect("mortise runs");
        match case.fault {
            Fault::Kill => {
                assert!(eventually(|| self.daemon.has_ended().is_ok_and(|it| it.is_some())), "{case}");
                self.daemon.succeed().expect("its successor starts");
            }
            Fault::Error(..) => {
                assert!(self.log().contains("going on as what this was"), "{case}: {upgraded:?}");
            }
        }
    }

    /// Has the point fail again and again, until [`Self::clear`].
    pub fn hold(&mut self, point: &str, errno: i32) {
        self.held_at = self.log().len();
        self.failpoints(&format!("hold {point} {errno}"));
    }

    pub fn clear(&self) {
        self.failpoints("clear");
    }

    /// How often it has failed since.
    pub fn faults_since(&self) -> usize {
        self.log()[self.held_at..].matches("a fault that was asked for").count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.daemon.folder().join("mortised.log")).expect("its log")
    }

    /// Submits the operation and waits for its end.
    pub fn ask_for(&self, operation: &Operation, id: &str) -> Answer {
        self.submit(operation, id).expect("the supervisor answers");
        self.ended(id).expect("the supervisor answers").0
    }

    /// What `load` has counted.
    pub fn report(&self) -> Value {
        let said = self.mortise(&["--json", "call", "load.report"]);
        serde_json::from_str(&said).expect("JSON")
    }

    /// Nothing is left.
    pub fn end(self) {
        let Self { daemon, before, folder, .. } = self;
        daemon.stop().expect("the supervisor stops");
        let mut left = Vec::new();
        let gone = eventually(|| {
            left = before.left_over();
            // The test programs of the supervisor itself may run beside this.
            left.retain(|it| it.contains(&*text(folder.path())) || it.starts_with("cgroup"));
            left.is_empty()
        });
        assert!(gone, "left behind: {left:#?}");
    }
}

/// A module as a snapshot shows it; nothing, if it is not installed.
/// Its workers, those apart of which nothing is left.
fn living(module: &Value) -> Vec<Value> {
    let mut workers = module["workers"].as_array().cloned().unwrap_or_default();
    workers.retain(|it| it["state"] != "stopped");
    workers
}

/// Version and state of each of them.
pub fn workers(module: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let mut workers: Vec<String> =
        living(module).iter().map(|it| format!("{} {}", word(&it["version"]), word(&it["state"]))).collect();
    workers.sort();
    workers
}

/// Those that are not kept frozen.
pub fn without_frozen(workers: &[String]) -> Vec<String> {
    workers.iter().filter(|it| !it.ends_with("frozen")).cloned().collect()
}

pub fn module(snapshot: &Value, tenant: &str, name: &str) -> Value {
    let modules = snapshot["modules"].as_array().cloned().unwrap_or_default();
    modules.into_iter().find(|it| it["module"] == name && it["tenant"] == tenant).unwrap_or_default()
}

/// Routes without when they were applied.
fn of_tenant(routes: &Value) -> Value {
    json!([routes["tenant"], routes["routes"]])
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
