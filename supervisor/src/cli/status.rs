//! `mortise status`: everything about a module, or about the supervisor.

use std::fmt::Write as _;

use jiff::Timestamp;
use mortise_control::ModuleName;
use semver::Version;

use super::fault::Done;
use super::screen::{Screen, visible};
use super::session::Session;
use super::{limits, units};
use crate::api::{
    Desired, ModuleStatus, PressureStatus, ServiceFigures, ServiceStatus, Snapshot, WorkerState, WorkerStatus,
};

/// `mortise status`.
pub async fn status(session: &Session, module: Option<&ModuleName>) -> Done {
    let screen = session.screen;
    match module {
        Some(module) => {
            let path = format!("/v1/modules/{}/{module}", session.tenant);
            let status: ModuleStatus = session.client.get(&path).await?;
            if screen.json { screen.json(&status) } else { screen.print(&one(screen, &status, Timestamp::now())) }
        }
        None => {
            let snapshot: Snapshot = session.client.get("/v1/snapshot").await?;
            if screen.json { screen.json(&snapshot) } else { screen.print(&all(screen, &snapshot, Timestamp::now())) }
        }
    }
}

fn wanted(module: &ModuleStatus) -> String {
    let version = module.version.as_ref().map_or_else(String::new, |it| format!(" {it}"));
    match module.desired {
        Desired::Running => format!("running{version}"),
        Desired::Installed => "on disk only".to_owned(),
    }
}

fn one(screen: Screen, module: &ModuleStatus, now: Timestamp) -> String {
    let paint = screen.paint;
    let mut text = format!("{}  of tenant {}\n", paint.head(module.module.as_str()), module.tenant);
    let _ = writeln!(text, "wanted     {}", wanted(module));
    if let Some(version) = &module.beside {
        let paused = if module.beside_paused { paint.warn(": its swap is paused") } else { String::new() };
        let share = module.beside_share.unwrap_or(0);
        let _ = writeln!(text, "beside     {version}  gets {share} % of what no route decides{paused}");
        if let Some(percent) = module.beside_shadow {
            let _ = writeln!(text, "shadow     {percent} % of the calls of idempotent methods go to {version} as well");
        }
    }
    if !module.limits.is_empty() {
        let _ = writeln!(text, "limits     {}  instead of module.toml", limits::said(&module.limits));
    }
    for it in &module.installed {
        let digest = it.digest.get(..16).unwrap_or(&it.digest);
        let _ = writeln!(text, "installed  {}  {} ago  sha256 {digest}…", it.version, units::since(it.installed, now));
    }
    for it in &module.services {
        let _ = writeln!(text, "service    {}", service(screen, it));
    }
    for it in &module.workers {
        let _ = writeln!(text, "worker     {}", worker(screen, it, now));
        for figures in &it.figures {
            let _ = writeln!(text, "           {}", calls(figures));
        }
    }
    text
}

fn service(screen: Screen, it: &ServiceStatus) -> String {
    let published = if it.published { screen.paint.good("published") } else { screen.paint.dim("not published") };
    let http = it.http.as_ref().map_or_else(String::new, |it| format!("  at {}", visible(it)));
    format!("{}  {published}{http}  {} callers", it.service, it.callers)
}

fn worker(screen: Screen, it: &WorkerStatus, now: Timestamp) -> String {
    let mut text = format!(
        "{}  {}  {} since {}  memory {}  cpu {}  pids {}  restarts {}",
        it.worker,
        it.version,
        screen.paint.state(it.state),
        units::since(it.since, now),
        units::of(units::bytes(it.memory_bytes), it.limits.memory_bytes.map(units::bytes)),
        units::of(units::cpu(it.cpu_usec), it.limits.cpu.map(|it| format!("{it} cores"))),
        units::of(it.pids.to_string(), it.limits.pids.map(|it| it.to_string())),
        it.restarts,
    );
    if let Some(kept) = &it.kept {
        let left = units::since(now, kept.until);
        let maps: Vec<&str> = kept.maps.iter().map(|it| it.as_str()).collect();
        let maps = if maps.is_empty() { String::new() } else { format!(", maps {}", maps.join(", ")) };
        let _ = write!(text, "  kept for a rollback for {left} more{maps}");
    }
    if let Some(pid) = it.pid {
        let _ = write!(text, "  pid {pid}");
    }
    if let Some(PressureStatus { memory_usec, cpu_usec, io_usec }) = it.pressure {
        let waits = [("memory", memory_usec), ("cpu", cpu_usec), ("io", io_usec)];
        let waits: Vec<String> = waits
            .iter()
            .filter(|it| it.1 >= 100_000)
            .map(|(what, usec)| format!("{what} {}", units::cpu(*usec)))
            .collect();
        if !waits.is_empty() {
            let _ = write!(text, "  waited for {}", waits.join(", "));
        }
    }
    if it.oom_kills > 0 {
        let _ = write!(text, "  {}", screen.paint.bad(&format!("killed for memory {} times", it.oom_kills)));
    }
    if let Some(reason) = &it.reason {
        let _ = write!(text, "\n           {}", screen.paint.warn(&visible(reason)));
    }
    text
}

fn calls(it: &ServiceFigures) -> String {
    let latency =
        |share| percentile(&it.latency_log2, share).map_or("-".to_owned(), |ns| format!("<{}", units::latency(ns)));
    format!(
        "{}: {} calls, {} errors, half of them {}, 99 % {}",
        it.service,
        it.calls,
        it.errors,
        latency(0.5),
        latency(0.99)
    )
}

/// The upper bound of the bucket in which that share of all calls has ended, in nanoseconds.
pub fn percentile(latency_log2: &[u64], share: f64) -> Option<u64> {
    let all: u128 = latency_log2.iter().map(|it| u128::from(*it)).sum();
    if all == 0 {
        return None;
    }
    let wanted = (all as f64 * share).ceil();
    let mut through = 0_u128;
    for (i, count) in latency_log2.iter().enumerate() {
        through += u128::from(*count);
        if through as f64 >= wanted {
            return 1_u64.checked_shl(u32::try_from(i).ok()? + 10);
        }
    }
    None
}

fn all(screen: Screen, snapshot: &Snapshot, now: Timestamp) -> String {
    let paint = screen.paint;
    let host = &snapshot.host;
    let mut text = format!("{} {}  pid {}", paint.head("mortised"), visible(&host.version), host.pid);
    if let Some(started) = host.started {
        let _ = write!(text, "  up {}", units::since(started, now));
    }
    text.push('\n');
    for it in &host.ingress {
        let _ = writeln!(text, "ingress    {}", visible(it));
    }
    for it in &host.degraded {
        let _ = writeln!(text, "{}   {}", paint.warn("not kept"), visible(it));
    }
    for it in &snapshot.modules {
        let _ = writeln!(text, "module     {}", summary(screen, it));
    }
    for it in &snapshot.resources {
        let _ = writeln!(
            text,
            "resource   {} of {}@{}  {}  charged {}  mapped by {}",
            it.resource,
            it.module,
            it.version,
            units::bytes(it.bytes),
            units::bytes(it.charged_bytes),
            it.mapped_by.len()
        );
    }
    text
}

fn summary(screen: Screen, module: &ModuleStatus) -> String {
    let mut text = format!("{}  wanted {}", module.module, wanted(module));
    let newest = module.installed.first().map(|it| &it.version);
    if newest != module.version.as_ref() {
        let _ = write!(text, "  newest {}", newest.map_or("-".to_owned(), Version::to_string));
    }
    if let Some(version) = &module.beside {
        let _ = write!(text, "  beside {version} at {} %", module.beside_share.unwrap_or(0));
        if module.beside_paused {
            let _ = write!(text, " {}", screen.paint.warn("paused"));
        }
    }
    for it in module.workers.iter().filter(|it| it.state != WorkerState::Stopped) {
        let _ = write!(text, "  {} {}", it.worker, screen.paint.state(it.state));
    }
    let published: Vec<_> = module.services.iter().filter(|it| it.published).map(|it| it.service.as_str()).collect();
    if !published.is_empty() {
        let _ = write!(text, "  publishes {}", published.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Paint;

    #[test]
    fn a_version_beside_is_shown_with_its_share_and_whether_it_is_paused() {
        let module = |paused: bool| -> ModuleStatus {
            let value = json!({"tenant": "default", "module": "spell", "desired": "running", "version": "2.0.0",
                "beside": "2.1.0", "beside_share": 25, "beside_paused": paused, "installed": [], "services": [], "workers": []});
            serde_json::from_value(value).unwrap()
        };
        let screen = Screen { json: false, paint: Paint::PLAIN, terminal: false };
        let line = |paused| one(screen, &module(paused), Timestamp::UNIX_EPOCH).lines().nth(2).unwrap().to_owned();
        assert_eq!(line(false), "beside     2.1.0  gets 25 % of what no route decides");
        assert_eq!(line(true), "beside     2.1.0  gets 25 % of what no route decides: its swap is paused");
        assert!(summary(screen, &module(true)).contains("  beside 2.1.0 at 25 % paused"));
        assert!(summary(screen, &module(false)).ends_with("  beside 2.1.0 at 25 %"));
    }

    #[test]
    fn a_percentile_is_the_bound_of_its_bucket() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[0, 0], 0.5), None);
        assert_eq!(percentile(&[99, 0, 1], 0.5), Some(1 << 10));
        assert_eq!(percentile(&[99, 0, 1], 0.99), Some(1 << 10));
        assert_eq!(percentile(&[98, 0, 2], 0.99), Some(1 << 12));
        assert_eq!(percentile(&[u64::MAX, u64::MAX], 1.0), Some(1 << 11), "sums of lies do not overflow");
        assert_eq!(percentile(&[0; 64].map(|_: u64| 1), 1.0), None, "a bucket that no time has");
    }
}
