//! `mortise top`: what each module costs and does, per second.

use std::io::{self, Write as _};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, event, execute, terminal};
use jiff::Timestamp;
use mortise_control::{ModuleName, TenantName};
use serde::{Deserialize, Serialize};

use super::fault::{Done, End, Fault};
use super::screen::Screen;
use super::session::Session;
use super::status::percentile;
use super::units;
use crate::api::{ApiError, Blame, ErrorCode, ModuleStatus, Snapshot, WorkerState, WorkerStatus};

/// The shortest interval: the supervisor measures no more often than twice a second.
const INTERVAL_MIN: Duration = Duration::from_millis(500);

/// How long a look for a key may block while a frame is shown.
const KEY_WAIT: Duration = Duration::from_millis(50);

/// A line of `mortise top --json`: one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// When the figures were read.
    pub at: Timestamp,
    /// How long the interval was.
    pub seconds: f64,
    /// Each module, the busiest first.
    pub modules: Vec<Usage>,
}

/// What a module cost and did in an interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Whose.
    pub tenant: TenantName,
    /// Which module.
    pub module: ModuleName,
    /// Workers that have a process.
    pub workers: u32,
    /// CPU time as a share of one core: 1 is one core.
    pub cpu: f64,
    /// Bytes charged to its cgroups.
    pub memory_bytes: u64,
    /// Its limits together.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Calls answered per second.
    pub calls_per_second: f64,
    /// Those answered by an error.
    pub errors_per_second: f64,
    /// Half of the calls took less, in nanoseconds; none without calls.
    pub p50_ns: Option<u64>,
    /// All but one in a hundred took less.
    pub p99_ns: Option<u64>,
}

/// `mortise top`.
pub async fn top(session: &Session, interval: Duration, once: bool) -> Done {
    let interval = interval.max(INTERVAL_MIN);
    let live = session.screen.terminal && !session.screen.json && !once;
    let mut full = live.then(FullScreen::enter).transpose()?;
    let mut before = measured(session, None).await?;
    loop {
        if let Some(full) = &mut full {
            if before_frame(full, interval).await? == Wish::Leave {
                return Ok(());
            }
        } else {
            tokio::time::sleep(interval).await;
        }
        let now = measured(session, before.measured).await?;
        let frame = frame(&before, &now, &session.tenant);
        before = now;
        match &mut full {
            Some(full) => full.draw(&text(session.screen, &frame))?,
            None if session.screen.json => session.screen.json_line(&frame)?,
            None => session.screen.print(&text(session.screen, &frame))?,
        }
        if once {
            return Ok(());
        }
    }
}

/// A snapshot whose figures are not those of `known`. A supervisor that restarts after the first one is waited for.
async fn measured(session: &Session, known: Option<Timestamp>) -> Result<Snapshot, Fault> {
    let deadline = tokio::time::Instant::now() + session.timeout;
    loop {
        match session.client.get::<Snapshot>("/v1/snapshot").await {
            Ok(snapshot) if snapshot.measured.is_none() || snapshot.measured != known => return Ok(snapshot),
            // Another reader made the supervisor measure just before our last look; its next figures are due soon.
            Ok(_) => {}
            Err(fault) if known.is_some() && fault.is_unreachable() && tokio::time::Instant::now() < deadline => {}
            Err(fault) => return Err(fault),
        }
        tokio::time::sleep(INTERVAL_MIN / 5).await;
    }
}

fn frame(before: &Snapshot, now: &Snapshot, tenant: &TenantName) -> Frame {
    let at = now.measured.unwrap_or_else(Timestamp::now);
    let seconds = before.measured.map_or(0.0, |it| at.duration_since(it).as_secs_f64());
    let mut modules: Vec<Usage> = now
        .modules
        .iter()
        .filter(|it| it.tenant == *tenant)
        .map(|it| {
            let before = before.modules.iter().find(|old| old.tenant == it.tenant && old.module == it.module);
            usage(before.map(|it| &**it), it, seconds)
        })
        .collect();
    modules.sort_by(|a, b| b.cpu.total_cmp(&a.cpu).then_with(|| a.module.cmp(&b.module)));
    Frame { at, seconds, modules }
}

fn usage(before: Option<&ModuleStatus>, now: &ModuleStatus, seconds: f64) -> Usage {
    let rate = |amount: u64| if seconds > 0.0 { amount as f64 / seconds } else { 0.0 };
    let (mut cpu_usec, mut calls, mut errors) = (0_u64, 0_u64, 0_u64);
    let mut latency: Vec<u64> = Vec::new();
    for worker in &now.workers {
        // Worker ids are never used twice: one that was not there before has done all of it in this interval.
        let old = before.and_then(|it| it.workers.iter().find(|old| old.worker == worker.worker));
        cpu_usec = cpu_usec.saturating_add(worker.cpu_usec.saturating_sub(old.map_or(0, |it| it.cpu_usec)));
        for figures in &worker.figures {
            let old = old.and_then(|it| it.figures.iter().find(|old| old.service == figures.service));
            calls = calls.saturating_add(figures.calls.saturating_sub(old.map_or(0, |it| it.calls)));
            errors = errors.saturating_add(figures.errors.saturating_sub(old.map_or(0, |it| it.errors)));
            latency.resize(latency.len().max(figures.latency_log2.len()), 0);
            for (i, (sum, count)) in latency.iter_mut().zip(&figures.latency_log2).enumerate() {
                let old = old.and_then(|it| it.latency_log2.get(i)).copied().unwrap_or(0);
                *sum = sum.saturating_add(count.saturating_sub(old));
            }
        }
    }
    let sum = |of: fn(&WorkerStatus) -> u64| now.workers.iter().map(of).fold(0, u64::saturating_add);
    Usage {
        tenant: now.tenant.clone(),
        module: now.module.clone(),
        workers: now.workers.iter().map(|it| u32::from(has_process(it.state))).sum(),
        cpu: rate(cpu_usec) / 1e6,
        memory_bytes: sum(|it| it.memory_bytes),
        memory_limit_bytes: sum(|it| if has_process(it.state) { it.limits.memory_bytes.unwrap_or(0) } else { 0 }),
        pids: sum(|it| it.pids),
        calls_per_second: rate(calls),
        errors_per_second: rate(errors),
        p50_ns: percentile(&latency, 0.5),
        p99_ns: percentile(&latency, 0.99),
    }
}

const fn has_process(state: WorkerState) -> bool {
    match state {
        WorkerState::Starting
        | WorkerState::Ready
        | WorkerState::Published
        | WorkerState::Draining
        | WorkerState::Frozen => true,
        WorkerState::Stopped | WorkerState::Backoff | WorkerState::Failed | WorkerState::Exited => false,
    }
}

fn text(screen: Screen, frame: &Frame) -> String {
    let mut table =
        screen.table(&["MODULE", "WORKERS", "CPU %", "MEMORY", "PIDS", "CALLS/S", "ERRORS/S", "P50", "P99"]);
    for it in &frame.modules {
        let latency = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| format!("<{}", units::latency(ns)));
        let limit = (it.memory_limit_bytes > 0).then(|| units::bytes(it.memory_limit_bytes));
        table.add_row([
            it.module.to_string(),
            it.workers.to_string(),
            format!("{:.1}", it.cpu * 100.0),
            units::of(units::bytes(it.memory_bytes), limit),
            it.pids.to_string(),
            units::rate(it.calls_per_second),
            units::rate(it.errors_per_second),
            latency(it.p50_ns),
            latency(it.p99_ns),
        ]);
    }
    table.trim_fmt() + "\n"
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stay,
    Leave,
}

/// Waits for the next frame, or for `q`, Escape or Ctrl-C.
async fn before_frame(_: &FullScreen, interval: Duration) -> Done<Wish> {
    let deadline = tokio::time::Instant::now() + interval;
    while tokio::time::Instant::now() < deadline {
        let key =
            tokio::task::spawn_blocking(|| event::poll(KEY_WAIT).and_then(|there| there.then(event::read).transpose()))
                .await
                .map_err(|error| broken(&error))?
                .map_err(|error| broken(&error))?;
        if let Some(Event::Key(key)) = key
            && key.kind == KeyEventKind::Press
        {
            let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(Wish::Leave);
            }
        }
    }
    Ok(Wish::Stay)
}

fn broken(error: &dyn std::fmt::Display) -> End {
    ApiError::new(ErrorCode::Unavailable, Blame::Host, format!("the terminal: {error}"))
        .remedy("Try `mortise top --once`.")
        .into()
}

/// The terminal's other screen; what was there before comes back when it is dropped, also after an error.
struct FullScreen;

impl FullScreen {
    fn enter() -> Done<Self> {
        terminal::enable_raw_mode().map_err(|error| broken(&error))?;
        let full = Self;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide).map_err(|error| broken(&error))?;
        Ok(full)
    }

    fn draw(&mut self, text: &str) -> Done {
        let (_, height) = terminal::size().map_err(|error| broken(&error))?;
        let mut out = io::stdout().lock();
        let mut write = || {
            execute!(
                out,
                terminal::BeginSynchronizedUpdate,
                cursor::MoveTo(0, 0),
                terminal::Clear(terminal::ClearType::All)
            )?;
            for line in text.lines().take(usize::from(height).saturating_sub(2)) {
                write!(out, "{line}\r\n")?;
            }
            write!(out, "q ends")?;
            execute!(out, terminal::EndSynchronizedUpdate)
        };
        write().map_err(|error: io::Error| broken(&error))
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Desired, LimitsStatus, ServiceFigures};

    fn snapshot(second: i64, worker: &str, cpu_usec: u64, calls: u64) -> Snapshot {
        let figures = ServiceFigures {
            service: mortise_control::ServiceName::new("spell").unwrap(),
            calls,
            errors: calls / 10,
            latency_log2: vec![0, calls],
            latency_sum_ns: 0,
        };
        let worker = WorkerStatus {
            worker: worker.into(),
            version: semver::Version::new(1, 0, 0),
            state: WorkerState::Published,
            reason: None,
            pid: None,
            since: Timestamp::UNIX_EPOCH,
            restarts: 0,
            oom_kills: 0,
            memory_bytes: 1 << 20,
            cpu_usec,
            pressure: None,
            pids: 3,
            limits: LimitsStatus { memory_bytes: Some(2 << 20), cpu: None, pids: None },
            figures: vec![figures],
            kept: None,
        };
        let module = ModuleStatus {
            tenant: TenantName::new("default").unwrap(),
            module: ModuleName::new("spell").unwrap(),
            runtime: None,
            desired: Desired::Running,
            version: None,
            beside: None,
            beside_share: None,
            beside_paused: false,
            beside_shadow: None,
            shadow: None,
            limits: crate::api::ModuleLimits::default(),
            installed: vec![],
            services: vec![],
            workers: vec![worker],
        };
        let measured = Some(Timestamp::from_second(second).unwrap());
        Snapshot { measured, modules: vec![module.into()], ..Snapshot::default() }
    }

    fn only(before: &Snapshot, now: &Snapshot) -> Usage {
        frame(before, now, &TenantName::new("default").unwrap()).modules.remove(0)
    }

    #[test]
    fn rates_are_differences_over_the_time_between_two_measurements() {
        let usage = only(&snapshot(10, "0.1", 1_000_000, 100), &snapshot(12, "0.1", 2_000_000, 400));
        assert_eq!((usage.cpu, usage.calls_per_second, usage.errors_per_second), (0.5, 150.0, 15.0));
        assert_eq!((usage.p50_ns, usage.workers, usage.memory_bytes), (Some(1 << 11), 1, 1 << 20));
    }

    #[test]
    fn a_new_worker_counts_from_nothing_and_an_old_one_is_forgotten() {
        let usage = only(&snapshot(10, "0.1", 9_000_000, 1000), &snapshot(11, "0.2", 250_000, 7));
        assert_eq!((usage.cpu, usage.calls_per_second), (0.25, 7.0));
    }

    #[test]
    fn figures_that_run_backwards_are_no_underflow() {
        let usage = only(&snapshot(10, "0.1", 5, 1000), &snapshot(11, "0.1", 2, 1));
        assert_eq!((usage.cpu, usage.calls_per_second, usage.p50_ns), (0.0, 0.0, None));
        let still = only(&snapshot(10, "0.1", 5, 1), &snapshot(10, "0.1", 9, 9));
        assert_eq!(still.cpu, 0.0, "no time has passed");
    }

    #[test]
    fn another_tenants_modules_are_not_shown() {
        let now = snapshot(10, "0.1", 0, 0);
        assert!(frame(&now, &now, &TenantName::new("other").unwrap()).modules.is_empty());
    }
}
