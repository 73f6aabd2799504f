//! A base of one's own: its service is called by a module, its page is answered, and the ingress goes on as with the stock one.

use mortise_tests::{World, as_root};
use serde_json::json;

#[test]
fn a_module_calls_the_service_of_a_custom_base() {
    as_root!();
    let world = World::start_on("custom-base");
    world.deploy("visits");
    // The bucket of a client holds three; the module asks the base's limiter before it counts.
    for (number, left) in [(1, 2), (2, 1), (3, 0)] {
        let answer = world.get("/visits").expect("an answer");
        assert_eq!(answer, (200, format!("visit {number}; {left} more at once\n")));
    }
    let (status, text) = world.get("/visits").expect("an answer");
    assert_eq!(status, 429, "{text}");
    assert!(text.starts_with("too often; again in "), "{text}");
    assert_eq!(world.get("/limits").expect("an answer"), (200, "1 buckets are not full\n".to_owned()));
    world.end();
}

#[test]
fn an_operator_calls_the_base_itself() {
    as_root!();
    let world = World::start_on("custom-base");
    let take = || world.call("limiter.take", &json!({"key": "mine", "rate": {"burst": 2, "per_second": 0.001}}));
    assert_eq!(take(), Ok(json!({"Yes": {"left": 1}})));
    assert_eq!(take(), Ok(json!({"Yes": {"left": 0}})));
    world.mortise(&["unpublish", "base"]);
    let error = take().expect_err("withdrawn");
    assert!(error.contains("nobody answers limiter"), "{error}");
    world.mortise(&["publish", "base"]);
    assert!(take().expect("published again")["No"].is_object());
    world.end();
}
