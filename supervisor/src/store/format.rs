//! How records lie in redb: one table a kind, values in rmp-serde's field-name form.
//!
//! A field that is added later has a serde default, and one that goes is ignored. What cannot be said that way counts
//! [`FORMAT`] up, and an older mortised then refuses the store.

use mortise_control::{GroupName, TenantName};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, TableError,
    TableHandle,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, MetaRecord, Records};
use crate::lifecycle::ModuleKey;

/// The format that this mortised writes. 2: routes, a version beside another, and operations of the kinds that came with them and with
/// rollback, discard and scale, which a mortised that reads up to 1 would take for damage. 3: tenants, and operations on them. 4:
/// limits that an operator says for a module, and the operation that does. 5: groups, and operations on them. 6:
/// limits above which a worker is slowed down, weights on processors, and what a tenant may have in the log. 7: the operation that has calls
/// sent to a version beside as well.
pub(super) const FORMAT: u32 = 7;

const MODULES: Kind = TableDefinition::new("modules");
const VERSIONS: Kind = TableDefinition::new("versions");
const WORKERS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("workers");
const OPERATIONS: Kind = TableDefinition::new("operations");
const ROUTES: Kind = TableDefinition::new("routes");
const GROUPS: Kind = TableDefinition::new("groups");
const TENANTS: Kind = TableDefinition::new("tenants");
const META: Kind = TableDefinition::new("meta");

type Kind = TableDefinition<'static, &'static str, &'static [u8]>;

/// Keys of [`META`].
const META_FORMAT: &str = "format";
const META_COMMITS: &str = "commits";
const META_RECORD: &str = "supervisor";

/// Why a store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    #[error(transparent)]
    Redb(#[from] Box<redb::Error>),
    #[error("the record {key} of the table {table:?} cannot be read: {problem}")]
    Record { table: String, key: String, problem: String },
    #[error("its format is {0}")]
    Newer(u32),
}

impl From<std::io::Error> for FormatError {
    fn from(error: std::io::Error) -> Self {
        redb(redb::Error::Io(error))
    }
}

fn redb<E: Into<redb::Error>>(error: E) -> FormatError {
    FormatError::Redb(Box::new(error.into()))
}

/// Everything in the store, and how many transactions made it.
pub(super) fn read(database: &Database) -> Result<(Records, u64), FormatError> {
    let transaction = database.begin_read().map_err(redb)?;
    // The format first: nothing else of a newer store need make sense here.
    match one::<u32>(&transaction, META_FORMAT)? {
        Some(format) if format > FORMAT => return Err(FormatError::Newer(format)),
        Some(_) | None => {}
    }
    let mut records = Records {
        modules: all(&transaction, MODULES)?,
        versions: all(&transaction, VERSIONS)?,
        workers: all(&transaction, WORKERS)?,
        operations: all(&transaction, OPERATIONS)?,
        routes: all(&transaction, ROUTES)?,
        groups: all(&transaction, GROUPS)?,
        tenants: all(&transaction, TENANTS)?,
        meta: one::<MetaRecord>(&transaction, META_RECORD)?.unwrap_or_default(),
    };
    records.modules.sort_by(|a, b| a.key.cmp(&b.key));
    records.groups.sort_by(|a, b| (&a.tenant, &a.group).cmp(&(&b.tenant, &b.group)));
    records.versions.sort_by(|a, b| (&a.key, &a.spec.version).cmp(&(&b.key, &b.spec.version)));
    Ok((records, one(&transaction, META_COMMITS)?.unwrap_or(0)))
}

/// How many transactions made the store: tells after an error whether the last one is in it.
pub(super) fn commits(database: &Database) -> Result<u64, FormatError> {
    let transaction = database.begin_read().map_err(redb)?;
    Ok(one(&transaction, META_COMMITS)?.unwrap_or(0))
}

/// Makes all changes and counts the transaction, or does nothing.
pub(super) fn write(database: &Database, changes: &[Change], number: u64) -> Result<(), FormatError> {
    let mut transaction = database.begin_write().map_err(redb)?;
    // The pointer to the new state is written after the state is on disk, so a store whose newest state does not fit its
    // checksums is damaged, never merely torn: redb refuses it instead of going back to the state before.
    transaction.set_two_phase_commit(true);
    for change in changes {
        apply(&transaction, change)?;
    }
    {
        let mut meta = transaction.open_table(META).map_err(redb)?;
        put(&mut meta, META_FORMAT, &FORMAT)?;
        put(&mut meta, META_COMMITS, &number)?;
    }
    transaction.commit().map_err(redb)
}

fn apply(transaction: &redb::WriteTransaction, change: &Change) -> Result<(), FormatError> {
    let table = |kind| transaction.open_table(kind).map_err(redb);
    match change {
        Change::PutModule(record) => put(&mut table(MODULES)?, &module_key(&record.key), record),
        Change::RemoveModule(key) => remove(&mut table(MODULES)?, &module_key(key)),
        Change::PutVersion(record) => {
            put(&mut table(VERSIONS)?, &version_key(&record.key, &record.spec.version), record)
        }
        Change::RemoveVersion(key, version) => remove(&mut table(VERSIONS)?, &version_key(key, version)),
        Change::PutWorker(record) => {
            let mut workers = transaction.open_table(WORKERS).map_err(redb)?;
            workers.insert(record.worker.slot, encode(record).as_slice()).map_err(redb)?;
            Ok(())
        }
        Change::PutOperation(record) => put(&mut table(OPERATIONS)?, &record.operation.id.0, record),
        Change::RemoveOperation(id) => remove(&mut table(OPERATIONS)?, &id.0),
        Change::PutRoutes(record) => put(&mut table(ROUTES)?, record.tenant.as_str(), record),
        Change::PutGroup(record) => put(&mut table(GROUPS)?, &group_key(&record.tenant, &record.group), record),
        Change::RemoveGroup(tenant, group) => remove(&mut table(GROUPS)?, &group_key(tenant, group)),
        Change::PutTenant(record) => put(&mut table(TENANTS)?, record.tenant.as_str(), record),
        Change::RemoveTenant(tenant) => remove(&mut table(TENANTS)?, tenant.as_str()),
        Change::PutMeta(record) => put(&mut table(META)?, META_RECORD, record),
    }
}

/// Names have no `/` in them, so the key of a module is unambiguous, and so is that of a version.
fn module_key(key: &ModuleKey) -> String {
    key.to_string()
}

fn version_key(key: &ModuleKey, version: &semver::Version) -> String {
    format!("{key}/{version}")
}

fn group_key(tenant: &TenantName, group: &GroupName) -> String {
    format!("{tenant}/{group}")
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    // Plain data of known shape: there is no map without a length and no value that msgpack has no form for.
    rmp_serde::to_vec_named(record).expect("a record is plain data, which msgpack can say")
}

fn put(table: &mut Table<'_, &str, &[u8]>, key: &str, record: &impl Serialize) -> Result<(), FormatError> {
    table.insert(key, encode(record).as_slice()).map_err(redb)?;
    Ok(())
}

fn remove(table: &mut Table<'_, &str, &[u8]>, key: &str) -> Result<(), FormatError> {
    table.remove(key).map_err(redb)?;
    Ok(())
}

fn decode<T: DeserializeOwned>(
    table: impl TableHandle,
    key: impl std::fmt::Debug,
    bytes: &[u8],
) -> Result<T, FormatError> {
    rmp_serde::from_slice(bytes).map_err(|error| FormatError::Record {
        table: table.name().to_owned(),
        key: format!("{key:?}"),
        problem: error.to_string(),
    })
}

fn one<T: DeserializeOwned>(transaction: &ReadTransaction, key: &'static str) -> Result<Option<T>, FormatError> {
    let table = match transaction.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(redb(error)),
    };
    let value = table.get(key).map_err(redb)?;
    value.map(|bytes| decode(META, key, bytes.value())).transpose()
}

fn all<K, T>(
    transaction: &ReadTransaction,
    kind: TableDefinition<'static, K, &'static [u8]>,
) -> Result<Vec<T>, FormatError>
where
    K: redb::Key + 'static,
    for<'a> K::SelfType<'a>: std::fmt::Debug,
    T: DeserializeOwned,
{
    let table = match transaction.open_table(kind) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(redb(error)),
    };
    let mut records = Vec::new();
    for entry in table.iter().map_err(redb)? {
        let (key, value) = entry.map_err(redb)?;
        records.push(decode(kind, key.value(), value.value())?);
    }
    Ok(records)
}
