//! Chunks of a case between chunks of its limit, and what is told of them.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::other::Bench;
use crate::page::Sharing;
use crate::{Case, How};

/// Calls timed together; the p50 is that of such batches, so that the clock costs nothing.
const BATCH: u64 = 32;
/// How long a chunk of the case, and the limits around it, take.
pub const CHUNK: Duration = Duration::from_millis(4);
pub const LIMIT_CHUNK: Duration = Duration::from_millis(1);

/// One side's figures of one chunk.
pub struct Chunk {
    pub p50: f64,
    /// Single calls, for the tail.
    singles: Vec<f64>,
}

pub fn chunk(run: &mut dyn FnMut(u64), calls: u64, time: Duration) -> Chunk {
    // The first ones find a peer that is asleep or busy with something else.
    run(2);
    let shortest = (0..3).map(|_| {
        let start = Instant::now();
        run(1);
        start.elapsed()
    });
    // One that takes longer than a batch of others needs no batch.
    let is_long = shortest.min() > Some(Duration::from_micros(30));
    run(if is_long { 1 } else { 8 });
    let begin = Instant::now();
    let mut batches = Vec::new();
    let mut singles = Vec::new();
    while begin.elapsed() < time || batches.len() < 3 {
        let rounds = if calls > 1 || is_long { 1 } else { BATCH };
        let start = Instant::now();
        run(rounds);
        batches.push(start.elapsed().as_nanos() as f64 / (rounds * calls) as f64);
        for _ in 0..4 {
            let start = Instant::now();
            run(1);
            singles.push(start.elapsed().as_nanos() as f64 / calls as f64);
        }
    }
    Chunk { p50: quantile(&mut batches, 0.5), singles }
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN)
}

/// What was found at one placement.
#[derive(Default)]
struct Found {
    case: Vec<f64>,
    limit: Vec<f64>,
    ratio: Vec<f64>,
    apart: Vec<f64>,
    ratio_apart: Vec<f64>,
    singles: Vec<f64>,
}

/// A row of the table, however it is measured.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub at_most: f64,
    /// Its limit takes less than this, in ns, where the CPUs are the two threads of one core; 0: that is not told apart.
    pub core_below: f64,
    /// Its limit takes less than this, in ns, where the CPUs are near to each other; 0: that is not told apart.
    pub near_below: f64,
}

/// What was found for a row.
pub struct Tally {
    row: Row,
    core: Found,
    near: Found,
    far: Found,
    thrown_away: usize,
}

/// Process pairs that a row is measured with, one after the other: how long a line travels depends on where the kernel has put its
/// page, too.
const PAIRS: u32 = 8;

pub fn run(case: &Case, seconds: f64) {
    let runtime =
        (case.how == How::Tasks).then(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let mut tally = Tally::new(Row {
        name: case.name,
        at_most: case.at_most,
        core_below: case.core_below(),
        near_below: case.near_below(),
    });
    for _ in 0..PAIRS {
        let bench = Bench::with_slots(case.how, case.work.slots());
        let mut apart = || limit(&bench, case, Sharing::Apart);
        let apart: Option<&mut dyn FnMut() -> f64> =
            if case.limit.depends_on_sharing() { Some(&mut apart) } else { None };
        tally.measure(
            seconds / f64::from(PAIRS),
            &mut || work(&bench, case, runtime.as_ref()),
            &mut || limit(&bench, case, Sharing::Both),
            apart,
        );
    }
    tally.print();
}

impl Tally {
    pub fn new(row: Row) -> Self {
        Self { row, core: Found::default(), near: Found::default(), far: Found::default(), thrown_away: 0 }
    }

    /// Measures a row and its limit in turns. `apart`: the same limit between sides that may not write what the other writes.
    pub fn measure(
        &mut self,
        seconds: f64,
        work: &mut dyn FnMut() -> Chunk,
        limit: &mut dyn FnMut() -> f64,
        mut apart: Option<&mut dyn FnMut() -> f64>,
    ) {
        let begin = Instant::now();
        let mut before = limit();
        while begin.elapsed().as_secs_f64() < seconds {
            let measured = work();
            let apart = apart.as_mut().map(|it| it());
            let after = limit();
            let around = (before + after) / 2.0;
            // The tail belongs to everybody's luck; only a moved machine makes a chunk worthless.
            if (before - after).abs() > around * 0.15 {
                self.thrown_away += 1;
            } else {
                let found = match &self.row {
                    row if around < row.core_below => &mut self.core,
                    row if around < row.near_below => &mut self.near,
                    _ => &mut self.far,
                };
                found.case.push(measured.p50);
                found.limit.push(around);
                found.ratio.push(measured.p50 / around);
                found.apart.extend(apart);
                found.ratio_apart.extend(apart.map(|it| measured.p50 / it));
                found.singles.extend(measured.singles);
            }
            before = after;
        }
    }

    /// One line of JSON for each placement that was met often enough.
    pub fn print(mut self) {
        for (found, place) in [(&mut self.core, "core"), (&mut self.near, "near"), (&mut self.far, "far")] {
            let chunks = found.ratio.len();
            if chunks < 5 {
                continue;
            }
            let apart = if found.apart.is_empty() {
                String::new()
            } else {
                let (limit, ratio) = (quantile(&mut found.apart, 0.5), quantile(&mut found.ratio_apart, 0.5));
                format!(",\"apart_p50_ns\":{limit:.0},\"apart_ratio\":{ratio:.3}")
            };
            println!(
                "{{\"bench\":\"ipc\",\"case\":\"{}\",\"placement\":\"{}\",\"p50_ns\":{:.0},\"p99_ns\":{:.0},\"limit_p50_ns\":{:.0},\"ratio\":{:.3}{apart},\"at_most\":{},\"chunks\":{chunks},\"thrown_away\":{}}}",
                self.row.name,
                if self.row.near_below > 0.0 { place } else { "-" },
                quantile(&mut found.case, 0.5),
                quantile(&mut found.singles, 0.99),
                quantile(&mut found.limit, 0.5),
                quantile(&mut found.ratio, 0.5),
                self.row.at_most,
                self.thrown_away,
            );
        }
    }
}

fn limit(bench: &Bench, case: &Case, sharing: Sharing) -> f64 {
    let mut p50 = 0.0;
    bench.limit(case.limit, sharing, |ask| {
        p50 = chunk(ask, case.limit.calls(), LIMIT_CHUNK).p50;
    });
    p50
}

fn work(bench: &Bench, case: &Case, runtime: Option<&Runtime>) -> Chunk {
    match runtime {
        Some(runtime) => {
            let mut call = |rounds| runtime.block_on(case.work.call_async(&bench.client, rounds));
            chunk(&mut call, case.work.calls(), CHUNK)
        }
        None => case.work.calling(&bench.client, |call| chunk(call, case.work.calls(), CHUNK)),
    }
}
