//! What is measured when, and what is told of it.

use std::time::{Duration, Instant};

use crate::other::{Other, Placement, pin};
use crate::ways::{Caller, Wait, Way};

/// How long a way, and the limit around it, is measured at a time.
const CHUNK: Duration = Duration::from_millis(3);
const LIMIT_CHUNK: Duration = Duration::from_millis(1);
/// The spin limit takes less than this, in ns, where the CPUs are near to each other.
const NEAR_BELOW: f64 = 200.0;
/// Two limits around a chunk that differ by more than this share tell that the machine has moved: the chunk is measured again,
const MOVED: f64 = 0.25;
/// up to so many times in a round.
const ATTEMPTS: usize = 5;
/// With fewer rounds at either distance the two are told as one.
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

/// Measures each way once, between two chunks of the limit of its own kind.
fn round(placement: Placement, running: &mut [Running<'_>]) {
    for index in 0..running.len() {
        let way = running[index].way;
        let limit = running.iter().position(|it| it.way.is_limit() && it.way.wait == way.wait);
        let Some(limit) = limit.filter(|it| *it != index) else { continue };
        for _ in 0..ATTEMPTS {
            let before = running[limit].measure(LIMIT_CHUNK);
            let p50 = running[index].measure(CHUNK);
            let after = running[limit].measure(LIMIT_CHUNK);
            if (before - after).abs() <= MOVED * before.min(after) {
                let around = (before + after) / 2.0;
                let is_far = is_told_apart(placement, way) && around >= NEAR_BELOW;
                running[index].found[usize::from(is_far)].add(p50, around);
                running[limit].found[usize::from(is_far)].add(around, around);
                break;
            }
        }
    }
}

/// Whether it matters how far the CPUs are from each other. Beside a wake through the kernel it does not.
fn is_told_apart(placement: Placement, way: &Way) -> bool {
    placement == Placement::TwoCores && way.wait == Wait::Spin
}

impl Found {
    fn add(&mut self, p50: f64, limit: f64) {
        self.p50.push(p50);
        self.limit.push(limit);
        self.ratio.push(p50 / limit);
    }

    fn append(&mut self, other: &mut Self) {
        self.p50.append(&mut other.p50);
        self.limit.append(&mut other.limit);
        self.ratio.append(&mut other.ratio);
    }
}

fn tell(placement: Placement, running: &mut Running<'_>) {
    let Running { way, found: [near, far], .. } = running;
    if !is_told_apart(placement, way) {
        return tell_one(placement, way, near, "-");
    }
    if near.ratio.len() < ROUNDS && far.ratio.len() < ROUNDS {
        near.append(far);
        return tell_one(placement, way, near, "mixed");
    }
    for (found, distance) in [(near, "near"), (far, "far")] {
        if found.ratio.len() >= ROUNDS {
            tell_one(placement, way, found, distance);
        }
    }
}

fn tell_one(placement: Placement, way: &Way, found: &mut Found, distance: &str) {
    let rounds = found.ratio.len();
    if rounds == 0 {
        eprintln!("{} ({}): the machine moved in every round", way.name, placement.name());
        return;
    }
    println!(
        "{{\"bench\":\"ipc-peers\",\"case\":\"{}\",\"message\":\"{}\",\"wait\":\"{}\",\"placement\":\"{}\",\"distance\":\"{distance}\",\"p50_ns\":{:.0},\"limit_p50_ns\":{:.0},\"ratio\":{:.3},\"rounds\":{rounds}}}",
        way.name,
        way.message,
        if way.wait == Wait::Spin { "spin" } else { "sleep" },
        placement.name(),
        median(&mut found.p50),
        median(&mut found.limit),
        median(&mut found.ratio),
    );
}
