//! `cargo xtask bench swap`: how long swaps, rollbacks, publishing and withdrawing take, what they cost calls that go on meanwhile, and
//! what becomes of calls when workers are killed.
//!
//! ```text
//!   idle ───────── start, swap-idle                     nobody calls
//!   rollbacks ──── rollback, -flip, -first-reply        close calls
//!   load ───────── swap, swaps-LOAD, around-LOAD        the constant load: calls and requests, closed and open loops
//!   services ───── publish-N, unpublish-N               with N services published
//!   kills ──────── worker-kills                         the constant load
//! ```
//!
//! Times of operations are those of the journal. What became of calls is told by a ledger on disk.

mod kills;
mod load;
mod replacing;
mod row;
mod services;
mod times;
mod world;

use clap::{Args, ValueEnum};
use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};

use row::Row;

/// How much of it.
#[derive(Args)]
pub struct Swaps {
    /// How often each case is done (swap)
    #[arg(long, value_name = "N", default_value_t = 100)]
    swaps: usize,
    /// How many workers are killed (swap)
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: usize,
    /// Only these cases; may be repeated (swap)
    #[arg(long, value_enum, value_name = "CASES")]
    only: Vec<Cases>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Cases {
    Idle,
    Rollbacks,
    Load,
    Services,
    Kills,
}

impl Swaps {
    /// Prints a line for each case.
    pub fn run(&self, as_json: bool) -> Result<(), Failure> {
        let artifacts = Artifacts::build(Profile::Dist)?;
        if !as_json {
            println!("{}", Row::heading());
        }
        for cases in Cases::value_variants().iter().filter(|it| self.only.is_empty() || self.only.contains(it)) {
            let rows = match cases {
                Cases::Idle => replacing::idle(&artifacts, self.swaps)?,
                Cases::Rollbacks => replacing::rollbacks(&artifacts, self.swaps)?,
                Cases::Load => load::rows(&artifacts, self.swaps)?,
                Cases::Services => services::rows(&artifacts, self.swaps)?,
                Cases::Kills => vec![kills::row(&artifacts, self.kills)?],
            };
            for row in rows {
                println!("{}", if as_json { row.json().to_string() } else { row.text() });
            }
        }
        Ok(())
    }
}
