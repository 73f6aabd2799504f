//! A `tracing` event of a worker as one line on its stderr, told apart from ordinary output.
//!
//! ```text
//!   RS (0x1e)  {"v":1,"level":"INFO","target":"spell","text":"…","trace":"…","fields":{"word":"teh"}}  LF
//! ```
//! This is a JSON text sequence (RFC 7464): a line of it begins with the control character RS, which programs do not print.
//! A line that begins with RS and is not exactly this form, or is longer than [`MAX_LINE`], is ordinary output. Inside the JSON no
//! control character occurs, so nothing that an event says can end the line or begin another.
//!
//! A worker can forge such lines, about itself: they are its allegations, as everything that it prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a structured line begins with.
pub const MARK: u8 = 0x1e;

/// The longest structured line in bytes, mark and line feed included. [`LogEvent::to_line`] shortens what is longer, so that
/// one `write` puts the whole line into a FIFO.
pub const MAX_LINE: usize = 4096;

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Every step.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should look at.
    Warn,
    /// What failed.
    Error,
}

impl Level {
    /// As it is written in the line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// How grave it is.
    pub level: Level,
    /// Which part of the program says it.
    pub target: String,
    /// What it says.
    pub text: String,
    /// The W3C trace id of the call or request in which it was said: 32 lower-case hexadecimal digits.
    pub trace: Option<String>,
    /// The event's fields and those of the spans around it.
    pub fields: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    v: u8,
    level: Level,
    #[serde(borrow)]
    target: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<String, String>,
}

const VERSION: u8 = 1;

/// What stands where a text was cut.
const CUT: &str = "…";

impl LogEvent {
    /// The line, its line feed included, at most [`MAX_LINE`] bytes: what is too long loses its longest texts' ends.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = self.encode();
        let mut limit = MAX_LINE / 2;
        while line.len() > MAX_LINE && limit >= 64 {
            line = self.shortened(limit).encode();
            limit /= 2;
        }
        if line.len() > MAX_LINE {
            // Very many fields: the text alone says more than a part of them.
            line = Self { fields: BTreeMap::new(), ..self.shortened(256) }.encode();
        }
        line
    }

    fn encode(&self) -> Vec<u8> {
        let line = Line {
            v: VERSION,
            level: self.level,
            target: self.target.as_str().into(),
            text: self.text.as_str().into(),
            trace: self.trace.clone(),
            fields: self.fields.clone(),
        };
        let mut bytes = vec![MARK];
        serde_json::to_writer(&mut bytes, &line).expect("strings and string maps are JSON, and a Vec takes every byte");
        bytes.push(b'\n');
        bytes
    }

    fn shortened(&self, limit: usize) -> Self {
        Self {
            level: self.level,
            target: cut(&self.target, limit),
            text: cut(&self.text, limit),
            trace: self.trace.as_deref().map(|it| cut(it, limit)),
            fields: self.fields.iter().map(|(name, value)| (cut(name, limit), cut(value, limit))).collect(),
        }
    }

    /// Reads a line (with or without its line feed). None: it is ordinary output.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > MAX_LINE {
            return None;
        }
        let json = line.strip_prefix(&[MARK])?;
        let Line { v: VERSION, level, target, text, trace, fields } = serde_json::from_slice(json).ok()? else {
            return None;
        };
        let is_trace_id = |it: &String| it.len() == 32 && it.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !trace.iter().all(is_trace_id) {
            return None;
        }
        Some(Self { level, target: target.into_owned(), text: text.into_owned(), trace, fields })
    }
}

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut kept = text[..text.floor_char_boundary(limit.saturating_sub(CUT.len()))].to_owned();
    kept.push_str(CUT);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> LogEvent {
        LogEvent {
            level: Level::Warn,
            target: "spell::index".into(),
            text: text.into(),
            trace: Some("0af7651916cd43dd8448eb211c80319c".into()),
            fields: [("word".to_owned(), "teh".to_owned())].into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "plain", "two\nlines", "\u{1e}{\"v\":1}\n", "quote \" and \\ and \0 and ü"] {
            let event = event(text);
            let line = event.to_line();
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1, "{text:?} must stay one line");
            assert_eq!(line.iter().filter(|b| **b == MARK).count(), 1, "{text:?} must not begin another line");
            assert_eq!(LogEvent::parse(&line), Some(event.clone()));
            assert_eq!(LogEvent::parse(line.trim_ascii_end()), Some(event));
        }
    }

    #[test]
    fn ordinary_output_is_ordinary() {
        let good = event("x").to_line();
        for ordinary in [
            &b""[..],
            b"\x1e",
            b"text",
            b"{\"v\":1,\"level\":\"INFO\",\"target\":\"a\",\"text\":\"b\"}",
            b"\x1e{\"v\":2,\"level\":\"INFO\",\"target\":\"a\",\"text\":\"b\"}",
            b"\x1e{\"v\":1,\"level\":\"LOUD\",\"target\":\"a\",\"text\":\"b\"}",
            b"\x1e{\"v\":1,\"level\":\"INFO\",\"target\":\"a\",\"text\":\"b\",\"more\":1}",
            b"\x1e{\"v\":1,\"level\":\"INFO\",\"target\":\"a\",\"text\":\"b\",\"trace\":\"../..\"}",
            b"\x1e{\"v\":1,\"level\":\"INFO\",\"target\":\"a\",\"text\":\"b\",\"fields\":{\"a\":{}}}",
            &good[1..],
            &good[..good.len() - 2],
            b"\x1e\xff\xfe",
        ] {
            assert_eq!(LogEvent::parse(ordinary), None, "{}", String::from_utf8_lossy(ordinary));
        }
    }

    #[test]
    fn a_long_event_loses_its_ends_and_stays_an_event() {
        for text in ["\u{1}".repeat(10_000), "ü".repeat(3_000), "x".repeat(MAX_LINE)] {
            let line = event(&text).to_line();
            assert!(line.len() <= MAX_LINE, "{} bytes", line.len());
            let read = LogEvent::parse(&line).unwrap();
            assert!(read.text.ends_with(CUT) && read.text.len() > 100);
            assert_eq!(read.fields["word"], "teh");
        }
        let mut many = event("many fields");
        many.fields = (0..1_000).map(|i| (format!("field-{i}"), "value".to_owned())).collect();
        let line = many.to_line();
        assert!(line.len() <= MAX_LINE);
        assert_eq!(LogEvent::parse(&line).unwrap().text, "many fields");
        assert_eq!(LogEvent::parse(&vec![MARK; MAX_LINE + 1]), None);
    }
}
