//! A request of a few bytes and its answer between two processes: through shm-rpc and through what else there is, beside the least that
//! it could cost, all in one run.
//!
//! ```text
//! cargo xtask bench ipc --peers        (from the root: builds this, draws the table)
//! cargo run --release -- [--seconds N] [--list] [name…]
//! ```
//!
//! Every way has a process of its own, pinned as the placement says and stopped while the others are measured. A round measures each
//! once, for a few milliseconds, between two chunks of the limit of its kind (spinning or sleeping): a virtual machine's host moves the
//! CPUs near to and far from each other, so a chunk whose two limits differ is measured again, and the spinning ones are told apart by
//! them. One JSON object per line; the figures are medians of rounds.
//!
//! ```text
//!   main ── rounds (what is measured when, and what is told) ── other (the processes)
//!             └── ways: ours, iceoryx, servo (ipc-channel), bytes (pipe, socket), grpc (tonic), limit
//! ```

mod bytes;
mod grpc;
mod iceoryx;
mod other;
mod ours;
mod rounds;
mod servo;
mod ways;

#[allow(dead_code, reason = "the limit programs of ipc-bench; not all are used here")]
#[path = "../../examples/ipc-bench/limit.rs"]
mod limit;
#[allow(dead_code, reason = "shared with ipc-bench")]
#[path = "../../examples/ipc-bench/page.rs"]
mod page;
#[allow(dead_code, reason = "shared with ipc-bench")]
#[path = "../../examples/ipc-bench/work.rs"]
mod work;

use std::time::Duration;

use ways::{WAYS, Way};

fn main() {
    if other::serve_if_asked() {
        return;
    }
    let mut time = Duration::from_secs(40);
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let seconds = arguments.next().and_then(|it| it.parse().ok());
                time = Duration::from_secs_f64(seconds.expect("--seconds takes a number"));
            }
            "--list" => return WAYS.iter().for_each(|it| println!("{}", it.name)),
            "--json" => {}
            name if WAYS.iter().any(|it| it.name == name) => wanted.push(name.to_owned()),
            other => {
                eprintln!("nothing here is called {other:?}; --list names everything");
                std::process::exit(2);
            }
        }
    }
    let is_wanted = |way: &&Way| wanted.is_empty() || way.is_limit() || wanted.iter().any(|it| it == way.name);
    rounds::run(&WAYS.iter().filter(is_wanted).collect::<Vec<_>>(), time);
}
