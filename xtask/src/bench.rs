//! `cargo xtask bench ipc|start|swap`: the figures, each beside its limit.

use clap::{Args, ValueEnum};

use xtask::Failure;
use xtask::artifacts::{Profile, build_init};
use xtask::command::{cargo, run};

/// Measure, beside the physical limit of the same run.
#[derive(Args)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
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
}

impl Bench {
    pub fn run(self) -> Result<(), Failure> {
        let (package, example) = match self.what {
            What::Ipc => ("shm-rpc", "ipc-bench"),
            What::Start => ("mortise-supervisor", "start-bench"),
        };
        if self.what == What::Start {
            build_init(Profile::Dist)?;
        }
        let mut bench = cargo();
        bench.args(["run", "--quiet", "--profile", "dist", "-p", package, "--example", example, "--"]);
        if self.json {
            bench.arg("--json");
        }
        run(bench.args(&self.rest))
    }
}
