//! The state on disk: one redb file with desired state, installed versions, worker records and the journal of operations.
//!
//! ```text
//!   Action::Persist ──▶ StoreWriter ──channel──▶ thread "store" ── Store::commit ── fsync ──▶ Event::Persisted
//!                                                                       │ on an I/O error: close, reopen, look
//!                                                                       ▼
//!                                                                     redb, then the copy
//! ```
//! redb is the truth. `copy.rs` keeps the same in another form; a store that `check.rs` finds damaged is kept aside and made anew from
//! that, or from the packages (`rebuild.rs`).

mod check;
mod copy;
mod disk;
mod error;
mod fold;
mod format;
mod rebuild;
mod record;
mod writer;

pub use check::check;
pub use disk::Store;
pub use error::StoreError;
pub use rebuild::{Rebuilt, Source, is_contained, kept_aside, open, snapshot};
pub use record::{
    BesideRecord, Change, EndKind, EndRecord, GroupRecord, KeptRecord, MetaRecord, ModuleRecord, OccupantRecord,
    OperationRecord, Records, RoutesRecord, RoutesVersion, TenantRecord, VersionRecord, WorkerRecord,
};
pub use writer::StoreWriter;

#[cfg(test)]
mod tests;
