//! Workers killed at random under a constant load.

use std::time::Duration;

use xtask::Failure;
use xtask::artifacts::Artifacts;
use xtask::kills::{kill_one_of, some_time};
use xtask::ledger::Seen;

use super::row::Row;
use super::world::World;

/// The time from one kill to the next is any up to this.
const APART_MOST: Duration = Duration::from_millis(40);

/// As many workers as `mortise scale` is told: some answer while others come back.
const INSTANCES: &str = "3";

/// How long it may be that no worker is there.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn row(artifacts: &Artifacts, kills: usize) -> Result<Row, Failure> {
    let world = World::start(artifacts)?;
    world.ask(&["scale", "recorder", INSTANCES])?;
    let load = world.load()?;
    let mut done = 0;
    let mut missing = Duration::ZERO;
    while done < kills {
        let pause = some_time(APART_MOST);
        std::thread::sleep(pause);
        if kill_one_of(world.daemon.pid(), "recorder")? {
            done += 1;
            missing = Duration::ZERO;
        } else {
            missing += pause;
            if missing > PATIENCE {
                return Err(format!("after {done} kills no worker has come back for {PATIENCE:?}").into());
            }
        }
    }
    let account = world.account(Some(load))?;
    let audit = account.audit(|_| true);
    let took = account.seen.iter().filter(|it| it.outcome.is_ok()).map(Seen::took).collect();
    Ok(Row::new("worker-kills").times(took).fates(&audit).with("count", audit.count).with("kills", kills))
}
