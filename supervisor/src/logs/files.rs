//! Lines in files: one per module, with a bounded number of older ones.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mortise_control::{ModuleName, TenantName};

use crate::api::LogLine;

/// Lines that may be on their way to the disk. What comes while there are more is not in the files, and they say so.
const WAITING_LINES: usize = 4096;

/// Lines that are written together.
const BATCH_LINES: usize = 512;

/// Files that are held open.
const OPEN_FILES: usize = 64;

/// Files `FOLDER/TENANT/MODULE.log`, one JSON object a line, each with older ones `.1`, `.2`, …
#[derive(Clone, Debug)]
pub struct FileMirror {
    /// The folder: `STATE/logs`.
    pub folder: PathBuf,
    /// A file that would grow over this many bytes becomes the next older one.
    pub file_bytes: u64,
    /// So many older ones are kept.
    pub older: u32,
}

/// The thread that writes the files: no worker's line waits for a disk.
#[derive(Debug)]
pub(super) struct FileWriter {
    /// None once it is dropped.
    lines: Option<SyncSender<Arc<LogLine>>>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl FileWriter {
    pub fn start(mirror: FileMirror) -> io::Result<Self> {
        make_folder(&mirror.folder)?;
        let (lines, incoming) = sync_channel(WAITING_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let files = Files { mirror, open: HashMap::new(), lost: Arc::clone(&lost) };
        let thread = std::thread::Builder::new().name("log-files".into()).spawn(move || files.run(&incoming))?;
        Ok(Self { lines: Some(lines), lost, thread: Mutex::new(Some(thread)) })
    }

    pub fn append(&self, line: Arc<LogLine>) {
        let Some(lines) = &self.lines else { return };
        match lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

struct Files {
    mirror: FileMirror,
    open: HashMap<(TenantName, ModuleName), OpenFile>,
    /// Lines that are in no file and that no file tells of yet.
    lost: Arc<AtomicU64>,
}

struct OpenFile {
    path: PathBuf,
    out: BufWriter<File>,
    bytes: u64,
}

impl Files {
    fn run(mut self, incoming: &Receiver<Arc<LogLine>>) {
        let mut failing = false;
        while let Ok(first) = incoming.recv() {
            let rest = incoming.try_iter().take(BATCH_LINES - 1);
            let batch: Vec<_> = std::iter::once(first).chain(rest).collect();
            let lines = batch.len() as u64;
            let written = batch.iter().try_for_each(|line| self.write(line)).and_then(|()| self.flush());
            if let Err(error) = &written {
                // What of the batch is in a file nobody knows. The files are opened anew for the next one.
                self.open.clear();
                self.lost.fetch_add(lines, Ordering::Relaxed);
                if !failing {
                    tracing::error!(%error, folder = ?self.mirror.folder, "log files cannot be written");
                }
            }
            failing = written.is_err();
        }
    }

    fn write(&mut self, line: &LogLine) -> io::Result<()> {
        let mut text = Vec::with_capacity(256 + line.text.len());
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            writeln!(text, "{{\"lost\":{lost}}}")?;
        }
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');

        let key = (line.tenant.clone(), line.module.clone());
        if !self.open.contains_key(&key) && self.open.len() >= OPEN_FILES {
            self.flush()?;
            self.open.clear();
        }
        let file = match self.open.entry(key) {
            std::collections::hash_map::Entry::Occupied(it) => it.into_mut(),
            std::collections::hash_map::Entry::Vacant(it) => {
                let path = path(&self.mirror.folder, line)?;
                it.insert(OpenFile::open(path)?)
            }
        };
        if file.bytes > 0 && file.bytes + text.len() as u64 > self.mirror.file_bytes {
            file.rotate(self.mirror.older)?;
        }
        file.out.write_all(&text)?;
        file.bytes += text.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.values_mut().try_for_each(|file| file.out.flush())
    }
}

impl OpenFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, out: BufWriter::new(file), bytes })
    }

    fn rotate(&mut self, older: u32) -> io::Result<()> {
        self.out.flush()?;
        let numbered = |number: u32| match number {
            0 => self.path.clone(),
            number => self.path.with_extension(format!("log.{number}")),
        };
        for number in (0..older).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if older == 0 {
            fs::remove_file(&self.path)?;
        }
        *self = Self::open(self.path.clone())?;
        Ok(())
    }
}

/// Names of tenants and modules are plain, so they are names of files too.
fn path(folder: &Path, line: &LogLine) -> io::Result<PathBuf> {
    let folder = folder.join(line.tenant.as_str());
    make_folder(&folder)?;
    Ok(folder.join(format!("{}.log", line.module)))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LogStream;
    use crate::logs::{LogSink, LogStore, Mirror};

    fn line(module: &str, text: &str) -> LogLine {
        LogLine {
            at: jiff::Timestamp::UNIX_EPOCH,
            tenant: TenantName::new("default").unwrap(),
            module: ModuleName::new(module).unwrap(),
            version: "1.0.0".into(),
            worker: "0.1".into(),
            stream: LogStream::Stdout,
            level: None,
            text: text.into(),
            fields: Default::default(),
            dropped_before: 0,
        }
    }

    fn sink(folder: &Path, file_bytes: u64, older: u32) -> LogSink {
        let mirror = Mirror::Files(FileMirror { folder: folder.join("logs"), file_bytes, older });
        LogSink::new(Arc::default(), mirror).unwrap()
    }

    fn texts(path: &Path) -> Vec<String> {
        let content = fs::read_to_string(path).unwrap_or_default();
        let text = |line: &str| serde_json::from_str::<LogLine>(line).unwrap().text;
        content.lines().map(text).collect()
    }

    #[test]
    fn every_module_has_its_file_and_a_bounded_past() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path(), 4096, 2);
        for number in 0..400 {
            sink.append(line("loud", &number.to_string()));
        }
        sink.append(line("quiet", "hush"));
        drop(sink);
        let at = folder.path().join("logs/default");
        assert_eq!(texts(&at.join("quiet.log")), ["hush"]);
        let mut names: Vec<_> =
            fs::read_dir(&at).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["loud.log", "loud.log.1", "loud.log.2", "quiet.log"]);
        let kept: Vec<String> =
            ["loud.log.2", "loud.log.1", "loud.log"].iter().flat_map(|name| texts(&at.join(name))).collect();
        let expected: Vec<String> = (400 - kept.len()..400).map(|it| it.to_string()).collect();
        assert_eq!(kept, expected, "the latest lines, in order, none twice");
        for name in names {
            assert!(fs::metadata(at.join(&name)).unwrap().len() <= 4096, "{name}");
        }
    }

    #[test]
    fn a_later_supervisor_goes_on_where_the_earlier_ended() {
        let folder = tempfile::tempdir().unwrap();
        for round in ["one", "two"] {
            sink(folder.path(), 1 << 20, 0).append(line("a", round));
        }
        assert_eq!(texts(&folder.path().join("logs/default/a.log")), ["one", "two"]);
    }

    #[test]
    fn more_modules_than_open_files() {
        let folder = tempfile::tempdir().unwrap();
        let sink = sink(folder.path(), 1 << 20, 1);
        for round in 0..2 {
            for module in 0..OPEN_FILES + 10 {
                sink.append(line(&format!("m{module}"), &round.to_string()));
            }
        }
        drop(sink);
        for module in 0..OPEN_FILES + 10 {
            assert_eq!(texts(&folder.path().join(format!("logs/default/m{module}.log"))), ["0", "1"]);
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed_and_nothing_else_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "as it was").unwrap();
        fs::create_dir_all(folder.path().join("logs/default")).unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("logs/default/a.log")).unwrap();
        let store = Arc::new(LogStore::default());
        let mirror = FileMirror { folder: folder.path().join("logs"), file_bytes: 1 << 20, older: 1 };
        let sink = LogSink::new(Arc::clone(&store), Mirror::Files(mirror)).unwrap();
        sink.append(line("a", "x"));
        drop(sink);
        assert_eq!(fs::read_to_string(target).unwrap(), "as it was");
        let (tenant, module) = (TenantName::new("default").unwrap(), ModuleName::new("a").unwrap());
        assert_eq!(store.tail(&tenant, &module, 10).len(), 1, "it is still in memory");
    }
}
