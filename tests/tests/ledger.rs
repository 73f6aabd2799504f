//! What a ledger of calls shows: no call that was answered is lost and none is executed twice, whatever becomes of the workers.

use std::time::Duration;

use mortise_tests::{World, as_root, eventually};
use xtask::kills::{kill_one_of, some_time};
use xtask::ledger::{Account, Ledger};
use xtask::requests::{Rates, Requests};

/// The patience of `callers`, too: on a busy machine a call may take its time.
const RATES: Rates =
    Rates { closed: 2, pause: Duration::from_millis(5), open_per_second: 50, patience: Duration::from_secs(30) };

const LOADS: [&str; 4] = ["typed-closed", "typed-open", "http-closed", "http-open"];

/// Under a load of calls and requests, in closed loops and in open ones, does `what`; what was written down meanwhile.
fn under_load(what: impl FnOnce(&World, &Requests)) -> Account {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::lay(folder.path()).expect("a ledger");
    let world = World::start();
    world.deploy("recorder");
    world.install_as("recorder", "2.0.0");
    world.install("callers");
    world.mortise(&["start", "callers"]);
    let requests = Requests::begin(world.ingress, RATES);
    what(&world, &requests);
    let asked = requests.end().expect("requests");
    world.mortise(&["stop", "callers"]);
    let mut account = ledger.close().expect("a whole ledger");
    account.seen.extend(asked);
    world.end();
    account
}

#[test]
fn swaps_under_load_fail_no_call_and_execute_none_twice() {
    as_root!();
    let account = under_load(|world, requests| {
        for round in 0..20 {
            world.mortise(&["swap", if round % 2 == 0 { "recorder@2.0.0" } else { "recorder@1.0.0" }]);
            // Each version has its time, also where a swap takes none: so many take the closed loops a tenth of a second.
            let enough = requests.ended() + 40;
            assert!(eventually(|| requests.ended() >= enough), "requests go on");
        }
    });
    for load in LOADS {
        let audit = account.audit(|it| it.load == load);
        assert!(audit.count >= 20, "{load}: {audit:?}");
        assert_eq!((audit.failed, audit.lost, audit.duplicated), (0, 0, 0), "{load}: {audit:?}");
        for version in ["1.0.0", "2.0.0"] {
            let answered = account.seen.iter().any(|it| it.load == load && it.outcome.as_deref() == Ok(version));
            assert!(answered, "{load}: no answer of {version}");
        }
    }
}

#[test]
fn workers_killed_at_random_lose_no_call_that_was_answered_and_execute_none_twice() {
    as_root!();
    let account = under_load(|world, _| {
        world.mortise(&["scale", "recorder", "3"]);
        for _ in 0..60 {
            assert!(
                eventually(|| kill_one_of(world.daemon.pid(), "recorder").expect("a kill")),
                "no worker comes back"
            );
            // How long they are left alone is random as well as who is next: each moment of a worker's life is hit at some time.
            std::thread::sleep(some_time(Duration::from_millis(60)));
        }
        let serves = |it: &serde_json::Value| it["state"] == "published";
        let all = || {
            world.status("recorder")["workers"]
                .as_array()
                .is_some_and(|it| it.iter().filter(|it| serves(it)).count() == 3)
        };
        assert!(eventually(all), "not all come back: {}", world.status("recorder"));
    });
    for load in LOADS {
        let audit = account.audit(|it| it.load == load);
        assert!(audit.count > audit.failed, "{load}: nobody was answered: {audit:?}");
        assert_eq!((audit.lost, audit.duplicated), (0, 0), "{load}: {audit:?}");
    }
}
