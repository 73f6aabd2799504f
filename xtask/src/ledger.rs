//! The ledger of calls: who executed one writes its id down before it answers, who called writes down what it was told. Compared afterwards:
//! a call that was acknowledged and is not there is lost, one that is there twice was executed twice.
//!
//! ```text
//!   recorder (a worker) ── executed ID VERSION ──┐
//!                                                ├─▶ a pipe that lies over /dev/full ─▶ a thread of ours ─▶ a file ─▶ Account
//!   callers (a worker) ─── answered | failed … ──┘
//!   requests over HTTP (threads of ours) ─────────────────────────────────────────────────────────────────────────────▶
//! ```
//!
//! A worker has no place on disk of its own, so what it sees as `/dev/full` is made a pipe of ours, in a mount namespace that only this
//! thread and what it starts are in. What was written into a pipe is read also when its writer has been killed since.

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::Failure;

/// What the pipe lies over: every worker may write to it, and none needs it.
const OVER: &str = "/dev/full";

/// What the pipe holds while its reader is not on a processor.
const PIPE_BYTES: i32 = 1 << 20;

/// The last line of a ledger.
const END: &[u8] = b"end\n";

/// A ledger that is being written.
#[derive(Debug)]
pub struct Ledger {
    pipe: File,
    file: PathBuf,
    reader: JoinHandle<std::io::Result<()>>,
}

impl Ledger {
    /// Lays one for this thread and everything that it starts from now on. Its file is in `folder`.
    ///
    /// # Errors
    /// We are not root, or the host refuses a mount namespace.
    pub fn lay(folder: &Path) -> Result<Self, Failure> {
        let (path, file) = (folder.join("ledger.pipe"), folder.join("ledger"));
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        // Open for both, so that there is no end of file while nobody writes.
        let pipe = File::options().read(true).write(true).open(&path)?;
        fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("a mount namespace for the ledger: {e}"))?;
        let none: Option<&Path> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some(&path), OVER, none, MsFlags::MS_BIND, none)?;
        let (from, to) = (pipe.try_clone()?, BufWriter::new(File::create(&file)?));
        let reader = std::thread::spawn(move || copy(from, to));
        Ok(Self { pipe, file, reader })
    }

    /// Ends it when everything that has been written so far is in the file, and reads that.
    ///
    /// # Errors
    /// The disk's, or a line that is none.
    pub fn close(mut self) -> Result<Account, Failure> {
        self.pipe.write_all(END)?;
        umount2(OVER, MntFlags::MNT_DETACH)?;
        self.reader.join().map_err(|_| "the reader of the ledger panicked")??;
        Account::read(&self.file)
    }
}

/// Until the last line.
fn copy(mut from: File, mut to: BufWriter<File>) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = from.read(&mut buffer)?;
        to.write_all(&buffer[..len])?;
        // It is written by itself when nobody else writes any more, so nothing comes after it.
        if buffer[..len].ends_with(END) {
            return to.into_inner()?.sync_all();
        }
    }
}

/// A call or a request, as who made it has seen it. Times are CLOCK_MONOTONIC, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which load it is part of.
    pub load: String,
    /// Its id.
    pub id: u64,
    /// When it was due.
    pub due: u64,
    /// When its caller had an answer.
    pub ended: u64,
    /// Until when it was waited for.
    pub deadline: u64,
    /// The version that answered, or why there was no answer.
    pub outcome: Result<String, String>,
}

impl Seen {
    /// From when it was due until there was an answer.
    #[must_use]
    pub fn took(&self) -> u64 {
        self.ended.saturating_sub(self.due)
    }
}

/// What was written down.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// How often each id was executed.
    pub executed: HashMap<u64, u32>,
    /// What became of each call, for who made it.
    pub seen: Vec<Seen>,
}

/// What an account comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Calls made.
    pub count: u64,
    /// Those without a good answer.
    pub failed: u64,
    /// Those that were answered, and not executed.
    pub lost: u64,
    /// Those that were executed more than once.
    pub duplicated: u64,
    /// Those that were answered after their deadline.
    pub late: u64,
    /// The first failures, in words.
    pub failures: Vec<String>,
}

impl Account {
    fn read(file: &Path) -> Result<Self, Failure> {
        let mut account = Self::default();
        for line in BufReader::new(File::open(file)?).lines() {
            let line = line?;
            account.enter(&line).ok_or_else(|| format!("{}: no line of a ledger: {line:?}", file.display()))?;
        }
        Ok(account)
    }

    /// Takes up a line; none if it is none.
    fn enter(&mut self, line: &str) -> Option<()> {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.splitn(6, ' ');
        match what {
            "executed" => *self.executed.entry(words.next()?.parse().ok()?).or_default() += 1,
            "answered" | "failed" => {
                let load = words.next()?.to_owned();
                let mut number = || words.next()?.parse().ok();
                let (id, due, ended, deadline) = (number()?, number()?, number()?, number()?);
                let text = words.next()?.to_owned();
                let outcome = if what == "answered" { Ok(text) } else { Err(text) };
                self.seen.push(Seen { load, id, due, ended, deadline, outcome });
            }
            "end" => {}
            _ => return None,
        }
        Some(())
    }

    /// Compares what callers were told with what was executed, for the calls that count.
    pub fn audit(&self, counts: impl Fn(&Seen) -> bool) -> Audit {
        let mut audit = Audit::default();
        for seen in self.seen.iter().filter(|it| counts(it)) {
            audit.count += 1;
            let executed = self.executed.get(&seen.id).copied().unwrap_or(0);
            audit.duplicated += u64::from(executed > 1);
            match &seen.outcome {
                Ok(_) => {
                    audit.lost += u64::from(executed == 0);
                    audit.late += u64::from(seen.ended > seen.deadline);
                }
                Err(why) => {
                    audit.failed += 1;
                    if audit.failures.len() < 10 {
                        audit.failures.push(format!("{} {}: {why}", seen.load, seen.id));
                    }
                }
            }
        }
        audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(lines: &[&str]) -> Account {
        let mut account = Account::default();
        for line in lines {
            account.enter(line).expect("a line");
        }
        account
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_lost_and_what_is_there_twice_was_executed_twice() {
        let account = account(&[
            "executed 1 1.0.0",
            "answered closed 1 10 20 100 1.0.0",
            "answered closed 2 10 20 100 1.0.0",
            "executed 3 1.0.0",
            "executed 3 2.0.0",
            "failed closed 3 10 30 100 it may have been executed",
            "executed 4 2.0.0",
            "answered open 4 10 101 100 2.0.0",
            "executed 5 2.0.0",
        ]);
        let all = account.audit(|_| true);
        assert_eq!(
            all,
            Audit {
                count: 4,
                failed: 1,
                lost: 1,
                duplicated: 1,
                late: 1,
                failures: vec!["closed 3: it may have been executed".to_owned()],
            }
        );
        let open = account.audit(|it| it.load == "open");
        assert_eq!((open.count, open.failed, open.late), (1, 0, 1));
        assert_eq!(account.seen[3].took(), 91);
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        for line in ["", "executed", "executed x 1.0.0", "answered closed 1 2 3", "paid 1"] {
            assert_eq!(Account::default().enter(line), None, "{line}");
        }
    }
}
