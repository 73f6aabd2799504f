//! The second disk: programs, module folders, tests and the script that runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};
use xtask::command::{cargo, output, run};

use super::image::disk;

/// What runs the tests.
const SCRIPT: &str = include_str!("suite.sh");

/// A disk with everything that the whole-system tests need. The programs are optimised: unoptimised
/// ones are five times as slow where the processor is emulated. The tests themselves are those that run on this host.
pub(super) fn tests(scratch: &Path, filter: &str) -> Result<PathBuf, Failure> {
    let artifacts = Artifacts::build(Profile::Release)?;
    let mut build = cargo();
    build.args(["test", "-p", "mortise-tests", "--no-run", "--message-format=json"]);
    let messages = output(&mut build)?;
    let content = scratch.join("payload");
    fs::create_dir_all(content.join("tests"))?;
    fs::create_dir_all(content.join("programs"))?;
    for message in messages.lines().filter_map(|it| serde_json::from_str::<serde_json::Value>(it).ok()) {
        let is_test = message["target"]["kind"][0] == "test" && message["profile"]["test"] == true;
        if let (true, Some(program)) = (is_test, message["executable"].as_str()) {
            let name = message["target"]["name"].as_str().unwrap_or("test");
            fs::copy(program, content.join("tests").join(name))?;
        }
    }
    for name in ["mortise", "mortised", "mortise-init", "mortise-base"] {
        fs::copy(artifacts.programs.join(name), content.join("programs").join(name))?;
    }
    run(Command::new("cp").arg("-r").arg(&artifacts.packages).arg(content.join("programs/packages")))?;
    fs::write(content.join("run.sh"), SCRIPT.replace("FILTER", filter))?;
    let size = output(Command::new("du").arg("-sm").arg(&content))?;
    let megabytes: u64 = size.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(1024);
    let file = scratch.join("payload.img");
    disk(&content, &file, megabytes + megabytes / 4 + 64)?;
    Ok(file)
}
