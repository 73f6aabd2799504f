//! What is wrong with a module.toml, each finding at its place, shown the way rustc shows it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Report {
    /// The file's name, as it was given.
    pub file: String,
    /// At least one.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, like `limits.memory` or `provides[1].service`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, with what was found.
    pub message: String,
    /// What is allowed.
    pub allowed: String,
    /// The line it stands on, without control characters.
    pub source: String,
    /// Where in `source` the mark begins, in characters from 0: less than the column where a long line is cut.
    pub mark: usize,
    /// How many characters are marked.
    pub width: usize,
}

/// A finding before its place is known as line and column.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub key: String,
    pub span: Range<usize>,
    pub message: String,
    pub allowed: String,
}

impl Report {
    pub(super) fn new(file: &str, source: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| (a.span.start, &a.key).cmp(&(b.span.start, &b.key)));
        faults.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        let findings = faults.into_iter().map(|fault| place(source, fault)).collect();
        Self { file: visible(file), findings }
    }

    /// The report with terminal colours.
    #[must_use]
    pub fn coloured(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            finding.write(&mut text, &self.file, &COLOURED).ok();
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            finding.write(f, &self.file, &PLAIN)?;
        }
        Ok(())
    }
}

struct Paint {
    red: &'static str,
    blue: &'static str,
    bold: &'static str,
    off: &'static str,
}

const PLAIN: Paint = Paint { red: "", blue: "", bold: "", off: "" };
const COLOURED: Paint = Paint { red: "\x1b[1;31m", blue: "\x1b[1;34m", bold: "\x1b[1m", off: "\x1b[0m" };

impl Finding {
    fn write(&self, out: &mut impl fmt::Write, file: &str, paint: &Paint) -> fmt::Result {
        let Paint { red, blue, bold, off } = paint;
        let number = self.line.to_string();
        let gap = " ".repeat(number.len());
        writeln!(out, "{red}error{off}{bold}: {}{off}", self.message)?;
        writeln!(out, "{gap}{blue}-->{off} {file}:{}:{}", self.line, self.column)?;
        writeln!(out, "{gap} {blue}|{off}")?;
        writeln!(out, "{blue}{number} |{off} {}", self.source)?;
        writeln!(out, "{gap} {blue}|{off} {}{red}{}{off}", " ".repeat(self.mark), "^".repeat(self.width))?;
        write!(out, "{gap} {blue}={off} {bold}allowed{off}: {}", self.allowed)
    }
}

fn place(source: &str, fault: Fault) -> Finding {
    let mut start = fault.span.start.min(source.len());
    while !source.is_char_boundary(start) {
        start -= 1;
    }
    let before = &source[..start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = source[line_start..].lines().next().unwrap_or("");
    let column = source[line_start..start].chars().count();
    let marked = source.get(start..fault.span.end.clamp(start, source.len())).unwrap_or("");
    let width = marked.lines().next().unwrap_or("").chars().count();
    // A very long line (a minified file, an attack) is shown around the mark only.
    let from = if column > 100 { column - 60 } else { 0 };
    let source_line: String = visible(&line.chars().skip(from).take(160).collect::<String>());
    Finding {
        line: before.matches('\n').count() + 1,
        column: column + 1,
        key: fault.key,
        message: visible(&fault.message),
        allowed: fault.allowed,
        mark: column - from,
        width: width.clamp(1, 80),
        source: source_line,
    }
}

/// `text` with every control character replaced, so that a hostile file cannot drive the terminal that shows it.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
            c => c,
        })
        .collect()
}
