//! The second disk: programs, module folders, tests and the script that runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};
use xtask::command::{cargo, output, run};

use super::image::disk;
use crate::dist;

/// What runs, and what that sources.
const SCRIPTS: &[(&str, &str)] = &[
    ("run.sh", include_str!("run.sh")),
    ("suite.sh", include_str!("suite.sh")),
    ("package.sh", include_str!("package.sh")),
    ("faults.sh", include_str!("faults.sh")),
    ("shutdown.sh", include_str!("shutdown.sh")),
    ("cuts.sh", include_str!("cuts/cuts.sh")),
    ("cuts.py", include_str!("cuts/cuts.py")),
    ("ask.py", include_str!("cuts/ask.py")),
];

/// A library that is preloaded into the supervisor if it is there.
const WITHOUT_SYNC: &str = "without_sync.so";

/// A disk with the programs, the Debian package and, if any of them are to run, the whole-system tests. The programs are optimised:
/// unoptimised ones are five times as slow where the processor is emulated, and each `mortise install` of one that has all its symbols
/// packs, hashes and unpacks twenty megabytes. The tests themselves are those that run on this host.
pub(super) fn payload(scratch: &Path, filter: &str) -> Result<PathBuf, Failure> {
    laid_out(scratch, filter, None)
}

fn laid_out(scratch: &Path, filter: &str, library: Option<&Path>) -> Result<PathBuf, Failure> {
    let artifacts = Artifacts::build(Profile::Release)?;
    let content = scratch.join("payload");
    let programs = content.join("programs");
    if content.exists() {
        fs::remove_dir_all(&content)?;
    }
    fs::create_dir_all(&programs)?;
    if !filter.starts_with("package") && filter != super::CUTS {
        whole_system_tests(&content.join("tests"))?;
    }
    for name in ["mortise", "mortised", "mortise-init", "mortise-base"] {
        fs::copy(artifacts.programs.join(name), programs.join(name))?;
    }
    run(Command::new("cp").arg("-r").arg(&artifacts.packages).arg(programs.join("packages")))?;
    strip(&programs)?;
    fs::copy(dist::package(&artifacts)?, content.join("mortise.deb"))?;
    for (name, script) in SCRIPTS {
        fs::write(content.join(name), script.replace("FILTER", filter))?;
    }
    if let Some(library) = library {
        fs::copy(library, content.join(WITHOUT_SYNC))?;
    }
    let size = output(Command::new("du").arg("-sm").arg(&content))?;
    let megabytes: u64 = size.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(1024);
    let file = scratch.join("payload.img");
    disk(&content, &file, megabytes + megabytes / 4 + 64)?;
    Ok(file)
}

/// The same with what keeps the supervisor from syncing anything.
pub(super) fn payload_without_sync(scratch: &Path) -> Result<PathBuf, Failure> {
    let source = scratch.join("without_sync.c");
    fs::write(&source, include_str!("cuts/without_sync.c"))?;
    let library = scratch.join(WITHOUT_SYNC);
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source))?;
    laid_out(scratch, super::CUTS, Some(&library))
}

/// The programs of the tests, into the folder.
fn whole_system_tests(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let mut build = cargo();
    build.args(["test", "-p", "mortise-tests", "--no-run", "--message-format=json"]);
    let messages = output(&mut build)?;
    for message in messages.lines().filter_map(|it| serde_json::from_str::<serde_json::Value>(it).ok()) {
        let is_test = message["target"]["kind"][0] == "test" && message["profile"]["test"] == true;
        if let (true, Some(program)) = (is_test, message["executable"].as_str()) {
            let name = message["target"]["name"].as_str().unwrap_or("test");
            fs::copy(program, folder.join(name))?;
        }
    }
    Ok(())
}

/// Takes the symbols out of every program below the folder.
fn strip(folder: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            strip(&path)?;
        } else if fs::read(&path)?.starts_with(b"\x7fELF") {
            run(Command::new("strip").arg(&path))?;
        }
    }
    Ok(())
}
