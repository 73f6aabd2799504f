//! `cargo xtask test`: the suites, each a few commands whose results are counted.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::{Args, ValueEnum};
use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile, build_programs};
use xtask::command::{cargo, is_there, root, shown};

use crate::vm::Debian;
use crate::{fuzz, vm};

/// Run the tests.
#[derive(Args)]
pub struct Test {
    /// The everyday suites: format, lints, unit tests and the whole-system tests
    #[arg(long, conflicts_with = "only")]
    quick: bool,
    /// One suite
    #[arg(long, value_enum)]
    only: Option<Suite>,
    /// Only tests whose names contain this; for `system`, also the name of a file of tests
    #[arg(requires = "only")]
    filter: Option<String>,
    #[arg(skip)]
    debian: Debian,
    #[arg(skip = CUTS)]
    cuts: u32,
    #[arg(skip)]
    without_sync: bool,
}

/// Run the whole-system tests in a virtual machine with systemd and cgroup v2, then install, restart, reboot and purge the Debian package.
#[derive(Args)]
pub struct Vm {
    /// Only tests whose names contain this; `package` is the package alone, `package::A|B` its installation and those of its steps,
    /// `cuts` power cuts alone
    filter: Option<String>,
    /// Which Debian is in the machine
    #[arg(long, value_enum, default_value_t)]
    debian: Debian,
    /// How often the power is cut while operations run
    #[arg(long, default_value_t = CUTS)]
    cuts: u32,
    /// Power cuts of a supervisor that syncs nothing: the check has to find what they leave wrong
    #[arg(long, requires = "filter")]
    without_sync: bool,
}

impl Vm {
    pub fn run(self) -> Result<(), Failure> {
        let Self { filter, debian, cuts, without_sync } = self;
        if without_sync && filter.as_deref() != Some(vm::CUTS) {
            return Err("--without-sync is for power cuts: `cargo xtask vm cuts --without-sync`".into());
        }
        Test { quick: false, only: Some(Suite::Vm), filter, debian, cuts, without_sync }.run()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// rustfmt
    Fmt,
    /// clippy, warnings are errors
    Clippy,
    /// Tests beside the code
    Unit,
    /// The ring, its close and its waiting under every interleaving
    Loom,
    /// Whole-system tests on this host
    System,
    /// Workers that want to do harm, on this host
    Hostile,
    /// Every fault of the table in docs/operations.md, on this host
    Failpoints,
    /// The demo and README.md's tour
    Demo,
    /// The whole-system tests and the Debian package in a virtual machine with systemd and cgroup v2
    Vm,
    /// Fuzz targets, a short while each
    Fuzz,
    /// Licenses, sources and duplicates of dependencies
    Deny,
    /// The documentation builds without a warning
    Docs,
}

const QUICK: &[Suite] = &[Suite::Fmt, Suite::Clippy, Suite::Unit, Suite::System];
/// How often the power is cut, unless somebody says otherwise.
const CUTS: u32 = 1;

/// What a release stands on, cheap ones first.
const ALL: &[Suite] = &[
    Suite::Fmt,
    Suite::Clippy,
    Suite::Unit,
    Suite::System,
    Suite::Docs,
    Suite::Deny,
    Suite::Loom,
    Suite::Fuzz,
    Suite::Demo,
    Suite::Vm,
];

/// What became of the tests of a suite.
#[derive(Clone, Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: Vec<String>,
}

impl Test {
    pub fn run(self) -> Result<(), Failure> {
        let suites = match self.only {
            Some(ref one) => std::slice::from_ref(one),
            None if self.quick => QUICK,
            None => ALL,
        };
        let mut tallies = Vec::new();
        for suite in suites {
            let name = format!("{suite:?}").to_lowercase();
            println!("\n━━ {name}");
            let began = Instant::now();
            let mut tally = Tally::default();
            let result = suite.run(&mut tally, self.filter.as_deref(), &self);
            if let Err(failure) = result.and_then(|()| tally.ran_something()) {
                println!("{failure}");
                tally.failed = tally.failed.max(1);
            }
            for skip in &tally.skipped {
                println!("skipped: {skip}");
            }
            println!("{name}: {tally} ({} s)", began.elapsed().as_secs());
            tallies.push((name, tally));
        }
        println!("\n━━ all suites");
        let mut total = Tally::default();
        for (name, tally) in tallies {
            println!("{name}: {tally}");
            total.passed += tally.passed;
            total.failed += tally.failed;
            total.skipped.extend(tally.skipped);
        }
        println!("{total}");
        if total.failed > 0 { Err("some tests failed".into()) } else { Ok(()) }
    }
}

impl Tally {
    /// Counts what a line of libtest says.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        self.passed += number_before(result, " passed");
        self.failed += number_before(result, " failed");
        let ignored = number_before(result, " ignored");
        self.skipped.extend((0..ignored).map(|_| "marked #[ignore], see above".to_owned()));
    }

    /// A filter that fits nothing is a slip, and no success.
    fn ran_something(&self) -> Result<(), Failure> {
        if self.passed + self.failed == 0 && self.skipped.is_empty() {
            return Err("no test ran: the filter fits no test's name".into());
        }
        Ok(())
    }

    /// A test that skips itself passes for libtest.
    fn skip(&mut self, what: &str) {
        self.passed = self.passed.saturating_sub(1);
        self.skipped.push(what.to_owned());
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

impl Suite {
    fn run(self, tally: &mut Tally, filter: Option<&str>, asked: &Test) -> Result<(), Failure> {
        let filter = filter.map(str::to_owned);
        match self {
            Self::Fmt => check(tally, cargo().args(["fmt", "--all", "--check"])),
            Self::Clippy => {
                let strict = ["--all-targets", "--", "-D", "warnings"];
                check(tally, cargo().args(["clippy", "--workspace"]).args(strict))?;
                // What nothing that is shipped has.
                check(
                    tally,
                    cargo().args(["clippy", "-p", "mortise-supervisor", "--features", "failpoints"]).args(strict),
                )
            }
            Self::Unit => {
                // Tests of the supervisor start programs of the workspace.
                build_programs(Profile::Dev)?;
                let mut tests = cargo();
                tests.args(["test", "--workspace", "--exclude", "mortise-tests", "--no-fail-fast"]).args(filter);
                count(tally, &mut tests)
            }
            Self::Loom => {
                let mut tests = cargo();
                tests.args(["test", "-p", "shm-rpc", "--release", "--lib", "--", "models"]).args(filter);
                tests.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", root().join("target/loom"));
                count(tally, &mut tests)
            }
            Self::System => {
                Artifacts::build(Profile::Dev)?;
                let mut tests = cargo();
                tests.args(["test", "-p", "mortise-tests", "--no-fail-fast"]);
                match filter {
                    Some(file) if root().join(format!("tests/tests/{file}.rs")).is_file() => {
                        tests.args(["--test", &file]);
                    }
                    other => {
                        tests.args(other);
                    }
                }
                // One at a time: they measure shares of the processor and look for what is left over.
                count(tally, tests.args(["--", "--test-threads=1"]))
            }
            Self::Hostile => {
                Artifacts::build(Profile::Dev)?;
                let mut tests = cargo();
                tests.args(["test", "-p", "mortise-tests", "--test", "hostile"]).args(filter);
                count(tally, tests.args(["--", "--test-threads=1"]))
            }
            Self::Failpoints => {
                Artifacts::build_with_failpoints(Profile::Dev)?;
                let mut tests = cargo();
                tests.args(["test", "-p", "mortise-tests", "--test", "failpoints"]).args(filter);
                count(tally, tests.args(["--", "--test-threads=1"]))
            }
            Self::Demo => check(tally, cargo().args(["xtask", "demo", "--once"])),
            Self::Vm => in_the_machine(tally, asked),
            Self::Fuzz => fuzz_all(tally, filter.as_deref()),
            Self::Deny => {
                let tools = root().join("target/tools");
                let deny = tools.join("bin/cargo-deny");
                if !deny.exists() && !is_there("cargo-deny") {
                    let mut install = cargo();
                    install.args(["install", "--quiet", "--locked", "cargo-deny", "--root"]).arg(&tools);
                    check(&mut Tally::default(), &mut install)?;
                }
                let mut deny = Command::new(if deny.exists() { deny } else { "cargo-deny".into() });
                check(tally, deny.args(["check", "bans", "licenses", "sources"]).current_dir(root()))
            }
            Self::Docs => {
                let mut docs = cargo();
                docs.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
                check(tally, &mut docs)
            }
        }
    }
}

/// How many inputs a target is given in a smoke run.
const FUZZ_RUNS: u64 = 200_000;

/// The fuzz targets, from their seeds, a short while each.
fn fuzz_all(tally: &mut Tally, filter: Option<&str>) -> Result<(), Failure> {
    let programs = fuzz::build()?;
    let mut first = Ok(());
    for name in fuzz::targets()?.into_iter().filter(|it| filter.is_none_or(|part| it.contains(part))) {
        println!("{name}: up to {FUZZ_RUNS} inputs");
        match fuzz::run(&programs, &name, FUZZ_RUNS) {
            Ok(()) => tally.passed += 1,
            Err(failure) => {
                tally.failed += 1;
                first = first.and(Err(failure));
            }
        }
    }
    first
}

/// The whole-system tests in the virtual machine.
fn in_the_machine(tally: &mut Tally, asked: &Test) -> Result<(), Failure> {
    if let Some(why) = vm::unavailable() {
        tally.skipped.push(format!("vm: {why}"));
        return Ok(());
    }
    let Test { debian, cuts, without_sync, .. } = *asked;
    let wanted = vm::Wanted { debian, filter: asked.filter.as_deref(), cuts, without_sync };
    vm::run_suite(wanted, |line| {
        println!("  {line}");
        tally.add(line);
        if let Some(skipped) = line.strip_prefix("vm-skipped: ") {
            tally.skip(skipped);
        }
    })
}

/// One command that is one test.
fn check(tally: &mut Tally, command: &mut Command) -> Result<(), Failure> {
    println!("{}", shown(command));
    let status = command.status()?;
    if status.success() {
        tally.passed += 1;
        return Ok(());
    }
    tally.failed += 1;
    Err(format!("`{}` ended with {status}", shown(command)).into())
}

/// A `cargo test`: its output passes through, its results are counted, and what its tests skipped is read from the file that
/// they are told of in `MORTISE_SKIPPED`.
fn count(tally: &mut Tally, command: &mut Command) -> Result<(), Failure> {
    println!("{}", shown(command));
    let skips = tempfile::NamedTempFile::new()?;
    let mut child = command.env("MORTISE_SKIPPED", skips.path()).stdout(Stdio::piped()).spawn()?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            tally.add(&line);
        }
    }
    let status = child.wait()?;
    let said = fs::read_to_string(skips.path())?;
    said.lines().for_each(|it| tally.skip(it));
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", shown(command)).into()) }
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    text[..end].rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_s_result_line_is_understood() {
        let line = "ok. 12 passed; 3 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s";
        assert_eq!([" passed", " failed", " ignored"].map(|it| number_before(line, it)), [12, 3, 1]);
    }
}
