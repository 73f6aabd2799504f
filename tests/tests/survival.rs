//! The supervisor can be killed at any moment: calls between modules and requests through the base go on.

use std::sync::atomic::{AtomicBool, Ordering};

use mortise_tests::{World, as_root, eventually};
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
