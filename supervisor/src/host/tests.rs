use super::*;
use crate::cgroup::{Groups, Layout};

fn finding(promise: Promise, kept: bool) -> Finding {
    let (why, remedy) = if kept { ("it is there", "") } else { ("it is not there", "build it in") };
    Finding { promise, kept, why: why.into(), remedy: remedy.into() }
}

#[test]
fn a_required_promise_that_is_not_kept_is_refused_unless_it_is_named() {
    let findings = Promise::ALL.map(|it| finding(it, it != Promise::Seccomp && it != Promise::IoWeight));
    let report = Report { findings: findings.into() };
    let refused = report.decide(&Promises::new()).unwrap_err();
    assert_eq!(refused.to_string(), "this host does not keep: seccomp (it is not there; remedy: build it in)");
    let enforced = report.decide(&[Promise::Seccomp].into()).unwrap();
    assert!(enforced.keeps(Promise::Landlock));
    assert!(!enforced.keeps(Promise::Seccomp) && !enforced.keeps(Promise::IoWeight));
}

#[test]
fn every_promise_has_a_name_that_is_read_back() {
    for promise in Promise::ALL {
        assert_eq!(promise.name().parse(), Ok(promise));
    }
    let mut names = Promise::ALL.map(Promise::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Promise::ALL.len());
    assert!("memory".parse::<Promise>().unwrap_err().to_string().contains("memory-limit"));
}

#[test]
fn looking_leaves_no_group_and_finds_what_root_can_do() {
    let report = examine();
    let names: Vec<_> = report.findings.iter().map(|it| it.promise).collect();
    assert_eq!(names, Promise::ALL);
    assert!(report.findings.iter().all(|it| it.kept == it.remedy.is_empty() && !it.why.is_empty()));
    let groups = Groups::open_to_look(Layout::detect().unwrap()).unwrap();
    assert!(groups.names().is_empty());
    groups.close().unwrap();
    assert!(!groups.has_parent(), "closing removes them");
    if !nix::unistd::geteuid().is_root() {
        println!("skipped in part: what root can do needs root");
        return;
    }
    report.decide(&Promises::new()).unwrap();
}
