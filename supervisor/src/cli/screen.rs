//! What is printed where: a table on a terminal, plain columns into a pipe, JSON for programs.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde::Serialize;

use super::arguments::When;
use super::fault::{Done, End};
use crate::api::{ApiError, Blame, ErrorCode, WorkerState};
pub(super) use crate::manifest::visible;

/// Standard output, and how to write on it.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// For programs instead of people.
    pub json: bool,
    /// Colour on standard output.
    pub paint: Paint,
    /// Whether standard output is a terminal.
    pub terminal: bool,
}

/// Colour, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// No colour.
    #[cfg(test)]
    pub const PLAIN: Self = Self(false);

    fn new(when: When, terminal: bool) -> Self {
        Self(match when {
            When::Always => true,
            When::Never => false,
            // https://no-color.org: set and not empty.
            When::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
        })
    }

    /// For standard error.
    pub fn for_stderr(when: When) -> Self {
        Self::new(when, io::stderr().is_terminal())
    }

    /// Whether there is colour.
    pub const fn is_coloured(self) -> bool {
        self.0
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What went wrong.
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What is weak, or under way.
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// What is well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// What is beside the point.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A heading.
    pub fn head(self, text: &str) -> String {
        self.with("1", text)
    }

    /// A worker's state.
    pub fn state(self, state: WorkerState) -> String {
        let name = state_name(state);
        match state {
            WorkerState::Ready | WorkerState::Published => self.good(name),
            WorkerState::Starting | WorkerState::Draining | WorkerState::Backoff => self.warn(name),
            WorkerState::Failed => self.bad(name),
            WorkerState::Stopped | WorkerState::Exited | WorkerState::Frozen => self.dim(name),
        }
    }

    fn cell(self, state: WorkerState) -> Cell {
        let cell = Cell::new(state_name(state));
        if !self.0 {
            return cell;
        }
        match state {
            WorkerState::Ready | WorkerState::Published => cell.fg(Color::Green),
            WorkerState::Starting | WorkerState::Draining | WorkerState::Backoff => cell.fg(Color::Yellow),
            WorkerState::Failed => cell.fg(Color::Red),
            WorkerState::Stopped | WorkerState::Exited | WorkerState::Frozen => cell.fg(Color::DarkGrey),
        }
    }
}

/// A state as the API writes it.
pub const fn state_name(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Published => "published",
        WorkerState::Draining => "draining",
        WorkerState::Stopped => "stopped",
        WorkerState::Backoff => "backoff",
        WorkerState::Failed => "failed",
        WorkerState::Exited => "exited",
        WorkerState::Frozen => "frozen",
    }
}

impl Screen {
    /// Standard output as it is.
    pub fn new(when: When, json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { json, paint: Paint::new(when, terminal), terminal }
    }

    /// Prints text as it is.
    pub fn print(&self, text: &str) -> Done {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| unprinted(&error))
    }

    /// Prints a line.
    pub fn line(&self, text: &str) -> Done {
        self.print(&format!("{text}\n"))
    }

    /// Prints JSON on lines of its own, indented.
    pub fn json(&self, value: &impl Serialize) -> Done {
        self.line(&serde_json::to_string_pretty(value).map_err(|error| unwritten(&error))?)
    }

    /// Prints JSON on one line.
    pub fn json_line(&self, value: &impl Serialize) -> Done {
        self.line(&serde_json::to_string(value).map_err(|error| unwritten(&error))?)
    }

    /// An empty table with these headings. Without borders, so that `awk` can read it out of a pipe; only on a terminal are
    /// long cells wrapped.
    pub fn table(&self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(headings.iter().map(|it| self.heading(it)));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        if self.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if self.paint.0 {
            table.enforce_styling();
        }
        table
    }

    fn heading(&self, text: &str) -> Cell {
        let cell = Cell::new(text);
        if self.paint.0 { cell.add_attribute(Attribute::Bold) } else { cell }
    }

    /// Prints a table.
    pub fn show(&self, table: &Table) -> Done {
        self.line(&table.trim_fmt())
    }

    /// A cell with a worker's state.
    pub fn state_cell(&self, state: WorkerState) -> Cell {
        self.paint.cell(state)
    }
}

fn unprinted(error: &io::Error) -> End {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return End::NobodyReads;
    }
    ApiError::new(ErrorCode::Storage, Blame::Host, format!("standard output: {error}")).into()
}

fn unwritten(error: &serde_json::Error) -> End {
    ApiError::new(ErrorCode::Internal, Blame::Mortise, format!("an answer could not be written as JSON: {error}"))
        .into()
}
