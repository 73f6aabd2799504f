use mortise_control::{ModuleName, ServiceName, TenantName};

use super::*;
use crate::api::{
    Desired, LimitsStatus, ModuleStatus, PressureStatus, RuntimeKind, ServiceFigures, ServiceStatus, WorkerState,
    WorkerStatus,
};

fn snapshot(figures: ServiceFigures) -> Arc<Snapshot> {
    let worker = WorkerStatus {
        worker: "3.2".into(),
        version: semver::Version::new(1, 2, 0),
        state: WorkerState::Published,
        reason: None,
        pid: Some(4711),
        since: jiff::Timestamp::UNIX_EPOCH,
        restarts: 2,
        oom_kills: 1,
        memory_bytes: 5 << 20,
        cpu_usec: 1_500_000,
        pressure: Some(PressureStatus { memory_usec: 250_000, cpu_usec: 0, io_usec: 0 }),
        pids: 4,
        limits: LimitsStatus { memory_bytes: Some(64 << 20), cpu: Some(0.5), pids: None },
        figures: vec![figures],
        kept: None,
    };
    let module = ModuleStatus {
        tenant: TenantName::new("default").unwrap(),
        module: ModuleName::new("spell").unwrap(),
        runtime: Some(RuntimeKind::Sdk),
        desired: Desired::Running,
        version: Some(semver::Version::new(1, 2, 0)),
        beside: None,
        beside_share: None,
        beside_paused: false,
        beside_shadow: None,
        shadow: None,
        limits: crate::api::ModuleLimits::default(),
        installed: vec![],
        services: vec![ServiceStatus {
            service: ServiceName::new("spell").unwrap(),
            published: true,
            http: None,
            callers: 3,
        }],
        workers: vec![worker],
    };
    let mut snapshot = Snapshot { modules: vec![module.into()], ..Snapshot::default() };
    // No version has such characters; a label value must not be able to break out whatever it is.
    snapshot.host.version = "1\"2\\3\n4".into();
    Arc::new(snapshot)
}

fn figures(latency_log2: Vec<u64>) -> ServiceFigures {
    let service = ServiceName::new("spell").unwrap();
    ServiceFigures { service, calls: 9, errors: 1, latency_log2, latency_sum_ns: 3_000 }
}

#[track_caller]
fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|it| it == line), "no line {line:?} in:\n{text}");
}

#[test]
fn every_figure_of_a_worker_is_there_with_its_labels() {
    let text = render(snapshot(figures(vec![1, 2, 0, 4])), Format::Prometheus).unwrap();
    let worker = r#"tenant="default",module="spell",version="1.2.0",worker="3.2""#;
    for (name, value) in [
        ("mortise_worker_memory_bytes", "5242880.0"),
        ("mortise_worker_memory_limit_bytes", "67108864.0"),
        ("mortise_worker_cpu_seconds_total", "1.5"),
        ("mortise_worker_cpu_limit_cores", "0.5"),
        ("mortise_worker_pids", "4.0"),
        ("mortise_worker_oom_kills_total", "1"),
        ("mortise_worker_restarts_total", "2"),
    ] {
        assert_has(&text, &format!("{name}{{{worker}}} {value}"));
    }
    assert_has(&text, &format!(r#"mortise_worker_waiting_seconds_total{{{worker},for="memory"}} 0.25"#));
    assert!(!text.contains("mortise_worker_pids_limit{"), "an absent limit is absent, not zero");
    assert_has(&text, r#"mortise_module_workers{tenant="default",module="spell",state="published"} 1.0"#);
    assert_has(&text, r#"mortise_module_workers{tenant="default",module="spell",state="failed"} 0.0"#);
    assert_has(&text, &format!(r#"mortise_calls_total{{{worker},service="spell"}} 9"#));
    assert_has(&text, &format!(r#"mortise_call_errors_total{{{worker},service="spell"}} 1"#));
}

#[test]
fn the_histogram_is_cumulative_in_seconds_and_its_last_bucket_is_open() {
    let text = render(snapshot(figures(vec![1, 2, 0, 4])), Format::Prometheus).unwrap();
    let buckets: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|it| it.strip_prefix("mortise_call_duration_seconds_bucket{"))
        .map(|it| {
            let (labels, count) = it.rsplit_once(' ').unwrap();
            (labels.rsplit_once("le=\"").unwrap().1.trim_end_matches("\"}"), count)
        })
        .collect();
    assert_eq!(buckets, [("1.024e-06", "1"), ("2.048e-06", "3"), ("4.096e-06", "3"), ("+Inf", "7")]);
    assert!(text.lines().any(|it| it.starts_with("mortise_call_duration_seconds_count{") && it.ends_with(" 7")));
    assert!(
        text.lines().any(|it| it.starts_with("mortise_call_duration_seconds_sum{") && it.ends_with(" 0.000003")),
        "{text}"
    );
}

#[test]
fn figures_that_lie_do_no_harm() {
    for latency in [vec![], vec![u64::MAX, u64::MAX, 1], vec![u64::MAX; 200]] {
        let mut alleged = figures(latency);
        (alleged.calls, alleged.latency_sum_ns) = (u64::MAX, u64::MAX);
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = render(snapshot(alleged.clone()), format).unwrap();
            assert!(text.contains("mortise_call_duration_seconds_count"), "{text}");
        }
    }
}

#[test]
fn a_label_value_cannot_break_out() {
    let text = render(snapshot(figures(vec![1])), Format::Prometheus).unwrap();
    assert_has(&text, r#"mortise_supervisor_build{version="1\"2\\3\n4"} 1.0"#);
}

/// Each line is a comment or `name{labels} value`, each sample belongs to a family that was declared, none comes twice.
#[test]
fn the_text_is_well_formed() {
    let text = render(snapshot(figures(vec![1, 2, 3])), Format::Prometheus).unwrap();
    let (mut declared, mut samples) = (std::collections::HashMap::new(), std::collections::HashSet::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(declared.insert(name, kind).is_none(), "{name} is declared twice");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(samples.insert(series), "{series} comes twice");
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|it| name.strip_suffix(it))
            .filter(|it| declared.get(it) == Some(&"histogram"));
        assert!(declared.contains_key(family.unwrap_or(name)), "{name} is not declared");
    }
    let open = render(snapshot(figures(vec![1])), Format::OpenMetrics).unwrap();
    assert!(open.ends_with("# EOF\n"));
}
