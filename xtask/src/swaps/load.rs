//! Swaps under a constant load of calls and requests: what they cost those.

use std::time::Duration;

use xtask::Failure;
use xtask::artifacts::Artifacts;
use xtask::ledger::{Account, Seen};
use xtask::requests::now;

use super::row::{Row, share};
use super::times;
use super::world::{VERSIONS, World};

const LOADS: [&str; 4] = ["typed-closed", "typed-open", "http-closed", "http-open"];

/// Swaps that have a steady time before them, of [`BETWEEN`] each.
const APART: usize = 12;
const BETWEEN: Duration = Duration::from_millis(2500);

const SECOND: u64 = 1_000_000_000;

/// So many swaps one right after the other, and a few that are far apart.
pub fn rows(artifacts: &Artifacts, swaps: usize) -> Result<Vec<Row>, Failure> {
    let world = World::start(artifacts)?;
    let load = world.load()?;
    let mut apart = Vec::new();
    for round in 0..APART {
        std::thread::sleep(BETWEEN);
        let begin = now();
        world.ask(&["swap", VERSIONS[(round + 1) % 2]])?;
        apart.push(begin.midpoint(now()));
    }
    std::thread::sleep(BETWEEN);
    let begin = now();
    let mut took = Vec::with_capacity(swaps);
    for round in 0..swaps {
        let operation = world.ask(&["swap", VERSIONS[(APART + round + 1) % 2]])?;
        took.push(times::whole(&operation).ok_or_else(|| format!("no times in {operation}"))?);
    }
    let account = world.account(Some(load))?;
    for failure in account.audit(|_| true).failures {
        eprintln!("{failure}");
    }
    let all = account.audit(|it| it.ended >= begin);
    let mut rows = vec![Row::new("swap").times(took).fates(&all)];
    for load in LOADS {
        let during = |it: &Seen| it.load == load && it.ended >= begin;
        let took = account.seen.iter().filter(|it| during(it)).map(Seen::took).collect();
        rows.push(Row::new(format!("swaps-{load}")).times(took).fates(&account.audit(during)));
    }
    rows.extend(LOADS.map(|load| around(&account, load, &apart)));
    Ok(rows)
}

/// Of the second around each of the swaps, against the second before that.
fn around(account: &Account, load: &str, swaps: &[u64]) -> Row {
    let due_in = |seen: &Seen, from: u64| seen.load == load && (from..from + SECOND).contains(&seen.due);
    let [steady, around] = [3 * SECOND / 2, SECOND / 2].map(|before| {
        let inside = |it: &&Seen| swaps.iter().any(|swap| due_in(it, swap - before));
        let mut took: Vec<u64> = account.seen.iter().filter(inside).map(Seen::took).collect();
        took.sort_unstable();
        took
    });
    let (p99, steady) = (share(&around, 0.99), share(&steady, 0.99));
    Row::new(format!("around-{load}")).times(around).ratio(p99, steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_around_a_swap_is_set_against_the_one_before_it() {
        let seen = |due: u64, took: u64| Seen {
            load: "open".to_owned(),
            id: due,
            due,
            ended: due + took,
            deadline: u64::MAX,
            outcome: Ok("1.0.0".to_owned()),
        };
        let swap = 10 * SECOND;
        let steady = (0..100).map(|it| seen(swap - SECOND - it, 10));
        let around = (0..100).map(|it| seen(swap - it, 15));
        let far = [seen(swap - 2 * SECOND, 1000), seen(swap + SECOND, 1000)];
        let account = Account { seen: steady.chain(around).chain(far).collect(), ..Account::default() };
        let row = super::around(&account, "open", &[swap]).json();
        assert_eq!((&row["count"], &row["p99_ns"], &row["ratio"]), (&100.into(), &15.into(), &1.5.into()));
    }
}
