//! `cargo xtask bench swap`: how long swaps, rollbacks, publishing and withdrawing take while calls go on, and how many calls they cost.
//!
//! A module calls another without a pause. The times are those of the journal of operations, commits to disk included.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};
use xtask::daemon::{Daemon, Options};

/// The caller and the callee that is swapped, as they are laid out.
const MODULES: [&str; 2] = ["unruly", "load"];

/// What one case came to.
struct Row {
    case: &'static str,
    failed: u64,
    took: Vec<u64>,
}

/// Runs every case so many times and prints a row for each.
pub fn run(swaps: usize, as_json: bool) -> Result<(), Failure> {
    let artifacts = Artifacts::build(Profile::Dist)?;
    let folder = tempfile::Builder::new().prefix("mortise-bench-").tempdir()?;
    let daemon = Daemon::start(
        &artifacts,
        Options {
            folder: folder.path().join("world"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            base: Some(artifacts.packages.join("base")),
            allow_degraded: Vec::new(),
            more: Vec::new(),
        },
    )?;
    for module in MODULES {
        daemon.ask(["install", &artifacts.packages.join(module).display().to_string()])?;
        daemon.ask(["start", module])?;
        daemon.ask(["publish", module])?;
    }
    let second = folder.path().join("second");
    artifacts.lay_out_as("unruly", "2.0.0", &second)?;
    daemon.ask(["install", &second.display().to_string()])?;

    let version = |round: usize| if round.is_multiple_of(2) { "unruly@2.0.0" } else { "unruly@1.0.0" };
    let back = ["rollback", "unruly", "--keep", "1h"];
    // The service that only the base calls, so that nobody is refused meanwhile.
    let (offer, withdraw) = (["publish", "load"], ["unpublish", "load"]);
    let rows = [
        measure(&daemon, "swap", swaps, |round| vec![vec!["swap", version(round)]], whole)?,
        {
            daemon.ask(["swap", version(swaps), "--keep", "1h"])?;
            measure(&daemon, "rollback", swaps, |_| vec![back.to_vec()], whole)?
        },
        measure(&daemon, "rollback-flip", swaps, |_| vec![back.to_vec()], flip)?,
        measure(&daemon, "publish", swaps, |_| vec![withdraw.to_vec(), offer.to_vec()], whole)?,
        measure(&daemon, "unpublish", swaps, |_| vec![offer.to_vec(), withdraw.to_vec()], whole)?,
    ];
    daemon.stop()?;
    if !as_json {
        println!("{:<14} {:>6} {:>7} {:>12} {:>12}", "case", "count", "failed", "p50 ms", "p99 ms");
    }
    for Row { case, failed, mut took } in rows {
        took.sort_unstable();
        let (count, p50, p99) = (took.len(), share(&took, 0.5), share(&took, 0.99));
        if as_json {
            println!("{}", json!({"case": case, "count": count, "failed": failed, "p50_ns": p50, "p99_ns": p99}));
        } else {
            println!("{case:<14} {count:>6} {failed:>7} {:>12.2} {:>12.2}", p50 as f64 / 1e6, p99 as f64 / 1e6);
        }
    }
    Ok(())
}

/// Does a case so many times; of the commands of one time, the last is measured.
fn measure<'a>(
    daemon: &Daemon,
    case: &'static str,
    count: usize,
    commands: impl Fn(usize) -> Vec<Vec<&'a str>>,
    took: impl Fn(&Value) -> Option<u64>,
) -> Result<Row, Failure> {
    let before = failed(daemon)?;
    let mut times = Vec::with_capacity(count);
    for round in 0..count {
        let mut operation = Value::Null;
        for words in commands(round) {
            operation = daemon.ask_json(words)?;
        }
        times.push(took(&operation).ok_or_else(|| format!("{case}: no times in {operation}"))?);
    }
    daemon.ask(["publish", "load"])?;
    Ok(Row { case, failed: failed(daemon)? - before, took: times })
}

/// Calls of the load that have failed so far.
fn failed(daemon: &Daemon) -> Result<u64, Failure> {
    let report = daemon.ask_json(["call", "load.report", "{}"])?;
    report["failed"].as_u64().ok_or_else(|| format!("no count of failures in {report}").into())
}

/// From acceptance to the end.
fn whole(operation: &Value) -> Option<u64> {
    between(&operation["started"], &operation["ended"])
}

/// From the commit, when it is on disk, until every caller has left the old workers.
fn flip(operation: &Value) -> Option<u64> {
    let step = |name: &str| operation["steps"].as_array()?.iter().find(|it| it["step"] == name).map(|it| &it["at"]);
    between(step("flip")?, step("drain").or_else(|| step("freeze"))?)
}

fn between(from: &Value, to: &Value) -> Option<u64> {
    const DAY: u64 = 24 * 3600 * 1_000_000_000;
    let (from, to) = (time_of_day(from.as_str()?)?, time_of_day(to.as_str()?)?);
    Some((to + DAY - from) % DAY)
}

/// Nanoseconds since midnight of `2026-01-02T03:04:05.678Z`.
fn time_of_day(text: &str) -> Option<u64> {
    let time = text.split_once('T')?.1.strip_suffix('Z')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut seconds = 0;
    for part in clock.split(':') {
        seconds = seconds * 60 + part.parse::<u64>().ok()?;
    }
    Some(seconds * 1_000_000_000 + format!("{fraction:0<9}").parse::<u64>().ok()?)
}

/// The value below which that share of them lies.
fn share(sorted: &[u64], share: f64) -> u64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_apart_also_over_midnight() {
        let between = |from: &str, to: &str| between(&json!(from), &json!(to));
        assert_eq!(between("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:06.000000001Z"), Some(500_000_001));
        assert_eq!(between("2026-01-02T23:59:59Z", "2026-01-03T00:00:01Z"), Some(2_000_000_000));
        assert_eq!(between("yesterday", "2026-01-03T00:00:01Z"), None);
        assert_eq!((share(&[1, 2, 3, 4], 0.5), share(&[1, 2, 3, 4], 0.99), share(&[], 0.5)), (2, 4, 0));
    }
}
