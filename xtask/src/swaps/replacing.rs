//! How long it takes to replace workers: by new ones, against the bare start of one, and by those that were kept.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use xtask::Failure;
use xtask::artifacts::Artifacts;
use xtask::ledger::Seen;
use xtask::requests::now;

use super::row::{Row, share};
use super::times;
use super::world::{Callers, VERSIONS, World};

/// Calls so close to each other that the first answer of a version is seen soon after it could be given.
const CLOSE: Callers = Callers { closed: 8, pause: Duration::from_millis(1), open_per_second: 0 };

/// Of a module that nobody calls. The store's commits are counted apart: they are the disk's.
pub fn idle(artifacts: &Artifacts, count: usize) -> Result<Vec<Row>, Failure> {
    let world = World::start(artifacts)?;
    let mut starts = Vec::new();
    for _ in 0..count {
        world.ask(&["stop", "recorder"])?;
        starts.push(world.ask(&["start", VERSIONS[0]])?);
    }
    let swaps: Vec<Value> =
        (0..count).map(|round| world.ask(&["swap", VERSIONS[(round + 1) % 2]])).collect::<Result<_, _>>()?;
    world.end()?;
    let start = apart("start", &starts)?;
    let swap = apart("swap-idle", &swaps)?;
    let (swap_p50, start_p50) = (swap.number("p50_ns"), start.number("p50_ns"));
    Ok(vec![start, swap.ratio(swap_p50, start_p50)])
}

fn apart(case: &str, operations: &[Value]) -> Result<Row, Failure> {
    let figures = |figure: fn(&Value) -> Option<u64>| {
        let each = operations.iter().map(|it| figure(it).ok_or_else(|| format!("{case}: no times in {it}")));
        each.collect::<Result<Vec<u64>, _>>()
    };
    let mut commits = figures(times::commits)?;
    commits.sort_unstable();
    Ok(Row::new(case).times(figures(times::without_commits)?).with("commits_p50_ns", share(&commits, 0.5)))
}

/// Rollbacks while calls go on: all of it, from the flip until every caller has left the other version, and until the first answer.
pub fn rollbacks(artifacts: &Artifacts, count: usize) -> Result<Vec<Row>, Failure> {
    let world = World::start(artifacts)?;
    world.call(CLOSE)?;
    world.ask(&["swap", VERSIONS[1], "--keep", "1h"])?;
    // What is to be added to a time of the journal to have one of the ledger.
    let wall = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?).as_nanos();
    let ahead = u64::try_from(wall)? - now();
    let rollbacks: Vec<Value> =
        (0..count).map(|_| world.ask(&["rollback", "recorder", "--keep", "1h"])).collect::<Result<_, _>>()?;
    let mut account = world.account(None)?;
    account.seen.sort_unstable_by_key(|it| it.ended);
    let (mut whole, mut left, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for (round, operation) in rollbacks.iter().enumerate() {
        let flip = times::began(operation, "flip").and_then(|it| it.checked_sub(ahead));
        let answers = VERSIONS[round % 2].rsplit('@').next();
        let answered = flip.and_then(|flip| {
            let later = &account.seen[account.seen.partition_point(|it| it.ended < flip)..];
            let answer = later.iter().find(|it| it.outcome.as_deref().ok() == answers)?;
            Some(answer.ended - flip)
        });
        for (times, time) in
            [(&mut whole, times::whole(operation)), (&mut left, times::flip(operation)), (&mut first, answered)]
        {
            times.push(time.ok_or_else(|| format!("rollback: no times in {operation}"))?);
        }
    }
    let audit = account.audit(|_: &Seen| true);
    Ok(vec![
        Row::new("rollback").times(whole).fates(&audit),
        Row::new("rollback-flip").times(left),
        Row::new("rollback-first-reply").times(first),
    ])
}
