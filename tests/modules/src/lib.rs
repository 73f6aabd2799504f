//! What the test modules say to each other.

pub mod ledger;

use serde::{Deserialize, Serialize};

/// A service that misbehaves when it is asked to.
#[module_runtime::service(name = "unruly", error = Refused)]
pub trait Unruly {
    /// The same text, and the pid that the worker sees as its own.
    fn echo(&self, text: String) -> Result<Echo, Refused>;
    /// Takes its time, without keeping others from being served.
    async fn rest(&self, millis: u64) -> Result<u64, Refused>;
    /// Takes that many bytes of memory, touches them and keeps them.
    fn allocate(&self, bytes: u64) -> Result<u64, Refused>;
    /// Keeps a processor busy for that long, in a thread of its own; answers at once.
    fn spin(&self, millis: u64) -> Result<(), Refused>;
    /// Makes processes until the kernel refuses: how many there were.
    fn fork_bomb(&self) -> Result<u64, Refused>;
    /// Ends the process with that status.
    fn crash(&self, status: i32) -> Result<(), Refused>;
    /// Prints that many lines.
    fn chatter(&self, lines: u64) -> Result<(), Refused>;
    /// What a worker sees of the machine.
    fn view(&self) -> Result<View, Refused>;
    /// Fails with the error type of its own.
    fn refuse(&self, why: String) -> Result<(), Refused>;
}

/// An echo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// What was said.
    pub text: String,
    /// The version that answered.
    pub version: String,
}

/// What a worker sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its uid.
    pub uid: u32,
    /// Its pid.
    pub pid: u32,
    /// Lines of /proc/self/status about capabilities, seccomp and privileges.
    pub status: Vec<String>,
    /// Processes in /proc.
    pub processes: Vec<String>,
    /// The top folder.
    pub root: Vec<String>,
    /// Network interfaces.
    pub interfaces: Vec<String>,
    /// Environment variables, by name.
    pub environment: Vec<String>,
    /// Open descriptors and what they are.
    pub descriptors: Vec<String>,
    /// Folders that could be written to, of a list of likely ones.
    pub writable: Vec<String>,
}

/// The error of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub why: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

/// A service in the middle: it calls another for its answer.
#[module_runtime::service(name = "relay", error = Refused)]
pub trait Relay {
    /// Which versions the call went through.
    async fn pass(&self) -> Result<Passed, Refused>;
}

/// The versions that a call went through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// Of the one in the middle.
    pub relay: String,
    /// Of the one that it called.
    pub unruly: String,
}

/// A service that is tried out: what its second version does differently, its configuration says.
#[module_runtime::service(name = "trial", error = Refused)]
pub trait Trial {
    /// The words of a text.
    #[idempotent]
    async fn check(&self, text: String) -> Result<Vec<Word>, Refused>;
    /// Keeps a text; answers with how many there are.
    fn store(&self, text: String) -> Result<u64, Refused>;
    /// What this worker has been asked.
    fn asked(&self) -> Result<Asked, Refused>;
}

/// A word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// As it is written.
    pub text: String,
    /// What was meant.
    pub suggestion: Option<String>,
}

/// What a worker has been asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its version.
    pub version: String,
    /// Calls of `check` that were copies.
    pub copies: u64,
    /// Calls of `check` that were not.
    pub checks: u64,
    /// Calls of `store`.
    pub stores: u64,
}

/// A service whose calls must not be executed twice.
#[module_runtime::service(name = "recorder", error = Refused)]
pub trait Recorder {
    /// Writes the id into the ledger; answers with the version that has done so.
    fn record(&self, id: u64) -> Result<String, Refused>;
}

/// A service that calls `unruly.echo` without a pause and counts.
#[module_runtime::service(name = "load", error = Refused)]
pub trait Load {
    /// What was counted so far.
    fn report(&self) -> Result<Report, Refused>;
}

/// What the load has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Calls answered as they should be.
    pub answered: u64,
    /// Calls that failed.
    pub failed: u64,
    /// The first failures, in words.
    pub failures: Vec<String>,
    /// Versions that answered, in the order of their first answer.
    pub versions: Vec<String>,
    /// The longest time between two answers, in microseconds.
    pub longest_us: u64,
}

/// A count that is kept in memory.
#[module_runtime::service(name = "counter", error = Refused)]
pub trait Counter {
    /// One more; how many there are with it.
    fn count(&self) -> Result<u64, Refused>;
    /// How many there are.
    #[idempotent]
    fn peek(&self) -> Result<u64, Refused>;
    /// The same as `count`, once `release` has been called.
    async fn count_when_released(&self) -> Result<u64, Refused>;
    /// How many calls wait for that.
    #[idempotent]
    fn waiting(&self) -> Result<u64, Refused>;
    /// Lets one of them go on.
    fn release(&self) -> Result<(), Refused>;
}

/// Who has things counted.
#[module_runtime::service(name = "tally", error = Refused)]
pub trait Tally {
    /// How many calls have been answered.
    fn answered(&self) -> Result<u64, Refused>;
    /// Calls no more; what has become of all calls.
    async fn end(&self) -> Result<TallyReport, Refused>;
}

/// What has become of calls of `counter.count`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyReport {
    /// Those that were answered.
    pub answered: u64,
    /// Answers that another call had got before.
    pub twice: u64,
    /// The greatest answer.
    pub most: u64,
    /// Those that failed.
    pub failed: u64,
    /// Why the first of them did.
    pub failures: Vec<String>,
    /// The longest that one took.
    pub longest_us: u64,
}
