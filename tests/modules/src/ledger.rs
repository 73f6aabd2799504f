//! The ledger of calls: lines that outlive whoever writes them.
//!
//! A worker has no place on disk of its own. Who wants a ledger lays a pipe over `/dev/full` before the supervisor starts (`xtask::ledger`
//! does) and writes down what comes out of it. What has been written into a pipe is not lost when its writer is killed, and a line of at
//! most 4096 bytes is there whole or not at all.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};

/// Where the pipe lies.
const PATH: &str = "/dev/full";

/// The longest line that no other writer's can come into the middle of.
const LINE_MOST: usize = 4096;

/// A ledger that can be written to.
#[derive(Debug)]
pub struct Ledger(File);

/// A call as its caller has seen it. Times are CLOCK_MONOTONIC, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Which load it is part of.
    pub load: &'a str,
    /// Its id.
    pub id: u64,
    /// When it was due: an answer is late from then on.
    pub due: u64,
    /// When the caller had its answer.
    pub ended: u64,
    /// Until when the answer was waited for.
    pub deadline: u64,
}

impl Ledger {
    /// Opens it.
    ///
    /// # Errors
    /// As of opening a file.
    pub fn open() -> io::Result<Self> {
        File::options().append(true).open(PATH).map(Self)
    }

    /// A call is executed by this version.
    ///
    /// # Errors
    /// It could not be written down: then it must not be answered.
    pub fn executed(&self, id: u64, version: &str) -> io::Result<()> {
        self.append(format!("executed {id} {version}"))
    }

    /// A caller has an answer, with the version that gave it.
    ///
    /// # Errors
    /// As of writing.
    pub fn answered(&self, seen: &Seen<'_>, version: &str) -> io::Result<()> {
        self.append(format!("answered {} {version}", fields(seen)))
    }

    /// A caller has none, or not a good one.
    ///
    /// # Errors
    /// As of writing.
    pub fn failed(&self, seen: &Seen<'_>, why: &str) -> io::Result<()> {
        self.append(format!("failed {} {}", fields(seen), why.replace('\n', " ")))
    }

    fn append(&self, mut line: String) -> io::Result<()> {
        line.truncate(line.floor_char_boundary(LINE_MOST - 1));
        line.push('\n');
        (&self.0).write_all(line.as_bytes())
    }
}

fn fields(seen: &Seen<'_>) -> String {
    let Seen { load, id, due, ended, deadline } = seen;
    let mut text = String::new();
    // Into a string: it cannot fail.
    let _ = write!(text, "{load} {id} {due} {ended} {deadline}");
    text
}
