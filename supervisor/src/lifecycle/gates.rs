//! Whether a version is as good as the one that it is to replace: figures in, a judgement out.
//!
//! What workers count of themselves is an allegation, and the kernel's figures are of groups that live and die: whatever goes
//! backwards counts as nothing.

use std::collections::BTreeMap;

use mortise_control::WorkerId;
use mortise_control::stats::BUCKETS;

use crate::api::{Figure, Gate, Most};

/// What one worker has come to since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Calls and requests that it has answered, errors included.
    pub calls: u64,
    /// Those that ended in an error.
    pub errors: u64,
    /// Their latencies: see [`mortise_control::stats::Figures::latency_log2`].
    pub latency_log2: [u64; BUCKETS],
    /// CPU time of its group in microseconds; none: this host does not measure it.
    pub cpu_usec: Option<u64>,
    /// Bytes charged to its group; none: this host does not measure it.
    pub memory_bytes: Option<u64>,
}

/// Readings of a version's workers.
pub(super) type Readings = BTreeMap<WorkerId, Reading>;

/// What a version has come to over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) calls: u64,
    errors: u64,
    latency_log2: [u64; BUCKETS],
    cpu_usec: Option<u64>,
    memory_bytes: Option<u64>,
    restarts: u64,
}

impl Measured {
    /// From `before` to `now`; a worker that was not there before has begun at nothing. Memory is that of now, per worker.
    pub(super) fn between(before: &Readings, now: &Readings, restarts: u64) -> Self {
        let mut sum = Self { restarts, cpu_usec: Some(0), memory_bytes: Some(0), ..Self::default() };
        let nothing = Reading { cpu_usec: Some(0), ..Reading::default() };
        for (worker, now) in now {
            let before = before.get(worker).unwrap_or(&nothing);
            let gained = |now: u64, before: u64| now.saturating_sub(before);
            sum.calls = sum.calls.saturating_add(gained(now.calls, before.calls));
            sum.errors = sum.errors.saturating_add(gained(now.errors, before.errors));
            for (sum, (now, before)) in
                sum.latency_log2.iter_mut().zip(now.latency_log2.iter().zip(&before.latency_log2))
            {
                *sum = sum.saturating_add(gained(*now, *before));
            }
            let cpu = now.cpu_usec.zip(before.cpu_usec).map(|(now, before)| gained(now, before));
            sum.cpu_usec = sum.cpu_usec.zip(cpu).map(|(sum, it)| sum.saturating_add(it));
            sum.memory_bytes = sum.memory_bytes.zip(now.memory_bytes).map(|(sum, it)| sum.saturating_add(it));
        }
        let workers = now.len() as u64;
        sum.memory_bytes = sum.memory_bytes.and_then(|it| it.checked_div(workers));
        sum
    }

    /// In the figure's unit; none: nobody can tell.
    fn figure(&self, figure: Figure) -> Option<u64> {
        let per_call = |amount: u128| u64::try_from(amount.checked_div(self.calls.into())?).ok();
        match figure {
            Figure::ErrorRate => per_call(u128::from(self.errors.min(self.calls)) * 1_000_000),
            Figure::P99 => quantile(&self.latency_log2, 99),
            Figure::Cpu => per_call(u128::from(self.cpu_usec?) * 1_000),
            Figure::Memory => self.memory_bytes,
            Figure::Restarts => Some(self.restarts),
        }
    }
}

/// The latency that so many of 100 are below. Within a bucket, which reaches from a power of two to the next, calls are taken to be spread evenly.
pub(super) fn quantile(buckets: &[u64; BUCKETS], percent: u128) -> Option<u64> {
    let all: u128 = buckets.iter().map(|it| u128::from(*it)).sum();
    let rank = (all * percent).div_ceil(100);
    let mut below = 0;
    for (index, count) in buckets.iter().enumerate() {
        let count = u128::from(*count);
        if count > 0 && below + count >= rank {
            let (from, to) = (if index == 0 { 0 } else { 1_u128 << (index + 9) }, 1_u128 << (index + 10));
            return u64::try_from(from + (to - from) * (rank - below) / count).ok();
        }
        below += count;
    }
    None
}

/// What is judged.
pub(super) struct Case<'a> {
    /// The version that is judged, in words, and what it has come to in this step.
    pub(super) new: (&'a str, &'a Measured),
    /// The version in charge, and what it has come to in the same time, or in its life if that was too little.
    pub(super) old: (&'a str, &'a Measured),
    /// Calls that the new version must have answered.
    pub(super) min_calls: u64,
    /// The step is not over: only what more calls would not mend counts.
    pub(super) early: bool,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Judgement {
    /// Every gate is passed, with these figures.
    Passed(String),
    /// One is not: which figure, measured against which.
    Failed(String),
    /// The new version has not answered enough calls yet.
    Few,
}

/// Judges by these gates, of which each figure has one at most.
pub(super) fn judge(gates: &[Gate], case: &Case<'_>) -> Judgement {
    let mut said = Vec::new();
    let few = case.new.1.calls < case.min_calls;
    let mut waits = false;
    for gate in gates.iter().filter(|it| it.most != Most::Off) {
        let Gate { figure, most } = *gate;
        // Errors do not become fewer by waiting; how long calls take and what they cost is known when there are all of them.
        if case.early && !matches!(figure, Figure::ErrorRate | Figure::Restarts) {
            continue;
        }
        if figure.needs_calls() && few {
            waits = true;
            continue;
        }
        let (new, old) = (case.new.1.figure(figure), case.old.1.figure(figure));
        let Some(amount) = new else {
            // Without calls there is nothing wrong with them; what the host does not measure, it cannot vouch for.
            if figure.needs_calls() && case.new.1.calls == 0 {
                continue;
            }
            return Judgement::Failed(format!("{} of {} is not measured on this host", figure.name(), case.new.0));
        };
        let against = old.map_or_else(|| "nothing".to_owned(), |it| figure.show(it));
        let allowed = match most {
            Most::Off => None,
            Most::Just(most) => Some(most),
            Most::More(more) => Some(old.unwrap_or(0).saturating_add(more)),
            // Without anything to compare with there is no gate.
            Most::Times(times) => old.map(|it| scaled(it, times)),
        };
        if allowed.is_some_and(|it| amount > it) {
            return Judgement::Failed(format!(
                "{} of {} {} against {against} of {}, at most {} allowed",
                figure.name(),
                case.new.0,
                figure.show(amount),
                case.old.0,
                gate.to_string().split_once('=').map_or_else(String::new, |(_, it)| it.to_owned()),
            ));
        }
        said.push(format!("{} {} against {against}", figure.name(), figure.show(amount)));
    }
    if waits { Judgement::Few } else { Judgement::Passed(said.join(", ")) }
}

fn scaled(amount: u64, thousandths: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(thousandths) / 1_000).unwrap_or(u64::MAX)
}

/// The gates that hold: of each figure the last that was said of it.
pub(super) fn in_force<'a>(said: impl IntoIterator<Item = &'a Gate>) -> Vec<Gate> {
    let by_figure: BTreeMap<Figure, Gate> = DEFAULT.iter().chain(said).map(|it| (it.figure, *it)).collect();
    by_figure.into_values().collect()
}

/// What holds unless something else is said: one wrong answer more in a hundred, and no crash.
const DEFAULT: [Gate; 2] = [
    Gate { figure: Figure::ErrorRate, most: Most::More(10_000) },
    Gate { figure: Figure::Restarts, most: Most::Just(0) },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(text: &[&str]) -> Vec<Gate> {
        text.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn reading(calls: u64, errors: u64, bucket: usize) -> Reading {
        let mut latency_log2 = [0; BUCKETS];
        latency_log2[bucket] = calls;
        Reading { calls, errors, latency_log2, cpu_usec: Some(calls * 20), memory_bytes: Some(10 << 20) }
    }

    fn one(reading: Reading) -> Readings {
        BTreeMap::from([(WorkerId { slot: 1, generation: 1 }, reading)])
    }

    fn measured(calls: u64, errors: u64) -> Measured {
        Measured::between(&Readings::new(), &one(reading(calls, errors, 10)), 0)
    }

    fn judged(text: &[&str], new: &Measured, old: &Measured) -> Judgement {
        judge(&gates(text), &Case { new: ("2.1.0", new), old: ("2.0.0", old), min_calls: 100, early: false })
    }

    #[test]
    fn a_failed_gate_says_which_figure_against_which() {
        let found = judged(&["error_rate=+1%"], &measured(1_000, 42), &measured(1_000, 1));
        let said = "error_rate of 2.1.0 4.20 % against 0.10 % of 2.0.0, at most +1% allowed";
        assert_eq!(found, Judgement::Failed(said.to_owned()));
        assert!(matches!(judged(&["error_rate=+1%"], &measured(1_000, 11), &measured(1_000, 1)), Judgement::Passed(_)));
        assert!(matches!(judged(&["error_rate=1%"], &measured(1_000, 11), &measured(1_000, 1)), Judgement::Failed(_)));
    }

    #[test]
    fn too_few_calls_are_no_judgement_and_none_asked_for_are_none_missed() {
        assert_eq!(judged(&["error_rate=+1%"], &measured(99, 99), &measured(1_000, 0)), Judgement::Few);
        let new = measured(0, 0);
        let case = Case { new: ("2", &new), old: ("1", &new), min_calls: 0, early: false };
        assert_eq!(judge(&gates(&["error_rate=0%", "p99=1x"]), &case), Judgement::Passed(String::new()));
        assert!(matches!(judged(&["restarts=0"], &measured(0, 0), &measured(1_000, 0)), Judgement::Passed(_)));
        // A crash is one, however few calls there were.
        let crashed = Measured { restarts: 1, ..measured(3, 0) };
        let found = judged(&["error_rate=+1%", "restarts=0"], &crashed, &measured(1_000, 0));
        assert_eq!(found, Judgement::Failed("restarts of 2.1.0 1 against 0 of 2.0.0, at most 0 allowed".to_owned()));
    }

    #[test]
    fn before_a_step_is_over_only_errors_and_restarts_count() {
        let slow = Measured::between(&Readings::new(), &one(reading(1_000, 0, 20)), 0);
        let old = measured(1_000, 0);
        let case = |early| Case { new: ("2", &slow), old: ("1", &old), min_calls: 100, early };
        assert!(matches!(judge(&gates(&["p99=2x"]), &case(true)), Judgement::Passed(_)));
        assert!(matches!(judge(&gates(&["p99=2x"]), &case(false)), Judgement::Failed(_)));
    }

    #[test]
    fn only_what_was_gained_counts_and_a_worker_that_came_later_counts_whole() {
        let (first, second) = (WorkerId { slot: 1, generation: 1 }, WorkerId { slot: 1, generation: 2 });
        let before = BTreeMap::from([(first, reading(500, 500, 3))]);
        let after = BTreeMap::from([(first, reading(600, 500, 3)), (second, reading(100, 2, 3))]);
        let sum = Measured::between(&before, &after, 1);
        assert_eq!((sum.calls, sum.errors, sum.restarts), (200, 2, 1));
        assert_eq!(sum.figure(Figure::ErrorRate), Some(10_000));
        assert_eq!(sum.figure(Figure::Cpu), Some(20_000));
        assert_eq!(sum.figure(Figure::Memory), Some(10 << 20));
        // An allegation that goes backwards, or is beyond all bounds, panics nowhere.
        let liar =
            one(Reading { calls: u64::MAX, errors: u64::MAX, latency_log2: [u64::MAX; BUCKETS], ..reading(0, 0, 0) });
        let lies = Measured::between(&liar, &before, 0);
        assert_eq!(lies.figure(Figure::ErrorRate), None);
        let lies = Measured::between(&Readings::new(), &liar, u64::MAX);
        assert_eq!(lies.figure(Figure::ErrorRate), Some(1_000_000));
        assert!(lies.figure(Figure::P99).is_some());
    }

    #[test]
    fn the_99th_of_a_hundred_is_found_in_its_bucket() {
        let mut buckets = [0; BUCKETS];
        assert_eq!(quantile(&buckets, 99), None);
        (buckets[0], buckets[5]) = (98, 2);
        // Half-way through 2^14 to 2^15.
        assert_eq!(quantile(&buckets, 99), Some((1 << 14) + (1 << 13)));
        buckets[0] = 9_998;
        assert_eq!(quantile(&buckets, 99), Some(1_024 * 9_900 / 9_998));
    }

    #[test]
    fn what_the_host_does_not_measure_is_not_passed() {
        let mut blind = reading(1_000, 0, 3);
        blind.cpu_usec = None;
        let new = Measured::between(&Readings::new(), &one(blind), 0);
        let found = judged(&["cpu=2x"], &new, &measured(1_000, 0));
        assert_eq!(found, Judgement::Failed("cpu of 2.1.0 is not measured on this host".to_owned()));
    }

    #[test]
    fn what_is_said_last_of_a_figure_holds() {
        let module = gates(&["error_rate=+3%", "p99=2x"]);
        let command = gates(&["p99=off", "restarts=+2"]);
        let found: Vec<String> = in_force(module.iter().chain(&command)).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["error_rate=+3%", "p99=off", "restarts=+2"]);
        assert_eq!(in_force(&[]), DEFAULT);
    }
}
