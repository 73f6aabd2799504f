//! `mortise doctor`: what the supervisor says about its host, or what can be found out from here.

use std::fmt::Write as _;

use super::arguments::{self, Global};
use super::fault::{Done, Fault};
use super::progress;
use super::screen::{Screen, visible};
use super::session::Session;
use crate::api::{ApiError, Blame, ErrorCode, Snapshot};
use crate::doctor::{self, Area, Check, Places, Report, Verdict};

/// `mortise doctor`.
pub async fn doctor(session: &Session, global: &Global, asked: arguments::Doctor) -> Done {
    let report =
        if asked.host_only { from_here(asked).await? } else { with_supervisor(session, global, asked).await? };
    if session.screen.json {
        session.screen.json(&report)?;
    } else {
        session.screen.print(&text(session.screen, &report))?;
    }
    if report.sound { Ok(()) } else { Err(unsound(&report).into()) }
}

/// The supervisor sees the host as its workers will; without one we look from here.
async fn with_supervisor(session: &Session, global: &Global, asked: arguments::Doctor) -> Result<Report, Fault> {
    let answered = match session.client.get::<Report>("/v1/doctor").await {
        Ok(report) => session.client.get::<Snapshot>("/v1/snapshot").await.map(|it| (report, it)),
        Err(fault) => Err(fault),
    };
    let socket = global.socket.display();
    let matters = "modules are started, stopped and replaced by it";
    match answered {
        Ok((mut report, snapshot)) => {
            let found = format!("version {} answers on {socket}", snapshot.host.version);
            let check = Check::good(Area::Supervisor, "supervisor", found, matters);
            report.add(if snapshot.host.version == env!("CARGO_PKG_VERSION") {
                check
            } else {
                let remedy =
                    format!("This mortise is {}: use the one that came with mortised.", env!("CARGO_PKG_VERSION"));
                check.but(Verdict::Weak, remedy)
            });
            Ok(report)
        }
        Err(fault) if fault.is_unreachable() => {
            let mut report = from_here(asked).await?;
            let found = format!("none answers on {socket}; examined from here, as uid {}", nix::unistd::geteuid());
            let remedy = "Start mortised, or name its socket with --socket or MORTISE_SOCKET.";
            report.add(Check::good(Area::Supervisor, "supervisor", found, matters).but(Verdict::Weak, remedy));
            Ok(report)
        }
        Err(fault) => Err(fault),
    }
}

async fn from_here(asked: arguments::Doctor) -> Result<Report, Fault> {
    let arguments::Doctor { state, run, libexec, listen, host_only: _ } = asked;
    let places = Places { state, run, libexec, listen };
    let _spinner = progress::spinner("examining the host");
    tokio::task::spawn_blocking(move || doctor::examine(&places, &doctor::probe())).await.map_err(|error| {
        ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("the examination failed: {error}")).into()
    })
}

fn unsound(report: &Report) -> Fault {
    let promises = report.promises.iter().filter(|it| it.required && !it.kept).map(|it| it.name.as_str());
    let checks = report.checks.iter().filter(|it| it.verdict == Verdict::Bad).map(|it| it.name.as_str());
    let names: Vec<_> = promises.chain(checks).collect();
    ApiError::new(ErrorCode::Unavailable, Blame::Host, format!("this host is not sound: {}", names.join(", ")))
        .remedy("Each has its remedy in the report. A missing promise can be allowed by `mortised --allow-degraded`.")
        .into()
}

const fn title(area: Area) -> &'static str {
    match area {
        Area::Supervisor => "Supervisor",
        Area::System => "System",
        Area::Disk => "Disk",
        Area::Limit => "Limits",
        Area::Network => "Network",
    }
}

fn text(screen: Screen, report: &Report) -> String {
    let paint = screen.paint;
    let mut text = format!("{}\n", paint.head("Promises"));
    for it in &report.promises {
        let mark = match (it.kept, it.required) {
            (true, _) => paint.good("kept  "),
            (false, true) => paint.bad("broken"),
            (false, false) => paint.warn("weak  "),
        };
        let _ = writeln!(text, "  {mark}  {:<18} {}", visible(&it.name), visible(&it.why));
        if !it.kept && !it.remedy.is_empty() {
            let _ = writeln!(text, "          {:<18} {} {}", "", paint.dim("remedy:"), visible(&it.remedy));
        }
    }
    let mut area = None;
    for it in &report.checks {
        if area != Some(it.area) {
            area = Some(it.area);
            let _ = writeln!(text, "{}", paint.head(title(it.area)));
        }
        let mark = match it.verdict {
            Verdict::Good => paint.good("good  "),
            Verdict::Weak => paint.warn("weak  "),
            Verdict::Unknown => paint.warn("?     "),
            Verdict::Bad => paint.bad("bad   "),
        };
        let _ = writeln!(text, "  {mark}  {:<18} {}", visible(&it.name), visible(&it.found));
        if it.verdict != Verdict::Good {
            let _ = writeln!(text, "          {:<18} {} {}", "", paint.dim("needed for:"), visible(&it.matters));
        }
        if let Some(remedy) = &it.remedy {
            let _ = writeln!(text, "          {:<18} {} {}", "", paint.dim("remedy:"), visible(remedy));
        }
    }
    text
}
