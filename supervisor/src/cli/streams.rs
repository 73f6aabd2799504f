//! `mortise logs` and `mortise events`: streams that go on when the supervisor restarts.

use std::time::Duration;

use jiff::tz::TimeZone;
use mortise_control::ModuleName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::fault::{Done, Fault};
use super::screen::{Paint, Screen, visible};
use super::session::Session;
use crate::api::{Event, EventKind, LogLine, LogStream, Streamed};

/// From one try to reach a supervisor that restarts to the next.
const RETRY: Duration = Duration::from_millis(200);

/// `mortise logs`.
pub async fn logs(session: &Session, module: &ModuleName, follow: bool, tail: usize) -> Done {
    let path = |tail: usize| format!("/v1/logs/{}/{module}?tail={tail}&follow={follow}", session.tenant);
    let mut from = path(tail);
    let mut stream = Stream { session, follow, opened: false };
    loop {
        let end = stream.read(&from, |line: &LogLine| log_line(session.screen, line), |_| true).await?;
        if end == StreamEnd::Complete {
            return Ok(());
        }
        // What was printed while no supervisor read is in the pipes, and comes as new lines.
        from = path(0);
    }
}

/// `mortise events`.
pub async fn events(session: &Session, follow: bool, since: Option<u64>) -> Done {
    let mut next = since;
    let mut stream = Stream { session, follow, opened: false };
    loop {
        let since = next.map_or_else(String::new, |it| format!("&since={it}"));
        let path = format!("/v1/events?follow={follow}{since}");
        // What happens to the supervisor itself is of no tenant and concerns all.
        let wanted = |event: &Event| event.tenant.as_ref().is_none_or(|it| *it == session.tenant);
        let seen = |event: &Event| {
            next = Some(event.seq + 1);
            wanted(event)
        };
        let end = stream.read(&path, |event| event_line(session.screen, event), seen).await?;
        if end == StreamEnd::Complete {
            return Ok(());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamEnd {
    /// Everything was said.
    Complete,
    /// The supervisor went away; it can be asked again.
    Broken,
}

struct Stream<'a> {
    session: &'a Session,
    follow: bool,
    /// Whether it was open before.
    opened: bool,
}

impl Stream<'_> {
    async fn read<T: DeserializeOwned + Serialize>(
        &mut self,
        path: &str,
        show: impl Fn(&T) -> String,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Done<StreamEnd> {
        let screen = self.session.screen;
        let mut lines = self.open(path).await?;
        loop {
            match lines.next::<Streamed<T>>().await {
                Ok(Some(Streamed::Item(it))) if !wanted(&it) => {}
                Ok(Some(item)) if screen.json => screen.json_line(&item)?,
                Ok(Some(Streamed::Item(it))) => screen.line(&show(&it))?,
                Ok(Some(Streamed::Missed { missed })) => {
                    screen.line(&screen.paint.warn(&format!("… {missed} missed")))?;
                }
                Ok(None) if !self.follow => return Ok(StreamEnd::Complete),
                Ok(None) => return Ok(StreamEnd::Broken),
                Err(fault) if self.follow && fault.is_torn() => return Ok(StreamEnd::Broken),
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Opens the stream. The first time nobody there is a fault; later it is a supervisor that restarts.
    async fn open(&mut self, path: &str) -> Result<super::client::Lines, Fault> {
        let deadline = Instant::now() + self.session.timeout;
        loop {
            match self.session.client.lines(path).await {
                Err(fault) if self.follow && self.opened && fault.is_unreachable() && Instant::now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                answered => {
                    self.opened |= answered.is_ok();
                    return answered;
                }
            }
        }
    }
}

fn time(at: jiff::Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string()
}

fn log_line(screen: Screen, line: &LogLine) -> String {
    let paint = screen.paint;
    let mut text = String::new();
    if line.dropped_before > 0 {
        text += &paint.warn(&format!("… {} lines dropped\n", line.dropped_before));
    }
    let source = match (&line.level, line.stream) {
        (Some(level), _) => self::level(paint, level),
        (None, LogStream::Stdout) => "out".to_owned(),
        (None, LogStream::Stderr) => paint.warn("err"),
        (None, LogStream::Event) => "log".to_owned(),
    };
    let worker = format!("{}@{} {}", line.module, visible(&line.version), visible(&line.worker));
    text += &format!("{} {} {source} {}", paint.dim(&time(line.at)), paint.dim(&worker), visible(&line.text));
    for (name, value) in &line.fields {
        text += &paint.dim(&format!(" {}={}", visible(name), visible(value)));
    }
    text
}

fn level(paint: Paint, level: &str) -> String {
    let shown = visible(level).to_lowercase();
    match shown.as_str() {
        "error" => paint.bad(&shown),
        "warn" => paint.warn(&shown),
        "debug" | "trace" => paint.dim(&shown),
        _ => shown,
    }
}

fn event_line(screen: Screen, event: &Event) -> String {
    let paint = screen.paint;
    let mut about = event.module.as_ref().map(ToString::to_string).unwrap_or_default();
    if let Some(version) = &event.version {
        about += &format!("@{}", visible(version));
    }
    if let Some(worker) = &event.worker {
        about += &format!(" {}", visible(worker));
    }
    let about = if about.is_empty() { about } else { format!("{about}: ") };
    let kind = match event.kind {
        EventKind::Supervisor => "supervisor",
        EventKind::Operation => "operation",
        EventKind::Package => "package",
        EventKind::Worker => "worker",
        EventKind::Route => "route",
        EventKind::Channel => "channel",
        EventKind::Resource => "resource",
    };
    format!(
        "{} {} {kind:<10} {about}{}",
        paint.dim(&format!("{:>5}", event.seq)),
        paint.dim(&time(event.at)),
        visible(&event.text)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::arguments::When;

    #[test]
    fn a_hostile_line_cannot_drive_the_terminal() {
        let line = LogLine {
            at: jiff::Timestamp::UNIX_EPOCH,
            tenant: mortise_control::TenantName::new("default").unwrap(),
            module: ModuleName::new("loud").unwrap(),
            version: "1.0.0\x1b".into(),
            worker: "0.1".into(),
            stream: LogStream::Event,
            level: Some("\x1b[2J".into()),
            text: "a\x1b]0;x\x07b\rc".into(),
            fields: BTreeMap::from([("k\x1b".into(), "v\x1b".into())]),
            dropped_before: 3,
        };
        let text = log_line(Screen::new(When::Never, false), &line);
        assert!(text.starts_with("… 3 lines dropped\n"), "{text}");
        assert!(!text.contains(['\x1b', '\x07', '\r']), "{text:?}");
    }
}
