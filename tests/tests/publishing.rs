//! Starting and publishing are two things, and a withdrawn service is not reached.

use mortise_tests::{World, as_root};
use serde_json::json;

#[test]
fn a_started_module_serves_nothing_until_it_is_published_and_nothing_after_it_is_withdrawn() {
    as_root!();
    let world = World::start();
    world.install("unruly");
    world.mortise(&["start", "unruly"]);
    let echo = || world.call("unruly.echo", &json!({"text": "x"}));
    assert!(echo().is_err(), "not published yet");
    let worker = world.worker("unruly")["worker"].clone();
    for _ in 0..3 {
        world.mortise(&["publish", "unruly"]);
        assert_eq!(echo().expect("published")["text"], "x");
        world.mortise(&["unpublish", "unruly"]);
        let error = echo().expect_err("withdrawn");
        assert!(error.contains("no-service") || error.contains("not published"), "{error}");
    }
    assert_eq!(world.worker("unruly")["worker"], worker, "publishing restarts nothing");
    world.end();
}

#[test]
fn an_http_service_is_withdrawn_from_the_ingress() {
    as_root!();
    let world = World::start();
    world.install("legacy");
    world.mortise(&["start", "legacy"]);
    assert_eq!(world.get("/guestbook").expect("an answer").0, 404);
    world.mortise(&["publish", "legacy"]);
    assert_eq!(world.get("/guestbook").expect("an answer").0, 200);
    assert_eq!(world.post("/guestbook", "name=a&text=b").expect("an answer").0, 201);
    world.mortise(&["unpublish", "legacy"]);
    assert_eq!(world.get("/guestbook").expect("an answer").0, 404);
    world.end();
}

#[test]
fn errors_keep_their_kind_all_the_way() {
    as_root!();
    let world = World::start();
    world.deploy("unruly");
    let error = world.call("unruly.refuse", &json!({"why": "because"})).expect_err("refused");
    assert!(error.contains("because"), "the module's own error: {error}");
    let error = world.call("unruly.nothing", &json!({})).expect_err("no such method");
    assert!(error.contains("nothing"), "names the method: {error}");
    let error = world.call("unruly.echo", &json!({"txet": "x"})).expect_err("a misspelled argument");
    assert!(error.contains("text"), "names the argument that is missing: {error}");
    let error = world.call("unrly.echo", &json!({"text": "x"})).expect_err("no such service");
    assert!(error.contains("unrly"), "names the service: {error}");
    world.end();
}

#[test]
fn who_calls_a_withdrawn_service_is_told_so_instead_of_waiting_for_it() {
    as_root!();
    let world = World::start();
    world.deploy_site();
    let check = || world.post("/site/check", "Teh server").expect("an answer");
    assert_eq!(check().0, 200);
    // A call that waited would end by its deadline: 504.
    world.mortise(&["unpublish", "spell"]);
    let (status, body) = check();
    assert_eq!(status, 503, "{body}");
    world.mortise(&["publish", "spell"]);
    assert_eq!(check().0, 200);
    world.mortise(&["stop", "spell"]);
    assert_eq!(check().0, 503);
    world.mortise(&["start", "spell"]);
    assert_eq!(check().0, 200);
    world.end();
}
