//! The libFuzzer targets of `tests/fuzz`, built on the stable toolchain.

use std::path::PathBuf;
use std::process::Command;

use xtask::Failure;
use xtask::command::{cargo, output, root};

/// Coverage the way `cargo fuzz` asks for it, as far as a stable compiler takes it.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// The targets' names.
pub fn targets() -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("tests/fuzz/targets"))?
        .flatten()
        .filter_map(|it| Some(it.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; the folder of the programs.
pub fn build() -> Result<PathBuf, Failure> {
    let target = root().join("target/fuzz");
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--manifest-path", "tests/fuzz/Cargo.toml", "--bins"]);
    // With a target named, build scripts and macros are spared the flags.
    build.args(["--target", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)]);
    output(build.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join(format!("{}-unknown-linux-gnu/release", std::env::consts::ARCH)))
}

/// How long one target may run in a smoke run, in seconds: all of them together take about a minute.
const SECONDS: u32 = 10;

/// Runs a target that often, or for [`SECONDS`], from its seeds; what it finds on the way is not kept.
pub fn run(programs: &std::path::Path, name: &str, runs: u64) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let seeds = root().join("tests/fuzz/seeds").join(name);
    let mut fuzz = Command::new(programs.join(name));
    fuzz.arg(scratch.path());
    if seeds.is_dir() {
        fuzz.arg(seeds);
    }
    fuzz.args([
        format!("-runs={runs}"),
        format!("-max_total_time={SECONDS}"),
        "-rss_limit_mb=1024".into(),
        "-timeout=10".into(),
    ]);
    fuzz.arg(format!("-artifact_prefix={}/", root().join("target").display()));
    output(&mut fuzz).map(|_| ())
}
