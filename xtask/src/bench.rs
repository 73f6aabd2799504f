//! `cargo xtask bench ipc|start|swap`: the figures, each beside its limit.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

use xtask::Failure;
use xtask::command::{cargo, root, run, shown};

use crate::swaps::Swaps;
use crate::{figures, plot};

/// Measure, beside the physical limit of the same run.
#[derive(Args)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Calls through other crates and the kernel's own means beside ours (ipc; the first time it builds for minutes)
    #[arg(long)]
    peers: bool,
    /// Draw the figures into this file, as SVG (ipc --peers)
    #[arg(long, value_name = "FILE", requires = "peers", conflicts_with = "json")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    swaps: Swaps,
    /// Further words for the benchmark program
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Calls between two processes
    Ipc,
    /// Starting and ending a worker
    Start,
    /// Swaps, rollbacks and publishing, while calls go on
    Swap,
}

impl Bench {
    pub fn run(self) -> Result<(), Failure> {
        if self.what == What::Swap && !self.peers {
            return self.swaps.run(self.json);
        }
        let mut bench = cargo();
        match (self.what, self.peers) {
            (What::Ipc, false) => bench.args(example("shm-rpc", "ipc-bench")),
            (What::Ipc, true) => {
                let manifest = root().join("shm-rpc/peers/Cargo.toml");
                bench.args(["run", "--quiet", "--release", "--locked", "--manifest-path"]).arg(manifest).arg("--")
            }
            (What::Start, false) => {
                run(cargo().args(["build", "--quiet", "--profile", "dist", "--bins", "-p", "mortise-init"]))?;
                bench.args(example("mortise-supervisor", "start-bench"))
            }
            (What::Start | What::Swap, _) => return Err("--peers is for ipc".into()),
        };
        if self.json {
            bench.arg("--json");
        }
        bench.args(&self.rest);
        if self.json || self.what == What::Start {
            return run(&mut bench);
        }
        let lines = lines_of(&mut bench)?;
        print!("{}", figures::table(&lines)?);
        if let Some(file) = self.plot {
            fs::write(&file, plot::draw(&plot::bars(&lines)?)).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        Ok(())
    }
}

fn example(package: &str, name: &str) -> Vec<String> {
    ["run", "--quiet", "--profile", "dist", "-p", package, "--example", name, "--"].map(str::to_owned).to_vec()
}

/// Runs it to its end and returns the lines that it printed.
fn lines_of(command: &mut Command) -> Result<Vec<String>, Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("a pipe was asked for")?;
    let lines = BufReader::new(stdout).lines().collect::<Result<_, _>>()?;
    let status = child.wait()?;
    if status.success() { Ok(lines) } else { Err(format!("`{}` ended with {status}", shown(command)).into()) }
}
