//! Two processes, and kill -9 at any moment: the fate of every call is known afterwards, and right.
//!
//! ```text
//! SHM_RPC_KILLS=10000 cargo test -p shm-rpc --test processes -- --nocapture
//! ```

mod callees;
mod callers;
mod log;
mod other;
mod work;

use std::ops::AddAssign;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

use other::Other;

/// Nothing here takes so long unless it hangs.
const FOR_EVER: Duration = Duration::from_secs(60);
/// Kills under way at a time: more than there are processors, so that a kill meets its victim in all states of the scheduler.
const ABREAST: u64 = 4;

/// Not a test of its own: what the other process does, and nothing when nobody has asked for one.
#[test]
fn the_other_process() {
    other::be_the_other_if_asked();
}

struct Random(u64);

impl Random {
    /// Numbers of its own for each round, so that a round can be repeated.
    fn of(round: u64) -> Self {
        Self((round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// How many times each test kills: `SHM_RPC_KILLS`, or `otherwise`.
fn kills(otherwise: u64) -> u64 {
    std::env::var("SHM_RPC_KILLS").map_or(otherwise, |it| it.parse().expect("SHM_RPC_KILLS is a number"))
}

/// Makes `count` rounds, several at a time, and adds up what they give.
fn rounds<T: AddAssign + Default + Send>(count: u64, round: impl Fn(u64) -> T + Sync) -> T {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..ABREAST)
            .map(|_| {
                scope.spawn(|| {
                    let mut sum = T::default();
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= count {
                            return sum;
                        }
                        sum += round(number);
                    }
                })
            })
            .collect();
        let mut sum = T::default();
        lanes.into_iter().for_each(|it| sum += it.join().unwrap());
        sum
    })
}

/// Kills in a while after it was told to. `then` follows.
fn kill_when_told(mut other: Other, told: mpsc::Receiver<()>, spin: u64, then: impl FnOnce()) {
    // The teller has ended: the victim did already.
    let _ = told.recv();
    for _ in 0..spin {
        std::hint::spin_loop();
    }
    other.kill();
    then();
}
