//! The way of a module without faults.

use mortise_control::Offer;

use super::host::Host;
use super::platform::{platform, running_platform};
use super::world::*;
use crate::api::{Desired, ErrorCode, OperationState, Request, WorkerState};
use crate::lifecycle::ExitStatus;

#[test]
fn a_platform_starts_is_published_and_reaches_itself() {
    let host = running_platform();
    let (site, spell) = (host.worker("site"), host.worker("spell"));
    assert!(host.reaches(site, "spell", spell));
    assert!(host.reaches(host.worker("base"), "spell", spell));
    assert!(host.http_reaches(site));
    let snapshot = host.state.snapshot();
    let states: Vec<WorkerState> = snapshot.modules.iter().flat_map(|it| &it.workers).map(|it| it.state).collect();
    assert_eq!(states, [WorkerState::Ready, WorkerState::Published, WorkerState::Published]);
    assert_eq!(snapshot.resources[0].mapped_by, [spell.to_string()]);
}

#[test]
fn whoever_waits_for_the_ingress_is_told_when_a_base_has_taken_its_routes() {
    let mut host = running_platform();
    assert!(!host.state.snapshot().ingress_behind);
    host.exit(host.worker("site"), ExitStatus::Signal(11));
    let mut behind_when_ready = false;
    while host.deliver() || host.tick() {
        let shown = host.state.snapshot();
        let site = shown.modules.iter().find(|it| it.module == name("site")).unwrap();
        let is_ready = site.workers.iter().any(|it| it.state == WorkerState::Published);
        let reached = host.processes.keys().any(|it| host.http_reaches(*it));
        assert!(reached || !is_ready || shown.ingress_behind, "it looks reached and is not");
        behind_when_ready |= is_ready && shown.ingress_behind;
    }
    assert!(host.http_reaches(host.worker("site")) && !host.state.snapshot().ingress_behind);
    assert!(behind_when_ready, "there is a moment when it is ready and the base does not know it");
}

#[test]
fn callers_are_told_what_they_can_expect_of_a_service() {
    let mut host = Host::new();
    let site = module("site", 1).calling("spell").calling("form").calling("mine").serving("mine");
    host.install(site.package());
    host.install(module("spell", 1).serving("spell").offering("form", "/form").package());
    host.done(start("site"));
    let offered = |host: &Host, text: &str| {
        let routes = &host.processes[&host.worker("site")].routes;
        routes.iter().find(|it| it.service == service(text)).map(|it| it.offer)
    };
    assert_eq!(offered(&host, "spell"), Some(Offer::Nobody));
    host.done(publish("spell"));
    assert_eq!(offered(&host, "spell"), Some(Offer::Nobody), "published, but not to run");
    host.done(start("spell"));
    assert_eq!(offered(&host, "spell"), Some(Offer::Published));
    assert_eq!(offered(&host, "form"), Some(Offer::Nobody), "reached by HTTP, never by a call");
    let spell = host.worker("spell");
    host.exit(spell, ExitStatus::Code(1));
    host.deliver_all();
    assert_eq!(offered(&host, "spell"), Some(Offer::Published), "it comes back by itself");
    host.quiesce();
    host.done(unpublish("spell"));
    assert_eq!(offered(&host, "spell"), Some(Offer::Nobody));
    host.done(publish("spell"));
    assert_eq!(offered(&host, "spell"), Some(Offer::Published));
    host.done(stop("spell"));
    assert_eq!(offered(&host, "spell"), Some(Offer::Nobody), "an operator has stopped it");
    assert_eq!(offered(&host, "mine"), Some(Offer::Nobody));
    host.done(publish("site"));
    assert_eq!(offered(&host, "mine"), Some(Offer::Own));
}

#[test]
fn a_module_starts_while_the_services_it_requires_are_missing() {
    let mut host = platform();
    host.done(start("site"));
    assert_eq!(host.ready("site").len(), 1);
}

#[test]
fn a_module_that_maps_a_resource_starts_only_with_it() {
    let mut host = platform();
    let refused = host.ask(start("spell")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("words"), "{refused:?}");
    assert!(refused.remedy.is_some());
}

#[test]
fn a_stop_drains_and_gives_a_receipt() {
    let mut host = running_platform();
    let stopped = host.done(stop("spell"));
    let receipt = stopped.receipt.unwrap();
    assert_eq!((receipt.workers, receipt.processes_left, receipt.cgroups_removed), (1, 0, 1));
    assert!(receipt.still_held.is_empty(), "{receipt:?}");
    let steps: Vec<&str> = stopped.steps.iter().map(|it| it.step.as_str()).collect();
    assert_eq!(steps, ["accept", "drain", "clean-up"]);
    assert!(host.ready("spell").is_empty());
    let spell = host.state.snapshot().modules.into_iter().find(|it| it.module.as_str() == "spell").unwrap();
    assert_eq!(spell.desired, Desired::Installed);
    assert!(spell.services[0].published, "publishing is apart from running");
    host.done(start("spell"));
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn the_same_operation_id_gives_the_same_answer() {
    let mut host = platform();
    let first = host.submit("mine", start("site"));
    let second = host.submit("mine", start("site"));
    let other = host.submit("mine", stop("site"));
    host.deliver_all();
    let answer = |host: &mut Host, ticket| host.answers.remove(&ticket).unwrap();
    assert_eq!(answer(&mut host, first).unwrap().id, answer(&mut host, second).unwrap().id);
    assert_eq!(answer(&mut host, other).unwrap_err().code, ErrorCode::Conflict);
    let late = host.submit("mine", start("site"));
    assert_eq!(answer(&mut host, late).unwrap().state, OperationState::Done);
    assert_eq!(host.ready("site").len(), 1);
}

#[test]
fn an_operation_has_its_module_to_itself() {
    let mut host = platform();
    let first = host.submit("first", start("site"));
    let second = host.submit("second", stop("site"));
    host.deliver_all();
    assert!(host.answers.remove(&first).unwrap().is_ok());
    let refused = host.answers.remove(&second).unwrap().unwrap_err();
    assert!(refused.message.contains("first") && refused.message.contains("start"), "{refused:?}");
}

#[test]
fn unpublish_is_done_when_no_call_can_arrive() {
    let mut host = running_platform();
    host.done(unpublish("spell"));
    host.done(unpublish("site"));
    assert!(host.processes[&host.worker("spell")].channels.is_empty());
    assert!(!host.http_reaches(host.worker("site")));
    host.done(publish("spell"));
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")));
}

#[test]
fn uninstall_removes_the_package_with_its_last_reference() {
    let mut host = running_platform();
    assert_eq!(host.ask(uninstall("spell", None)).unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(host.ask(stop("words")).unwrap_err().code, ErrorCode::Conflict, "its resource is in use");
    host.done(stop("spell"));
    let gone = host.done(uninstall("spell", None));
    assert_eq!(gone.receipt.unwrap().disk_bytes, 1234);
    assert_eq!(host.ask(start("spell")).unwrap_err().code, ErrorCode::NotFound);
    host.done(stop("words"));
    assert!(host.loaded.is_empty());
    assert!(host.disk.modules.iter().all(|it| it.key.module.as_str() != "spell"));
}

#[test]
fn installing_the_same_package_twice_changes_nothing_and_other_content_is_refused() {
    let mut host = platform();
    let before = host.disk.versions.clone();
    host.install(module("site", 1).offering("site", "/").calling("spell").package());
    assert_eq!(host.disk.versions, before);
    let mut other = module("site", 1).package();
    other.digest = "other".to_owned();
    host.packages.insert("other".to_owned(), other);
    let refused = host.ask(Request::Install { tenant: tenant(), digest: "other".to_owned() }).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
}

#[test]
fn a_service_and_a_route_have_one_owner() {
    let mut host = running_platform();
    host.install(module("rival", 1).serving("spell").offering("home", "/").package());
    host.done(start("rival"));
    let refused = host.ask(publish("rival")).unwrap_err();
    assert!(refused.message.contains("default/spell"), "{refused:?}");
    let home = Request::Publish { tenant: tenant(), module: name("rival"), service: Some(service("home")) };
    assert!(host.ask(home).unwrap_err().message.contains("default/site"));
}

#[test]
fn a_swap_flips_after_its_commit_and_then_drains_the_old() {
    let mut host = running_platform();
    host.install(module("spell", 2).serving("spell").mapping("words").package());
    let (old, site) = (host.worker("spell"), host.worker("site"));
    let swapped = host.done(swap("spell", 2));
    let steps: Vec<&str> = swapped.steps.iter().map(|it| it.step.as_str()).collect();
    assert_eq!(steps, ["accept", "start", "ready", "commit", "flip", "drain", "clean-up"]);
    let new = host.worker("spell");
    assert_ne!(old, new);
    assert!(host.reaches(site, "spell", new));
    assert_eq!(swapped.receipt.unwrap().workers, 1);
    host.done(restart("site"));
    assert!(host.http_reaches(host.worker("site")) && !host.http_reaches(site));
}

#[test]
fn everything_stops_callers_first() {
    let mut host = running_platform();
    host.event(crate::lifecycle::Event::StopAll);
    host.stopping = true;
    host.deliver_all();
    assert!(host.all_stopped);
    assert!(host.processes.is_empty() && host.groups.is_empty() && host.loaded.is_empty() && host.made.is_empty());
    let terminated: Vec<&String> = host.log.iter().filter(|it| it.contains("Terminate")).collect();
    assert_eq!(terminated.len(), 3);
    let spell = host.disk.workers.iter().find(|it| terminated[2].contains(&format!("{:?}", it.worker))).unwrap();
    assert!(spell.occupant.is_none());
    host.stopping = false;
    host.all_stopped = false;
    host.restart_supervisor();
    host.quiesce();
    assert!(host.reaches(host.worker("site"), "spell", host.worker("spell")), "the desired state was kept");
}
