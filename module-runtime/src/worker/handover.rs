//! State that goes from version to version: the one that is replaced writes it when nobody calls it any more, the one that
//! replaces it reads it before anybody does.
//!
//! The author's code runs in a thread of its own: where it hangs, the supervisor gives up, and the worker serves again.

use std::any::Any;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};

use mortise_control::{ExportedState, ResourceName, ToSupervisor};

use super::shared::Shared;
use crate::Error;
use crate::resource::Resource;

/// The longest reason that the supervisor is told; the log has all of it.
const REASON_MOST: usize = 1024;

/// What is written goes to the memory in pieces of this size.
const PIECE: usize = 64 * 1024;

type Export = dyn Fn(&mut StateWriter) -> Result<(), String> + Send + Sync;
type Import = dyn Fn(u32, &[u8]) -> Result<(), String> + Send + Sync;

/// Where a worker writes its state. What is written is buffered; there is a limit, `handover.max_bytes` of module.toml.
#[derive(Debug)]
pub struct StateWriter(BufWriter<Limited>);

/// Counts, and keeps to the limit also where its author does not look at errors.
#[derive(Debug)]
struct Limited {
    file: File,
    written: u64,
    most: u64,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.most - self.written {
            self.exceeded = true;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_large(self.most)));
        }
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large(most: u64) -> String {
    format!("the state has more than handover.max_bytes = {most} bytes")
}

impl Write for StateWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl StateWriter {
    pub(crate) fn new(memory: OwnedFd, most: u64) -> Self {
        let limited = Limited { file: memory.into(), written: 0, most, exceeded: false };
        Self(BufWriter::with_capacity(PIECE, limited))
    }

    fn finish(mut self) -> Result<u64, String> {
        let flushed = self.0.flush();
        let Limited { written, most, exceeded, .. } = *self.0.get_ref();
        if exceeded {
            return Err(too_large(most));
        }
        flushed.map(|()| written).map_err(|error| format!("the state cannot be written: {error}"))
    }
}

/// Both halves as their author gives them, one after the other.
#[derive(Default)]
pub(crate) struct Halves {
    export: Option<(u32, Box<Export>)>,
    import: Option<Box<Import>>,
}

impl Halves {
    pub(crate) fn export<E: Display>(
        &mut self,
        version: u32,
        export: impl Fn(&mut StateWriter) -> Result<(), E> + Send + Sync + 'static,
    ) {
        let export = move |to: &mut StateWriter| export(to).map_err(|error| error.to_string());
        self.export = Some((version, Box::new(export)));
    }

    pub(crate) fn import<E: Display>(&mut self, import: impl Fn(u32, &[u8]) -> Result<(), E> + Send + Sync + 'static) {
        self.import = Some(Box::new(move |version, bytes| import(version, bytes).map_err(|error| error.to_string())));
    }

    /// None: the worker hands nothing over.
    pub(crate) fn whole(self) -> Result<Option<Handover>, Error> {
        match (self.export, self.import) {
            (None, None) => Ok(None),
            (Some((version, export)), Some(import)) => {
                Ok(Some(Handover { version, export, import, works: AtomicBool::new(false) }))
            }
            (Some(_), None) => Err(Error::HalfHandover { is: "export_state", lacks: "import_state" }),
            (None, Some(_)) => Err(Error::HalfHandover { is: "import_state", lacks: "export_state" }),
        }
    }
}

impl fmt::Debug for Halves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Halves(export: {}, import: {})", self.export.is_some(), self.import.is_some())
    }
}

/// How a worker hands its state over.
pub(crate) struct Handover {
    pub(crate) version: u32,
    export: Box<Export>,
    import: Box<Import>,
    /// The author's code runs.
    works: AtomicBool,
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handover({})", self.version)
    }
}

impl Handover {
    /// Writes the state into this memory and lets go of it.
    pub(crate) fn export_to(&self, memory: OwnedFd, most: u64) -> Result<ExportedState, String> {
        let mut writer = StateWriter::new(memory, most);
        let exported = catch_unwind(AssertUnwindSafe(|| (self.export)(&mut writer))).map_err(panicked("export_state"));
        // That it is too large is the reason for whatever the author's code made of it.
        let written = writer.finish();
        match (exported?, written) {
            (Ok(()), Ok(len)) => Ok(ExportedState { version: self.version, len }),
            (_, Err(why)) => Err(why),
            (Err(why), Ok(_)) => Err(why),
        }
    }

    /// Reads the state from sealed memory.
    pub(crate) fn import_from(&self, version: u32, memory: OwnedFd, len: u64) -> Result<(), String> {
        let name = ResourceName::new("state").map_err(|error| error.to_string())?;
        let state = Resource::map(name, memory, len).map_err(|error| error.to_string())?;
        catch_unwind(AssertUnwindSafe(|| (self.import)(version, &state))).map_err(panicked("import_state"))?
    }
}

fn panicked(what: &'static str) -> impl FnOnce(Box<dyn Any + Send>) -> String {
    move |_| format!("{what} panicked (the message is in its output)")
}

impl Shared {
    /// Nobody calls the worker any more: its state is wanted.
    pub(crate) fn export_state(&self, id: u64, max_bytes: u64, fds: Vec<OwnedFd>) {
        self.hand_over(
            fds,
            move |it, memory| it.export_to(memory, max_bytes),
            move |outcome| ToSupervisor::StateExported { handover: id, outcome },
        );
    }

    /// The worker begins with this state.
    pub(crate) fn import_state(&self, id: u64, version: u32, len: u64, fds: Vec<OwnedFd>) {
        self.hand_over(
            fds,
            move |it, memory| it.import_from(version, memory, len),
            move |outcome| ToSupervisor::StateImported { handover: id, outcome },
        );
    }

    fn hand_over<T: 'static>(
        &self,
        fds: Vec<OwnedFd>,
        work: impl FnOnce(&Handover, OwnedFd) -> Result<T, String> + Send + 'static,
        say: impl Fn(Result<T, String>) -> ToSupervisor + Clone + Send + 'static,
    ) {
        let reports = self.reports.clone();
        let answer = move |outcome: Result<T, String>| {
            let told = |why: String| {
                tracing::error!("state is not handed over: {why}");
                why[..why.floor_char_boundary(REASON_MOST)].to_owned()
            };
            reports.send(say(outcome.map_err(told)));
        };
        let Some(handover) = self.state().handover.clone() else {
            return answer(Err("its code hands no state over".to_owned()));
        };
        let Some(memory) = fds.into_iter().next() else {
            return answer(Err("no memory came with the message".to_owned()));
        };
        if handover.works.swap(true, AcqRel) {
            return answer(Err("its code still works on an earlier hand-over".to_owned()));
        }
        let (theirs, later) = (Arc::clone(&handover), answer.clone());
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            let outcome = work(&theirs, memory);
            theirs.works.store(false, Release);
            later(outcome);
        });
        if let Err(error) = thread {
            handover.works.store(false, Release);
            answer(Err(format!("no thread for it can be started: {error}")));
        }
    }
}
