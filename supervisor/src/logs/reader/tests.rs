//! Output as a hostile worker would write it, through real FIFOs.

use std::io::Write as _;
use std::os::fd::AsFd as _;

use mortise_control::log_line::{Level, LogEvent};
use mortise_control::{ModuleName, Role, TenantName, WorkerId};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use semver::Version;

use super::*;
use crate::api::LogLine;
use crate::logs::{LogStore, Mirror};

struct Worker {
    stdout: std::fs::File,
    stderr: std::fs::File,
    output: WorkerOutput,
    store: Arc<LogStore>,
}

fn worker(role: Role) -> Worker {
    let store = Arc::new(LogStore::default());
    let sink = Arc::new(LogSink::new(Arc::clone(&store), Mirror::None).unwrap());
    let pipe = || {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        (read, std::fs::File::from(write))
    };
    let ((out, stdout), (err, stderr)) = (pipe(), pipe());
    let source = LogSource {
        tenant: TenantName::new("default").unwrap(),
        module: ModuleName::new("spell").unwrap(),
        version: Version::new(1, 0, 0),
        worker: WorkerId { slot: 3, generation: 7 },
        role,
    };
    Worker { stdout, stderr, output: WorkerOutput::read(source, out, err, &sink).unwrap(), store }
}

const LONG: Duration = Duration::from_secs(600);

impl Worker {
    /// The worker closes both streams; every line that it wrote.
    async fn exits(self) -> (Vec<Arc<LogLine>>, Vec<String>) {
        let Self { stdout, stderr, mut output, store } = self;
        drop((stdout, stderr));
        while output.readers.join_next().await.is_some() {}
        let latest = output.end(LONG).await;
        (store.tail(&TenantName::new("default").unwrap(), &ModuleName::new("spell").unwrap(), usize::MAX), latest)
    }
}

fn event(text: &str) -> LogEvent {
    LogEvent {
        level: Level::Warn,
        target: "spell::index".into(),
        text: text.into(),
        trace: Some("0af7651916cd43dd8448eb211c80319c".into()),
        fields: [("word".to_owned(), "te\u{1b}h".to_owned()), ("trace".to_owned(), "forged".to_owned())].into(),
    }
}

#[tokio::test]
async fn lines_arrive_with_their_stream_and_the_worker() {
    let mut worker = worker(Role::Http);
    worker.stdout.write_all(b"one\ntwo\r\nwithout end").unwrap();
    worker.stderr.write_all(b"\x1b[31mred\n\n").unwrap();
    let (lines, latest) = worker.exits().await;
    let of = |stream| lines.iter().filter(|it| it.stream == stream).map(|it| it.text.as_str()).collect::<Vec<_>>();
    assert_eq!(of(LogStream::Stdout), ["one", "two", "without end"]);
    assert_eq!(of(LogStream::Stderr), ["\\u{1b}[31mred", ""]);
    assert_eq!((lines[0].worker.as_str(), lines[0].version.as_str()), ("3.7", "1.0.0"));
    assert_eq!(latest.len(), 5);
}

#[tokio::test]
async fn structured_lines_are_those_of_an_sdk_on_stderr() {
    for (role, to_stderr, structured) in
        [(Role::Sdk, true, true), (Role::Base, true, true), (Role::Http, true, false), (Role::Sdk, false, false)]
    {
        let mut worker = worker(role);
        let line = event("a\nb").to_line();
        let untraced = LogEvent { trace: None, ..event("c") }.to_line();
        let out = if to_stderr { &mut worker.stderr } else { &mut worker.stdout };
        out.write_all(&line).unwrap();
        out.write_all(&untraced).unwrap();
        out.write_all(b"\x1e{\"v\":1,\"level\":\"INFO\"\n").unwrap();
        let (lines, latest) = worker.exits().await;
        assert_eq!(lines.len(), 3);
        assert!(lines[2].stream != LogStream::Event && lines[2].text.starts_with("\\u{1e}{"), "{:?}", lines[2]);
        assert_eq!(lines[0].stream == LogStream::Event, structured, "{role:?}");
        if structured {
            assert_eq!((lines[0].level.as_deref(), lines[0].text.as_str()), (Some("WARN"), "a\\nb"));
            assert_eq!(lines[0].fields["word"], "te\\u{1b}h");
            assert_eq!(lines[0].fields["target"], "spell::index");
            assert_eq!(lines[0].fields["trace"], "0af7651916cd43dd8448eb211c80319c", "a field cannot forge it");
            assert_eq!(lines[1].fields.get("trace"), None, "nor when there is none");
            assert_eq!(latest[0], "WARN spell::index: a\\nb");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_bounded_counted_and_its_last_words_are_kept() {
    let mut worker = worker(Role::Sdk);
    let mut stdout = worker.stdout.try_clone().unwrap();
    let flood = tokio::task::spawn_blocking(move || {
        for number in 0..200_000 {
            writeln!(stdout, "line {number}").unwrap();
        }
    });
    flood.await.unwrap();
    worker.stderr.write_all(b"thread 'main' panicked: out of luck\n").unwrap();
    let (lines, latest) = worker.exits().await;
    let dropped: u64 = lines.iter().map(|it| it.dropped_before).sum();
    let told = lines.iter().filter(|it| it.text.contains("lines were dropped")).count() as u64;
    // The ring keeps the latest lines only, so what it does not hold was said on a line before them.
    assert!(dropped > 0 && told <= 1, "{dropped} were dropped, told {told} times");
    assert!(latest.iter().any(|it| it.contains("out of luck")), "{latest:?}");
    assert!(latest.iter().any(|it| it.contains("line 199999")), "{latest:?}");
}

#[tokio::test]
async fn the_end_is_not_waited_for_while_somebody_else_holds_the_fifo() {
    let Worker { mut stdout, stderr, output, store } = worker(Role::Sdk);
    stdout.write_all(b"last words\nand half a line").unwrap();
    // A process that the worker left behind holds both writing ends, and never writes again.
    let latest = output.end(LONG).await;
    assert_eq!(latest, ["last words", "and half a line"]);
    assert_eq!(store.tail(&TenantName::new("default").unwrap(), &ModuleName::new("spell").unwrap(), 10).len(), 2);
    drop((stdout, stderr));
}

#[tokio::test]
async fn a_process_left_behind_that_floods_does_not_hold_the_end_up() {
    let Worker { stdout, stderr, output, .. } = worker(Role::Sdk);
    let mut flooding = stdout.try_clone().unwrap();
    drop(stdout);
    let flood = tokio::task::spawn_blocking(move || while flooding.write_all(&[b'\n'; 4096]).is_ok() {});
    // Ends, though the flood never does: the test would hang otherwise. Then the reading end is closed, and the flood ends by EPIPE.
    output.end(LONG).await;
    flood.await.unwrap();
    drop(stderr);
}

#[tokio::test(start_paused = true)]
async fn dropped_lines_are_told_of_when_silence_follows() {
    let Worker { mut stdout, stderr, output, store } = worker(Role::Sdk);
    let (tenant, module) = (TenantName::new("default").unwrap(), ModuleName::new("spell").unwrap());
    let mut following = store.follow(&tenant, &module, 0);
    let (mut kept, mut told) = (0, 0);
    let mut count = |line: &LogLine| {
        kept += u64::from(line.text == "x");
        told += line.dropped_before;
        (kept, told)
    };
    // Time is paused: it runs on only when every task waits, so the flood is read before a second of silence passes.
    for _ in 0..10 {
        stdout.write_all(&b"x\n".repeat(1000)).unwrap();
        while let Ok(line) = tokio::time::timeout(Duration::from_millis(10), following.coming.recv()).await {
            count(&line.unwrap());
        }
    }
    // Nothing more is written, and yet every line is accounted for.
    loop {
        let (kept, told) = count(&following.coming.recv().await.unwrap());
        if kept + told == 10_000 {
            assert!(kept >= 4000 && told > 4000, "{kept} were kept, {told} dropped");
            break;
        }
    }
    drop((stdout, stderr, output));
}

#[tokio::test]
async fn only_fifos_are_read() {
    let file = tempfile::tempfile().unwrap();
    let sink = Arc::new(LogSink::new(Arc::default(), Mirror::None).unwrap());
    let source = LogSource {
        tenant: TenantName::new("default").unwrap(),
        module: ModuleName::new("spell").unwrap(),
        version: Version::new(1, 0, 0),
        worker: WorkerId { slot: 0, generation: 1 },
        role: Role::Sdk,
    };
    let fd = file.as_fd().try_clone_to_owned().unwrap();
    assert!(WorkerOutput::read(source, fd.try_clone().unwrap(), fd, &sink).is_err());
}
