//! What a developer of Mortise runs: `cargo xtask demo | test | vm | bench | dist | packages`.
//!
//! ```text
//!   main ─┬─ demo ──── daemon (mortised and its modules) ─── tour (README's commands, run and compared)
//!         ├─ test ──── suites, each a list of commands whose results are counted ─── vm (systemd, cgroup v2)
//!         ├─ bench ──── figures (the table), plot (the SVG)
//!         └─ packages ─ artifacts (cargo build, then one folder per module that `mortise` can install)
//! ```

mod bench;

mod demo;
mod dist;
mod figures;
mod fuzz;
mod plot;
mod suites;
mod swaps;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::artifacts;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What a developer of Mortise runs", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a supervisor, a base and the example modules, and stay until Ctrl-C
    Demo(demo::Demo),
    /// Run the tests: all of them, the everyday ones, or one suite
    Test(suites::Test),
    /// The whole-system tests and the Debian package in a virtual machine: the same as `test --only vm`
    Vm(suites::Vm),
    /// Measure, beside the physical limit of the same run
    Bench(bench::Bench),
    /// Build the Debian package
    Dist(dist::Dist),
    /// Build everything and lay out one folder per module, ready for `mortise install`
    Packages(artifacts::Packages),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(demo) => demo.run(),
        Command::Test(test) => test.run(),
        Command::Vm(vm) => vm.run(),
        Command::Bench(bench) => bench.run(),
        Command::Dist(dist) => dist.run(),
        Command::Packages(packages) => packages.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
