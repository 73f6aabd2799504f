//! The store against the outcome of its changes, on a disk that fails, tears and loses power.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mortise_control::{GroupName, ModuleName, ServiceName, TenantName, Token, WorkerId};
use proptest::prelude::*;
use redb::StorageBackend;
use semver::Version;

use super::disk::builder;
use super::fold::Fold;
use super::format::FORMAT;
use super::*;
use crate::api::{Desired, Operation, OperationId, OperationState, Request, TenantLimits};
use crate::lifecycle::{CommitId, Event, ModuleKey, ModuleSpec};
use crate::manifest::Manifest;

mod damage;

/// A disk whose unsynced writes are lost with its power.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Plates>>);

#[derive(Debug, Default)]
struct Plates {
    durable: Vec<u8>,
    /// What a reader sees: `durable` with every write on top.
    seen: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Write>,
    /// The operation after so many more fails, in this way.
    fault: Option<(u32, Fault)>,
    /// Every operation fails.
    off: bool,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is not done.
    Refused,
    /// It is done, and the answer is an error all the same.
    DoneButDenied,
    /// It and everything after it is not done until the disk is mended.
    Gone,
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes(at, data) => {
                if bytes.len() < at + data.len() {
                    bytes.resize(at + data.len(), 0);
                }
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

impl Disk {
    fn plates(&self) -> std::sync::MutexGuard<'_, Plates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operate(&self, act: impl FnOnce(&mut Plates)) -> io::Result<()> {
        let mut plates = self.plates();
        let broken = || Err(io::Error::from_raw_os_error(libc::EIO));
        if plates.off {
            return broken();
        }
        match &mut plates.fault {
            Some((0, fault)) => {
                let fault = *fault;
                plates.fault = None;
                match fault {
                    Fault::Refused => {}
                    Fault::DoneButDenied => act(&mut plates),
                    Fault::Gone => plates.off = true,
                }
                broken()
            }
            Some((left, _)) => {
                *left -= 1;
                act(&mut plates);
                Ok(())
            }
            None => {
                act(&mut plates);
                Ok(())
            }
        }
    }

    /// Power goes: of what was not synced some is on the plates, some is not, some in part.
    fn lose_power(&self, luck: &[u8]) {
        let mut plates = self.plates();
        let plates = &mut *plates;
        for (write, luck) in plates.pending.drain(..).zip(luck.iter().cycle()) {
            match (luck % 3, write) {
                (0, _) => {}
                (1, Write::Bytes(at, data)) => {
                    let kept = (data.len() / 2).next_multiple_of(512).min(data.len());
                    Write::Bytes(at, data[..kept].to_vec()).apply(&mut plates.durable);
                }
                (_, write) => write.apply(&mut plates.durable),
            }
        }
        plates.seen = plates.durable.clone();
        (plates.off, plates.fault) = (false, None);
    }

    fn open(&self) -> Result<(Store, Records), StoreError> {
        let disk = self.clone();
        Store::open_with(Path::new("/disk/store"), Box::new(move || builder().create_with_backend(disk.clone())))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.plates().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let plates = self.plates();
        let at = usize::try_from(offset).unwrap();
        let bytes = plates.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        if plates.off {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(|plates| {
            let write = Write::Length(usize::try_from(len).unwrap());
            write.apply(&mut plates.seen);
            plates.pending.push(write);
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|plates| {
            plates.durable.clone_from(&plates.seen);
            plates.pending.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(|plates| {
            let write = Write::Bytes(usize::try_from(offset).unwrap(), data.to_vec());
            write.apply(&mut plates.seen);
            plates.pending.push(write);
        })
    }
}

fn key(number: u8) -> ModuleKey {
    // `a-b` sorts before `a/…` as bytes and after it as names.
    let (tenant, module) = [("a", "x"), ("a-b", "x"), ("a", "x-y"), ("b", "z")][usize::from(number) % 4];
    ModuleKey { tenant: TenantName::new(tenant).unwrap(), module: ModuleName::new(module).unwrap() }
}

fn version(number: u8) -> Version {
    Version::new(u64::from(number % 3) * 9 + 1, 0, 0)
}

fn spec(key: &ModuleKey, version: Version) -> ModuleSpec {
    let text = format!("name = \"{}\"\nversion = \"{version}\"\nruntime = \"sdk\"\nexec = \"x\"\n", key.module);
    ModuleSpec::from(&Manifest::parse(&text, "module.toml").unwrap())
}

fn module_record(number: u8) -> ModuleRecord {
    ModuleRecord {
        key: key(number),
        desired: if number.is_multiple_of(2) { Desired::Running } else { Desired::Installed },
        version: number.is_multiple_of(3).then(|| version(number)),
        published: Default::default(),
        cohort: number.into(),
        beside: number.is_multiple_of(7).then(|| BesideRecord {
            version: version(number / 3),
            cohort: 1,
            share: 5,
            paused: number.is_multiple_of(2),
            shadow: u32::from(number) % 101,
            shadow_run: number.into(),
        }),
        limits: crate::api::ModuleLimits::default(),
        instances: number.is_multiple_of(5).then_some(number.into()),
        kept: number.is_multiple_of(4).then(|| KeptRecord {
            version: version(number / 2),
            cohort: 0,
            until: jiff::Timestamp::UNIX_EPOCH,
        }),
    }
}

fn group(number: u8) -> GroupName {
    GroupName::new(["shop", "words"][usize::from(number / 2 % 2)]).unwrap()
}

fn change() -> impl Strategy<Value = Change> {
    let operation = |number: u8| OperationId(format!("operation {} /\u{1f980}", number % 5));
    any::<(u8, u8)>().prop_map(move |(kind, number)| match kind % 12 {
        0 => Change::PutModule(module_record(number)),
        1 => Change::RemoveModule(key(number)),
        2 => Change::PutVersion(Box::new(VersionRecord {
            spec: spec(&key(number), version(number / 4)),
            key: key(number),
            digest: "ab".repeat(32),
            installed: jiff::Timestamp::UNIX_EPOCH,
        })),
        3 => Change::RemoveVersion(key(number), version(number / 4)),
        4 => Change::PutWorker(WorkerRecord {
            worker: WorkerId { slot: u32::from(number % 6) * 100, generation: number.into() },
            occupant: number.is_multiple_of(2).then(|| OccupantRecord {
                key: key(number),
                version: version(number),
                digest: "cd".repeat(32),
                cohort: 1,
                token: Token([number; 16]),
                uid: 200_000,
                process: Some((7, u64::MAX)),
                restarts: 1,
                failures: 2,
                frozen: number.is_multiple_of(4),
                ended: None,
            }),
        }),
        5 => Change::PutOperation(Box::new(OperationRecord {
            operation: Operation {
                id: operation(number),
                request: Request::Stop { tenant: key(number).tenant, module: key(number).module },
                state: OperationState::Running,
                steps: Vec::new(),
                error: None,
                receipt: None,
                started: jiff::Timestamp::UNIX_EPOCH,
                ended: None,
            },
            order: number.into(),
            // Large enough that pages split and are freed.
            verdict: None,
            part_of: number.is_multiple_of(3).then(|| operation(number / 2)),
            removes: vec!["x".repeat(usize::from(number) * 20)],
        })),
        6 => Change::RemoveOperation(operation(number)),
        7 => Change::PutTenant(Box::new(TenantRecord {
            tenant: key(number).tenant,
            since: jiff::Timestamp::UNIX_EPOCH,
            exports: [(ServiceName::new("spell").unwrap(), [key(number).tenant].into())].into(),
            imports: Default::default(),
            limits: TenantLimits { workers: number.is_multiple_of(2).then_some(number.into()), ..Default::default() },
        })),
        8 => Change::RemoveTenant(key(number).tenant),
        9 => Change::PutGroup(Box::new(GroupRecord {
            tenant: key(number).tenant,
            group: group(number),
            applied: jiff::Timestamp::UNIX_EPOCH,
            modules: [(key(number).module, version(number))].into(),
            earlier: number.is_multiple_of(2).then(|| (key(number).module, version(number / 2))).into_iter().collect(),
        })),
        10 => Change::RemoveGroup(key(number).tenant, group(number)),
        _ => Change::PutMeta(MetaRecord { incarnation: number.into(), events_reserved: 4096 }),
    })
}

#[derive(Clone, Debug)]
enum Turn {
    Commit(Vec<Change>),
    Break(u32, Fault),
    Reopen,
    PowerLoss(Vec<u8>),
}

fn turn() -> impl Strategy<Value = Turn> {
    let fault = prop_oneof![Just(Fault::Refused), Just(Fault::DoneButDenied), Just(Fault::Gone)];
    prop_oneof![
        6 => prop::collection::vec(change(), 0..6).prop_map(Turn::Commit),
        3 => (0..25u32, fault).prop_map(|(after, fault)| Turn::Break(after, fault)),
        1 => Just(Turn::Reopen),
        2 => prop::collection::vec(any::<u8>(), 1..8).prop_map(Turn::PowerLoss),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// What was answered by Ok is there for ever, what was answered by an error never was, whatever the disk does between.
    #[test]
    fn an_answer_is_the_truth(turns in prop::collection::vec(turn(), 1..30)) {
        let disk = Disk::default();
        let (mut store, _) = disk.open().unwrap();
        let mut model = Fold::default();
        for turn in turns {
            match turn {
                Turn::Commit(changes) => {
                    let made = match store.commit(&changes) {
                        Ok(()) => true,
                        Err(StoreError::Disk { .. }) => false,
                        Err(StoreError::Unclear { .. }) => {
                            let refused = store.commit(&[]).is_err();
                            prop_assert!(refused, "nothing more is committed before it is clear");
                            let mut plates = disk.plates();
                            (plates.off, plates.fault) = (false, None);
                            drop(plates);
                            store.settle().unwrap()
                        }
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    };
                    if made {
                        changes.iter().for_each(|it| model.apply(it.clone()));
                    }
                }
                Turn::Break(after, fault) => disk.plates().fault = Some((after, fault)),
                Turn::Reopen => {
                    drop(store);
                    let mut plates = disk.plates();
                    (plates.off, plates.fault) = (false, None);
                    drop(plates);
                    let records;
                    (store, records) = disk.open().unwrap();
                    prop_assert_eq!(&records, &model.records());
                }
                Turn::PowerLoss(luck) => {
                    disk.plates().off = true;
                    drop(store);
                    disk.lose_power(&luck);
                    let records;
                    (store, records) = disk.open().unwrap();
                    prop_assert_eq!(&records, &model.records());
                }
            }
        }
        drop(store);
        let mut plates = disk.plates();
        (plates.off, plates.fault) = (false, None);
        drop(plates);
        prop_assert_eq!(disk.open().unwrap().1, model.records());
    }
}

fn fill(store: &mut Store) -> Records {
    let mut model = Fold::default();
    for number in 0..40 {
        let changes = [Change::PutModule(module_record(number)), Change::PutMeta(MetaRecord::default())];
        store.commit(&changes).unwrap();
        changes.iter().for_each(|it| model.apply(it.clone()));
    }
    model.records()
}

#[test]
fn no_damage_is_taken_for_the_truth() {
    let (closed, lost) = (Disk::default(), Disk::default());
    let records = fill(&mut closed.open().unwrap().0);
    let mut store = lost.open().unwrap().0;
    fill(&mut store);
    // Closing writes once more; when power goes instead, the newest state is that of the last commit.
    lost.plates().off = true;
    drop(store);
    lost.lose_power(&[0]);
    // The one byte that says which of the two states is the newest has no checksum; after a close both are the same.
    let unchecked = |at: usize, is_closed: bool| at == 9 && !is_closed;
    for (disk, is_closed) in [(closed, true), (lost, false)] {
        let whole = disk.plates().seen.clone();
        let with = |bytes: Vec<u8>| {
            let disk = Disk::default();
            disk.plates().seen = bytes;
            disk.open()
        };
        assert_eq!(with(whole.clone()).unwrap().1, records);
        // Every 61st byte, and every byte of the header. What is in no page in use may be damaged unseen.
        let mut seen = 0;
        for at in (0..whole.len()).filter(|at| (at % 61 == 0 || *at < 320) && !unchecked(*at, is_closed)) {
            let mut altered = whole.clone();
            altered[at] ^= 0x41;
            match with(altered) {
                Ok((_, found)) => assert_eq!(found, records, "byte {at} was altered unseen"),
                Err(StoreError::Damaged { .. }) => seen += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        assert!(seen > 50, "only {seen} of the damages were seen");
        for length in (1..whole.len()).step_by(1111) {
            match with(whole[..length].to_vec()) {
                Err(StoreError::Damaged { .. }) => {}
                other => panic!("cut at {length}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mortise.redb");
    fill(&mut Store::open(&path).unwrap().0);
    let whole = std::fs::read(&path).unwrap();
    for length in [1, 300, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        match Store::open(&path) {
            Err(error @ StoreError::Damaged { .. }) => assert!(error.to_string().contains("mortise.redb")),
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

#[test]
fn only_its_owner_may_read_it_and_only_one_supervisor_has_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mortise.redb");
    let (store, records) = Store::open(&path).unwrap();
    assert_eq!(records, Records::default());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error, StoreError::InUse(folder.path().into()));
    assert!(error.to_string().contains("--state"));
    drop(store);
    Store::open(&path).unwrap();
}

#[test]
fn a_newer_store_is_refused_as_it_is_and_an_older_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mortise.redb");
    let records = fill(&mut Store::open(&path).unwrap().0);
    let of_format = |bytes: &[u8]| {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
        transaction.open_table(table).unwrap().insert("format", bytes).unwrap();
        transaction.commit().unwrap();
    };
    of_format(&rmp_serde::to_vec(&(FORMAT - 1)).unwrap());
    let copy = path.with_extension("copy");
    let header = |copy: &[u8]| u32::from_le_bytes(copy[16..20].try_into().unwrap());
    let mut older = std::fs::read(&copy).unwrap();
    assert_eq!(header(&older), FORMAT);
    older[16..20].copy_from_slice(&(FORMAT - 1).to_le_bytes());
    std::fs::write(&copy, older).unwrap();
    let (mut store, found) = Store::open(&path).unwrap();
    assert_eq!(found, records);
    // From the first change on an older mortised does not read them: neither the store nor the copy.
    store.commit(&[Change::PutMeta(MetaRecord::default())]).unwrap();
    drop(store);
    assert_eq!(header(&std::fs::read(&copy).unwrap()), FORMAT);
    of_format(&rmp_serde::to_vec(&(FORMAT + 1)).unwrap());
    assert_eq!(
        Store::open(&path).unwrap_err(),
        StoreError::Newer { path: path.clone(), found: FORMAT + 1, known: FORMAT }
    );
    of_format(b"\xc1");
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Damaged { .. }));
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mortise.redb");
    for bytes in [&b"# a text"[..], &[0; 4096], &[0xff; 100_000]] {
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was changed");
    }
    assert!(matches!(Store::open(Path::new("/nowhere/mortise.redb")), Err(StoreError::Disk { what: "open", .. })));
}

#[test]
fn the_writer_answers_in_order_and_closes_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mortise.redb");
    let (answers, answered) = std::sync::mpsc::channel();
    let (store, _) = Store::open(&path).unwrap();
    let writer = StoreWriter::start(store, move |event| answers.send(event).unwrap()).unwrap();
    for number in 0..50 {
        writer.commit(CommitId(number), vec![Change::PutMeta(MetaRecord { incarnation: number, events_reserved: 0 })]);
    }
    writer.close();
    let numbers: Vec<u64> = answered
        .iter()
        .map(|event| match event {
            Event::Persisted { commit, result: Ok(()) } => commit.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    assert_eq!(Store::open(&path).unwrap().1.meta.incarnation, 49);
}

#[test]
fn the_writer_waits_for_a_disk_that_comes_back_and_says_nothing_before() {
    let disk = Disk::default();
    let (store, _) = disk.open().unwrap();
    let (answers, answered) = std::sync::mpsc::channel();
    let writer = StoreWriter::start(store, move |event| answers.send(event).unwrap()).unwrap();
    disk.plates().fault = Some((0, Fault::Gone));
    writer.commit(CommitId(1), vec![Change::PutModule(module_record(0))]);
    writer.commit(CommitId(2), vec![Change::PutModule(module_record(1))]);
    // The disk is off once the first write was tried; nothing can have been answered since.
    while !disk.plates().off {
        std::thread::yield_now();
    }
    assert!(answered.try_recv().is_err());
    disk.plates().off = false;
    assert!(matches!(answered.recv().unwrap(), Event::Persisted { commit: CommitId(1), result: Err(_) }));
    assert!(matches!(answered.recv().unwrap(), Event::Persisted { commit: CommitId(2), result: Ok(()) }));
    disk.plates().off = true;
    writer.commit(CommitId(3), Vec::new());
    writer.close();
    assert!(answered.try_recv().is_err(), "nobody knows whether it is on disk");
}
