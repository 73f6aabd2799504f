//! Where lines go.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use mortise_control::TenantName;

use super::files::{FileMirror, FileWriter};
use super::quota::Quotas;
use super::{LogStore, files};
use crate::api::LogLine;

/// Where every line of every worker goes. One for the whole supervisor.
#[derive(Debug)]
pub struct LogSink {
    store: Arc<LogStore>,
    output: Output,
    quotas: Quotas,
}

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

#[derive(Debug)]
enum Output {
    None,
    Tracing,
    Files(FileWriter),
}

impl LogSink {
    /// A sink into `store` and `mirror`. Dropping it writes what is still on its way to files.
    ///
    /// # Errors
    /// When there is no thread or no folder to be had for files.
    pub fn new(store: Arc<LogStore>, mirror: Mirror) -> io::Result<Self> {
        let output = match mirror {
            Mirror::None => Output::None,
            Mirror::Tracing => Output::Tracing,
            Mirror::Files(files) => Output::Files(files::FileWriter::start(files)?),
        };
        Ok(Self { store, output, quotas: Quotas::default() })
    }

    /// The workers of a tenant may have so many bytes a second in the log together; none: as many as each may by itself.
    pub fn set_quota(&self, tenant: &TenantName, bytes: Option<u32>) {
        self.quotas.set(tenant, bytes, Instant::now());
    }

    /// Whether a line of so many bytes is within its tenant's quota; if so, it counts.
    pub(super) fn admits(&self, tenant: &TenantName, bytes: usize, now: Instant) -> bool {
        self.quotas.admit(tenant, bytes, now)
    }

    pub(super) fn append(&self, line: LogLine) {
        let line = self.store.append(line);
        match &self.output {
            Output::None => {}
            Output::Tracing => trace(&line),
            Output::Files(files) => files.append(line),
        }
    }
}

/// A line in the supervisor's own log. The level of a `tracing` event is part of its code, hence one for each.
fn trace(line: &LogLine) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                target: "mortise::worker",
                tenant = %line.tenant,
                module = %line.module,
                version = line.version,
                worker = line.worker,
                stream = ?line.stream,
                trace = line.fields.get("trace"),
                fields = ?line.fields,
                dropped_before = line.dropped_before,
                "{}",
                line.text
            )
        };
    }
    match line.level.as_deref() {
        Some("ERROR") => event!(error),
        Some("WARN") => event!(warn),
        Some("DEBUG") => event!(debug),
        Some("TRACE") => event!(trace),
        Some(_) | None => event!(info),
    }
}
