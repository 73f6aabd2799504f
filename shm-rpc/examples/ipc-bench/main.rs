//! What a call costs, beside the least that it could cost on this machine in the same moment.
//!
//! ```text
//! cargo run --release -p shm-rpc --example ipc-bench -- [--seconds N] [case…]
//! ```
//!
//! Two processes, pinned as the case says. Every few milliseconds of a case are enclosed by two of its limit program, because a
//! virtual machine's host moves the CPUs near to and far from each other; a chunk whose two limits differ is thrown away. One JSON
//! object per line and placement: `core` where both CPUs are threads of one core, `near` where they are not and the limit's word
//! comes back within 200 ns, `far` otherwise.
//!
//! `ratio` is to the limit on pages that both sides may write, the least that this machine can do. `apart_ratio` is to the same
//! limit where each side may only read what the other writes, as on a channel: a line that is polled through a read-only mapping
//! travels more slowly (1.4 times near, 1.25 times far, on the AMD machine where this was found).

mod idle;
mod limit;
mod measure;
mod other;
mod page;
mod stream;
mod work;

use limit::Limit;
use work::Work;

/// How the two sides wait, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Threads that spin for as long as that pays, on two CPUs.
    Spin,
    /// Threads that spin for as long as it takes, on two CPUs.
    SpinOn,
    /// Threads that sleep at once, on two CPUs.
    ParkTwoCores,
    /// Threads on one CPU, with whatever the waiting does there.
    OneCore,
    /// Threads that sleep at once, on one CPU.
    ParkOneCore,
    /// tokio tasks, on two CPUs.
    Tasks,
    /// A thread that serves a thousand idle channels beside the one that is measured; spinning, on two CPUs.
    Many,
}

impl How {
    const ALL: [Self; 7] =
        [Self::Spin, Self::SpinOn, Self::ParkTwoCores, Self::OneCore, Self::ParkOneCore, Self::Tasks, Self::Many];

    fn number(self) -> usize {
        Self::ALL.iter().position(|it| *it == self).unwrap()
    }

    fn callee_cpu(self) -> usize {
        usize::from(!matches!(self, Self::OneCore | Self::ParkOneCore))
    }

    fn parks(self) -> bool {
        matches!(self, Self::ParkTwoCores | Self::ParkOneCore)
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    work: Work,
    how: How,
    limit: Limit,
    /// The ratio that it may have at most.
    at_most: f64,
}

impl Case {
    /// What the limit takes at most, in ns, where the CPUs are two threads of one core: nothing travels there.
    fn core_below(&self) -> f64 {
        match self.limit {
            _ if self.near_below() == 0.0 => 0.0,
            Limit::Spin => 62.0,
            Limit::Window => 7.0,
            Limit::SpinAndCodec | Limit::Bulk | Limit::Futex | Limit::Epoll => 0.0,
        }
    }

    /// What the limit takes at most, in ns, where the CPUs are near to each other.
    fn near_below(&self) -> f64 {
        match self.limit {
            _ if !matches!(self.how, How::Spin | How::SpinOn) => 0.0,
            Limit::Spin => 200.0,
            Limit::SpinAndCodec => 650.0,
            Limit::Bulk => 200_000.0,
            Limit::Window => 40.0,
            Limit::Futex | Limit::Epoll => 0.0,
        }
    }
}

const CASES: [Case; 12] = [
    Case { name: "raw-spin", work: Work::Raw, how: How::Spin, limit: Limit::Spin, at_most: 1.15 },
    Case { name: "call-pod-spin", work: Work::Pod, how: How::Spin, limit: Limit::Spin, at_most: 1.5 },
    Case { name: "call-pod-shared", work: Work::PodShared, how: How::Spin, limit: Limit::Spin, at_most: 1.5 },
    Case { name: "call-serde-spin", work: Work::Serde, how: How::Spin, limit: Limit::SpinAndCodec, at_most: 1.15 },
    Case { name: "park-2core", work: Work::Pod, how: How::ParkTwoCores, limit: Limit::Futex, at_most: 1.1 },
    Case { name: "park-1core", work: Work::Pod, how: How::ParkOneCore, limit: Limit::Futex, at_most: 1.0 },
    Case { name: "park-1core-yield", work: Work::Pod, how: How::OneCore, limit: Limit::Futex, at_most: 1.0 },
    Case { name: "async-park", work: Work::Pod, how: How::Tasks, limit: Limit::Epoll, at_most: 1.2 },
    Case { name: "bulk-1m", work: Work::Bulk, how: How::SpinOn, limit: Limit::Bulk, at_most: 1.05 },
    Case { name: "bulk-1m-adaptive", work: Work::Bulk, how: How::Spin, limit: Limit::Bulk, at_most: 1.05 },
    Case { name: "bulk-1m-untouched", work: Work::BulkUntouched, how: How::Spin, limit: Limit::Spin, at_most: 1.3 },
    Case { name: "pipelined-64", work: Work::Pipelined, how: How::Spin, limit: Limit::Window, at_most: 2.5 },
];

/// A row that is no case: its name, and what measures it for so many seconds.
type Other = (&'static str, fn(&'static str, f64));

const OTHERS: [Other; 2] = [("idle-1000", idle::run), ("stream-64", stream::run)];

fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|it| it.name).chain(OTHERS.iter().map(|it| it.0))
}

fn main() {
    if other::run_if_asked() {
        return;
    }
    let mut seconds = 3.0;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                seconds = arguments.next().and_then(|it| it.parse().ok()).expect("--seconds takes a number");
            }
            "--json" => {}
            name if names().any(|it| it == name) => wanted.push(name.to_string()),
            other => {
                let names: Vec<_> = names().collect();
                eprintln!("no case {other:?}; there are {}", names.join(", "));
                std::process::exit(2);
            }
        }
    }
    let is_wanted = |name| wanted.is_empty() || wanted.iter().any(|it| it == name);
    for case in CASES.iter().filter(|it| is_wanted(it.name)) {
        measure::run(case, seconds);
    }
    for (name, run) in OTHERS.iter().filter(|it| is_wanted(it.0)) {
        run(name, seconds);
    }
}
