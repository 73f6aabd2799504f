//! Chunks of a case between chunks of its limit, and what is told of them.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::other::Bench;
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
    let start = Instant::now();
    run(1);
    // One that takes longer than a batch of others needs no batch.
    let is_long = start.elapsed() > Duration::from_micros(30);
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
    singles: Vec<f64>,
}

/// A row of the table, however it is measured.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub at_most: f64,
    /// Its limit takes less than this, in ns, where the CPUs are near to each other; 0: that is not told apart.
    pub near_below: f64,
}

pub fn run(case: &Case, seconds: f64) {
    let bench = Bench::with_slots(case.how, case.work.slots());
    let runtime =
        (case.how == How::Tasks).then(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let row = Row { name: case.name, at_most: case.at_most, near_below: case.near_below() };
    alternate(&row, seconds, &mut || work(&bench, case, runtime.as_ref()), &mut || limit(&bench, case));
}

/// Measures a row and its limit in turns.
pub fn alternate(row: &Row, seconds: f64, work: &mut dyn FnMut() -> Chunk, limit: &mut dyn FnMut() -> f64) {
    let mut found = [Found::default(), Found::default()];
    let mut thrown_away = 0;
    let begin = Instant::now();
    let mut before = limit();
    while begin.elapsed().as_secs_f64() < seconds {
        let measured = work();
        let after = limit();
        let around = (before + after) / 2.0;
        // The tail belongs to everybody's luck; only a moved machine makes a chunk worthless.
        if (before - after).abs() > around * 0.15 {
            thrown_away += 1;
        } else {
            let found = &mut found[usize::from(around >= row.near_below)];
            found.case.push(measured.p50);
            found.limit.push(around);
            found.ratio.push(measured.p50 / around);
            found.singles.extend(measured.singles);
        }
        before = after;
    }
    for (found, place) in found.iter_mut().zip(["near", "far"]) {
        let chunks = found.ratio.len();
        if chunks < 5 {
            continue;
        }
        println!(
            "{{\"bench\":\"ipc\",\"case\":\"{}\",\"placement\":\"{}\",\"p50_ns\":{:.0},\"p99_ns\":{:.0},\"limit_p50_ns\":{:.0},\"ratio\":{:.3},\"at_most\":{},\"chunks\":{chunks},\"thrown_away\":{thrown_away}}}",
            row.name,
            if row.near_below > 0.0 { place } else { "-" },
            quantile(&mut found.case, 0.5),
            quantile(&mut found.singles, 0.99),
            quantile(&mut found.limit, 0.5),
            quantile(&mut found.ratio, 0.5),
            row.at_most,
        );
    }
}

fn limit(bench: &Bench, case: &Case) -> f64 {
    let mut p50 = 0.0;
    bench.limit(case.limit, |ask| {
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
        None => chunk(&mut |rounds| case.work.call(&bench.client, rounds), case.work.calls(), CHUNK),
    }
}
