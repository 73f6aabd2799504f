//! The supervisor can be killed at any moment: calls between modules and requests through the base go on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mortise_tests::{World, as_root, eventually, request_until};
use serde_json::{Value, json};

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

#[test]
fn calls_and_requests_go_on_while_the_supervisor_is_dead_and_after_it_is_back() {
    as_root!();
    let mut world = World::start();
    world.deploy("unruly");
    world.deploy("load");
    world.deploy("legacy");
    let workers: Vec<Value> = ["unruly", "load", "legacy", "base"].map(|it| world.worker(it)["pid"].clone()).into();
    assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));

    for _ in 0..3 {
        let before = report(&world)["answered"].as_u64().expect("a number");
        world.daemon.kill().expect("the supervisor is killed");
        // Without a supervisor: HTTP through the base still works, and the load goes on (seen below).
        for _ in 0..20 {
            let (status, body) = world.get("/guestbook").expect("the ingress answers without a supervisor");
            assert_eq!(status, 200, "{body}");
        }
        world.daemon.succeed().expect("its successor starts");
        let after = report(&world);
        assert!(after["answered"].as_u64().expect("a number") > before, "{after}");
        assert_eq!(after["failed"], 0, "{after}");
        let now: Vec<Value> = ["unruly", "load", "legacy", "base"].map(|it| world.worker(it)["pid"].clone()).into();
        assert_eq!(now, workers, "nothing was started twice");
    }

    // The successor is a whole supervisor: it swaps, stops and cleans up what it has never started.
    world.mortise(&["restart", "unruly"]);
    assert_ne!(world.worker("unruly")["pid"], workers[0]);
    assert_eq!(report(&world)["failed"], 0);
    world.end();
}

#[test]
fn an_exit_that_nobody_saw_is_noticed_by_the_successor() {
    as_root!();
    let mut world = World::start();
    world.deploy("unruly");
    let before = world.worker("unruly");
    world.daemon.kill().expect("the supervisor is killed");
    let pid = i32::try_from(before["pid"].as_i64().expect("its pid")).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .expect("the worker is killed");
    world.daemon.succeed().expect("its successor starts");
    let back = eventually(|| world.call("unruly.echo", &json!({"text": "x"})).is_ok());
    assert!(back, "{}", world.status("unruly"));
    assert_ne!(world.worker("unruly")["worker"], before["worker"]);
    world.end();
}

#[test]
fn requests_under_way_do_not_notice_a_kill() {
    as_root!();
    let mut world = World::start();
    world.deploy_site();
    let stop = AtomicBool::new(false);
    let agent = ureq::Agent::new_with_defaults();
    let url = format!("http://{}/site/check", world.ingress);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut answer = agent.post(&url).send("Teh server").expect("an answer");
                assert_eq!(answer.body_mut().read_to_string().expect("a body"), "Teh: the, eth, tech, teth, tea\n");
                asked += 1;
            }
            asked
        });
        for _ in 0..5 {
            world.daemon.kill().expect("the supervisor is killed");
            world.daemon.succeed().expect("its successor starts");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(asking.join().expect("no request failed") > 10);
    });
    world.end();
}

/// So many kills, unless `MORTISE_KILLS` says how many.
const KILLS: usize = 6;

/// The longest pause between a start and the next kill. The moments in it are random, so that all steps of a hot swap are hit.
const PAUSE_MS: u64 = 400;

#[test]
fn kills_at_random_moments_fail_no_call_and_no_request() {
    as_root!();
    let kills = std::env::var("MORTISE_KILLS").ok().map_or(KILLS, |it| it.parse().expect("MORTISE_KILLS is a number"));
    let mut world = World::start();
    for module in ["unruly", "load", "legacy"] {
        world.deploy(module);
    }
    assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));
    let stop = AtomicBool::new(false);
    let url = format!("http://{}/guestbook", world.ingress);
    let mut chance = chance();
    let mut back = Vec::new();
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| request_until(&stop, &url));
        for kill in 0..kills {
            // Every other time in the middle of a hot swap, which the successor rolls back or forward.
            let swap = (kill % 2 == 1).then(|| {
                let mut restart = world.daemon.mortise(["restart", "unruly"]);
                restart.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mortise runs")
            });
            // Not for synchronisation: any moment is as good, and it shall be another one each time.
            std::thread::sleep(Duration::from_millis(chance(PAUSE_MS)));
            world.daemon.kill().expect("the supervisor is killed");
            let killed = Instant::now();
            let socket = world.daemon.socket();
            let answers = scope.spawn(move || {
                assert!(eventually(|| admin_answers(&socket)), "the admin API does not answer");
                killed.elapsed()
            });
            world.daemon.succeed().unwrap_or_else(|failure| panic!("kill {kill}: {failure}"));
            back.push(answers.join().expect("it answers"));
            if let Some(mut swap) = swap {
                swap.wait().expect("mortise ends");
            }
            let now = report(&world);
            assert_eq!(now["failed"], 0, "kill {kill}: {now}");
        }
        stop.store(true, Ordering::Relaxed);
        asking.join().expect("no request failed")
    });
    back.sort();
    let at = |share: usize| back[(back.len() * share / 100).min(back.len() - 1)].as_millis();
    println!("kills={kills} requests={asked} calls={} p50_ms={} p99_ms={}", report(&world)["answered"], at(50), at(99));
    let alone = || {
        world.status("unruly")["workers"]
            .as_array()
            .is_some_and(|it| it.iter().filter(|it| it["state"] != "stopped").count() == 1)
    };
    assert!(eventually(alone), "nothing is left of a hot swap: {}", world.status("unruly"));
    world.end();
}

/// Whether the admin API answers a request.
fn admin_answers(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let asked = stream.write_all(b"GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = [0; 12];
    asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"HTTP/1.1 200"
}

/// Numbers below a bound, other ones in each run.
fn chance() -> impl FnMut(u64) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    let seed = RandomState::new();
    let mut count = 0_u64;
    move |bound| {
        count += 1;
        seed.hash_one(count) % bound
    }
}
