//! A worker's output, through real FIFOs: whatever is written, by whatever writes, comes out as bounded lines that no terminal and
//! no log file obeys, in their order, and every line is either there or counted.
//!
//! ```text
//!   input: ROLE-AND-STREAM │ BYTES OF A WRITE │ STRETCH │ output, in which each 0x7f stands for 64 × STRETCH letters
//! ```
#![no_main]

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mortise_control::log_line::LogEvent;
use mortise_control::{ModuleName, Role, TenantName, WorkerId};
use mortise_supervisor::api::{LogLine, LogStream};
use mortise_supervisor::logs::{LogSink, LogSource, LogStore, Mirror, WorkerOutput};
use nix::fcntl::OFlag;
use tokio::net::unix::pipe::Sender;
use tokio::runtime::Runtime;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// The longest text that is kept of a line.
const TEXT: usize = 8192;
/// Output that one input may stand for.
const OUTPUT: usize = 256 << 10;

fuzz_target!(|bytes: &[u8]| {
    let [kind, write, stretch, output @ ..] = bytes else { return };
    let roles = [Role::Sdk, Role::Base, Role::Http];
    let role = roles[usize::from(kind >> 1) % roles.len()];
    let stream = if kind & 1 == 0 { LogStream::Stderr } else { LogStream::Stdout };
    let output = stretched(output, usize::from(*stretch) * 64);
    let Kept { lines, missed, latest } = runtime().block_on(through(role, stream, &output, usize::from(*write)));

    let written =
        output.split(|it| *it == b'\n').count() as u64 - u64::from(output.last().is_none_or(|it| *it == b'\n'));
    let kept = lines.iter().filter(|it| !it.text.ends_with("than its log may take)")).count() as u64;
    let dropped: u64 = lines.iter().map(|it| it.dropped_before).sum();
    // What says how many were dropped at the end can be written by the worker too; then it counts as a line.
    let counted = kept + dropped <= written && written <= lines.len() as u64 + dropped;
    assert!(counted || missed, "{kept} + {dropped} of {written}");
    for line in &lines {
        check(line, role, stream);
    }
    assert!(latest.len() <= 10, "{}", latest.len());
    for text in &latest {
        assert!(text.len() <= 512 && tame(text), "{text:?}");
    }
    if let Some(event) = LogEvent::parse(&output) {
        let again = LogEvent::parse(&event.to_line()).expect("what was read can be written and read");
        assert_eq!(again.level, event.level);
    }
});

fn check(line: &LogLine, role: Role, written_to: LogStream) {
    assert!(line.text.len() <= TEXT && tame(&line.text), "{line:?}");
    for (name, value) in &line.fields {
        assert!(name.len() <= TEXT && value.len() <= TEXT && tame(name) && tame(value), "{line:?}");
    }
    if line.stream == LogStream::Event {
        assert!(role != Role::Http && written_to == LogStream::Stderr, "{line:?}");
        assert!(line.level.is_some() && line.fields.contains_key("target"), "{line:?}");
        let trace = line.fields.get("trace");
        assert!(trace.is_none_or(|it| it.len() == 32 && it.bytes().all(|b| b.is_ascii_hexdigit())), "{line:?}");
    }
    // As it goes to a file: one line, whatever is in it.
    let json = serde_json::to_string(line).expect("a line is JSON");
    assert!(!json.contains(char::is_control), "{json:?}");
}

/// Nothing that a terminal obeys.
fn tame(text: &str) -> bool {
    !text.chars().any(|c| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    })
}

fn stretched(output: &[u8], by: usize) -> Vec<u8> {
    let mut written = Vec::new();
    for byte in output {
        match byte {
            0x7f if written.len() + by <= OUTPUT => written.resize(written.len() + by, b'y'),
            it => written.push(*it),
        }
    }
    written
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        // Its clock stands still unless everything waits for it: the limits of a second are those of an instant.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime")
    })
}

/// What is kept of an output.
struct Kept {
    lines: Vec<Arc<LogLine>>,
    /// More lines came at once than a follower may fall behind.
    missed: bool,
    latest: Vec<String>,
}

impl Kept {
    fn follow(&mut self, coming: &mut Receiver<Arc<LogLine>>) {
        loop {
            match coming.try_recv() {
                Ok(line) => self.lines.push(line),
                Err(TryRecvError::Lagged(_)) => self.missed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}

async fn through(role: Role, stream: LogStream, output: &[u8], write: usize) -> Kept {
    let (tenant, module) = (TenantName::new("default").expect("a name"), ModuleName::new("m").expect("a name"));
    let source = LogSource {
        tenant: tenant.clone(),
        module: module.clone(),
        version: "1.0.0".parse().expect("a version"),
        worker: WorkerId { slot: 0, generation: 1 },
        role,
    };
    let store = Arc::new(LogStore::default());
    let mut coming = store.follow(&tenant, &module, 0).coming;
    let sink = Arc::new(LogSink::new(store, Mirror::None).expect("a sink"));
    let (busy, into_busy) = fifo();
    let (silent, into_silent) = fifo();
    let (stdout, stderr) = if stream == LogStream::Stdout { (busy, silent) } else { (silent, busy) };
    let reading = WorkerOutput::read(source, stdout, stderr, &sink).expect("FIFOs");
    let into_busy = Sender::from_owned_fd(into_busy).expect("a FIFO");
    let mut kept = Kept { lines: Vec::new(), missed: false, latest: Vec::new() };
    let piece = if write == 0 { output.len().max(1) } else { write.max(output.len() / 64) };
    for mut piece in output.chunks(piece) {
        while !piece.is_empty() {
            match into_busy.try_write(piece) {
                Ok(bytes) => piece = &piece[bytes..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    into_busy.writable().await.expect("a FIFO");
                }
                Err(error) => panic!("{error}"),
            }
        }
        // The reader's turn: time passes when there is nothing left to read.
        tokio::time::sleep(Duration::from_millis(1)).await;
        kept.follow(&mut coming);
    }
    drop((into_busy, into_silent));
    kept.latest = reading.end(Duration::from_secs(10)).await;
    kept.follow(&mut coming);
    kept
}

/// A non-blocking end for the reader, and the writer's.
fn fifo() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("a pipe")
}
