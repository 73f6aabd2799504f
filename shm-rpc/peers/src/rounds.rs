//! What is measured when, and what is told of it.

use std::time::{Duration, Instant};

use crate::other::{Other, Placement, pin};
use crate::ways::{Caller, Wait, Way};

/// How long a way, and the limit around it, is measured at a time.
const CHUNK: Duration = Duration::from_millis(3);
const LIMIT_CHUNK: Duration = Duration::from_millis(1);
/// The spin limit takes less than this, in ns, where the CPUs are near to each other.
const NEAR_BELOW: f64 = 200.0;
/// Two limits around a chunk that differ by more than this share tell that the machine has moved.
const MOVED: f64 = 0.15;
/// Figures of fewer rounds are not told.
const ROUNDS: usize = 5;

/// A way that is running.
struct Running<'w> {
    way: &'w Way,
    caller: Box<dyn Caller>,
    other: Other,
    found: [Found; 2],
}

/// What was found at one distance: a figure for each round.
#[derive(Default)]
struct Found {
    p50: Vec<f64>,
    limit: Vec<f64>,
    ratio: Vec<f64>,
}

impl Running<'_> {
    /// The median of a chunk of calls, in ns.
    fn measure(&mut self, time: Duration) -> f64 {
        self.other.resume();
        let batch = if self.way.wait == Wait::Spin { 32 } else { 1 };
        self.caller.call(2 * batch);
        let begin = Instant::now();
        let mut batches = Vec::new();
        while begin.elapsed() < time || batches.len() < 10 {
            let start = Instant::now();
            self.caller.call(batch);
            batches.push(start.elapsed().as_nanos() as f64 / batch as f64);
        }
        self.other.pause();
        median(&mut batches)
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures everything in both placements.
pub fn run(ways: &[&Way], time: Duration) {
    pin(0);
    for placement in Placement::ALL {
        // On one core nobody can wait for another by spinning.
        let ways = ways.iter().filter(|it| placement == Placement::TwoCores || it.wait == Wait::Sleep);
        let mut running: Vec<_> = ways
            .map(|way| {
                let (caller, other) = (way.start)(placement);
                let mut running = Running { way, caller, other, found: Default::default() };
                // The first call of some finds its peer.
                running.caller.call(1);
                running.other.pause();
                running
            })
            .collect();
        let begin = Instant::now();
        while begin.elapsed() < time / 2 {
            round(placement, &mut running);
        }
        running.iter_mut().for_each(|it| tell(placement, it));
    }
}

/// Measures each way once.
fn round(placement: Placement, running: &mut [Running<'_>]) {
    let spin = running.iter().position(|it| it.way.name == "limit-spin");
    let mut futex = f64::NAN;
    let around = |running: &mut [Running<'_>]| spin.map(|it| running[it].measure(LIMIT_CHUNK));
    for index in 0..running.len() {
        if spin == Some(index) {
            continue;
        }
        let before = around(running);
        let p50 = running[index].measure(CHUNK);
        let after = around(running);
        let spin_limit = match (before, after) {
            (Some(before), Some(after)) if (before - after).abs() > MOVED * before.min(after) => continue,
            (Some(before), Some(after)) => (before + after) / 2.0,
            (None, _) | (_, None) => f64::NAN,
        };
        let way = running[index].way;
        if way.name == "limit-futex" {
            futex = p50;
        }
        let limit = if way.wait == Wait::Spin { spin_limit } else { futex };
        let is_near = placement == Placement::OneCore || spin_limit < NEAR_BELOW;
        if limit.is_finite() {
            running[index].found[usize::from(!is_near)].add(p50, limit);
        }
        if let Some(spin) = spin.filter(|_| way.wait == Wait::Spin) {
            running[spin].found[usize::from(!is_near)].add(spin_limit, spin_limit);
        }
    }
}

impl Found {
    fn add(&mut self, p50: f64, limit: f64) {
        self.p50.push(p50);
        self.limit.push(limit);
        self.ratio.push(p50 / limit);
    }
}

fn tell(placement: Placement, running: &mut Running<'_>) {
    let Running { way, found, .. } = running;
    for (found, distance) in found.iter_mut().zip(["near", "far"]) {
        let rounds = found.ratio.len();
        if rounds < ROUNDS {
            continue;
        }
        println!(
            "{{\"bench\":\"ipc-peers\",\"case\":\"{}\",\"message\":\"{}\",\"wait\":\"{}\",\"placement\":\"{}\",\"distance\":\"{}\",\"p50_ns\":{:.0},\"limit_p50_ns\":{:.0},\"ratio\":{:.3},\"rounds\":{rounds}}}",
            way.name,
            way.message,
            if way.wait == Wait::Spin { "spin" } else { "sleep" },
            placement.name(),
            if placement == Placement::OneCore { "-" } else { distance },
            median(&mut found.p50),
            median(&mut found.limit),
            median(&mut found.ratio),
        );
    }
}
