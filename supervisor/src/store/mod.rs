//! The state on disk: one redb file with desired state, installed versions, worker records and the journal of operations.
//!
//! ```text
//!   Action::Persist ──▶ StoreWriter ──channel──▶ thread "store" ── Store::commit ── fsync ──▶ Event::Persisted
//!                                                                       │ on an I/O error: close, reopen, look
//!                                                                       ▼
//!                                                                     redb
//! ```

mod disk;
mod error;
mod format;
mod record;
mod writer;

pub use disk::Store;
pub use error::StoreError;
pub use record::{
    Change, EndKind, EndRecord, MetaRecord, ModuleRecord, OccupantRecord, OperationRecord, Records, VersionRecord,
    WorkerRecord,
};
pub use writer::StoreWriter;

#[cfg(test)]
mod tests;
