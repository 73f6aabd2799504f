//! The state on disk: one redb file with desired state, installed versions, worker records and the journal of operations.

mod record;

pub use record::{
    Change, EndKind, EndRecord, MetaRecord, ModuleRecord, OccupantRecord, OperationRecord, Records, VersionRecord,
    WorkerRecord,
};
