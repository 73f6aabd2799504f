//! Where lines go beside the memory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::LogStore;

/// Where every line of every worker goes. One for the whole supervisor.
#[derive(Debug)]
pub struct LogSink {}

/// Where lines go beside the memory.
#[derive(Clone, Debug)]
pub enum Mirror {
    /// Nowhere.
    None,
    /// To the supervisor's own log, as `tracing` events of the target `mortise::worker`.
    Tracing,
    /// To files.
    Files(FileMirror),
}

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

impl LogSink {
    /// A sink into `store` and `mirror`.
    ///
    /// # Errors
    /// When there is no thread to be had that writes files.
    pub fn new(store: Arc<LogStore>, mirror: Mirror) -> io::Result<Self> {
        let _ = (store, mirror);
        unimplemented!()
    }
}
