//! One worker's lines: limited, counted, and the latest kept for the reason of its exit.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use mortise_control::log_line::LogEvent;
use mortise_control::{ModuleName, Role, TenantName, WorkerId};
use semver::Version;

use super::LogSink;
use super::limit::RateLimit;
use super::split::Line;
use super::text::{readable, shorten};
use crate::api::{LogLine, LogStream};

/// Lines that are kept for the reason of an exit.
const LATEST_LINES: usize = 10;

/// Bytes of each of them.
const LATEST_BYTES: usize = 512;

/// Whose output it is.
#[derive(Clone, Debug)]
pub struct LogSource {
    /// Whose module.
    pub tenant: TenantName,
    /// Which module.
    pub module: ModuleName,
    /// Which version.
    pub version: Version,
    /// Which worker.
    pub worker: WorkerId,
    /// Structured lines are looked for in the stderr of those that have the SDK ([`Role::Sdk`], [`Role::Base`]).
    pub role: Role,
}

/// Takes the lines of both streams.
#[derive(Debug)]
pub(super) struct WorkerLog {
    source: LogSource,
    sink: Arc<LogSink>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: RateLimit,
    /// Since the last line that was kept.
    dropped: u64,
    /// As they came: they are made readable when somebody asks, so that a flood costs little.
    latest: VecDeque<(LogStream, Vec<u8>, u64)>,
}

impl WorkerLog {
    pub fn new(source: LogSource, sink: Arc<LogSink>, now: Instant) -> Self {
        let state = State { limit: RateLimit::new(now), dropped: 0, latest: VecDeque::new() };
        Self { source, sink, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line.
    pub fn take(&self, stream: LogStream, line: Line<'_>, now: Instant) {
        let dropped_before = {
            let mut state = self.state();
            // Also what is dropped: the last words of a worker that crashes in a flood say why.
            state.remember(stream, line);
            let bytes = line.bytes.len();
            if !state.limit.admit(bytes, now) || !self.sink.admits(&self.source.tenant, bytes, now) {
                state.dropped += 1;
                return;
            }
            std::mem::take(&mut state.dropped)
        };
        let Said { stream, level, text, fields } = self.said(stream, line);
        self.sink.append(self.line(stream, level, text, fields, dropped_before));
    }

    /// Whether lines were dropped of which nobody knows yet.
    pub fn has_dropped(&self) -> bool {
        self.state().dropped > 0
    }

    /// Tells of dropped lines behind which no other came.
    pub fn tell_dropped(&self) {
        let dropped = std::mem::take(&mut self.state().dropped);
        if dropped > 0 {
            let text = format!("({dropped} lines were dropped: it wrote more than its log may take, or its tenant's)");
            self.sink.append(self.line(LogStream::Stderr, None, text, BTreeMap::new(), dropped));
        }
    }

    /// The latest lines, oldest first.
    pub fn latest(&self) -> Vec<String> {
        let latest = self.state().latest.clone();
        let text = |(stream, bytes, cut): &(LogStream, Vec<u8>, u64)| match self.event(*stream, bytes, *cut) {
            Some(LogEvent { level, target, text, .. }) => {
                let text = format!("{} {target}: {text}", level.as_str());
                shorten(Line { bytes: text.as_bytes(), cut: 0 }, LATEST_BYTES)
            }
            None => shorten(Line { bytes, cut: *cut }, LATEST_BYTES),
        };
        latest.iter().map(text).collect()
    }

    /// The structured line of the SDK, if it is one.
    fn event(&self, stream: LogStream, bytes: &[u8], cut: u64) -> Option<LogEvent> {
        let has_sdk = match self.source.role {
            Role::Sdk | Role::Base => true,
            Role::Http => false,
        };
        (has_sdk && stream == LogStream::Stderr && cut == 0).then(|| LogEvent::parse(bytes)).flatten()
    }

    fn said(&self, stream: LogStream, line: Line<'_>) -> Said {
        let Some(event) = self.event(stream, line.bytes, line.cut) else {
            return Said { stream, level: None, text: readable(line), fields: BTreeMap::new() };
        };
        let plain = |text: &str| readable(Line { bytes: text.as_bytes(), cut: 0 });
        let mut fields: BTreeMap<String, String> =
            event.fields.iter().map(|(name, value)| (plain(name), plain(value))).collect();
        // These two are the event's own: a field of the same name cannot take their place.
        fields.insert("target".into(), plain(&event.target));
        fields.remove("trace");
        fields.extend(event.trace.map(|trace| ("trace".into(), trace)));
        let level = Some(event.level.as_str().to_owned());
        Said { stream: LogStream::Event, level, text: plain(&event.text), fields }
    }

    fn line(
        &self,
        stream: LogStream,
        level: Option<String>,
        text: String,
        fields: BTreeMap<String, String>,
        dropped_before: u64,
    ) -> LogLine {
        LogLine {
            at: Timestamp::now(),
            tenant: self.source.tenant.clone(),
            module: self.source.module.clone(),
            version: self.source.version.to_string(),
            worker: self.source.worker.to_string(),
            stream,
            level,
            text,
            fields,
            dropped_before,
        }
    }
}

/// What a line says.
struct Said {
    stream: LogStream,
    level: Option<String>,
    text: String,
    fields: BTreeMap<String, String>,
}

impl State {
    fn remember(&mut self, stream: LogStream, line: Line<'_>) {
        // A structured line is short enough to be kept whole, and is worth nothing in part.
        let most = if line.bytes.first() == Some(&mortise_control::log_line::MARK) {
            mortise_control::log_line::MAX_LINE
        } else {
            LATEST_BYTES
        };
        let keep = line.bytes.len().min(most);
        let cut = line.cut.saturating_add((line.bytes.len() - keep) as u64);
        let mut bytes = if self.latest.len() < LATEST_LINES {
            Vec::new()
        } else {
            self.latest.pop_front().map(|(_, bytes, _)| bytes).unwrap_or_default()
        };
        bytes.clear();
        bytes.extend_from_slice(&line.bytes[..keep]);
        self.latest.push_back((stream, bytes, cut));
    }
}
