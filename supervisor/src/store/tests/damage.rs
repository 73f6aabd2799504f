//! A store that is damaged, cut, lost or newer, and what becomes of it at the next start.

use super::*;

/// A state folder with a whole store, and what is in that.
struct Home {
    folder: tempfile::TempDir,
    packages: crate::package::PackageStore,
    records: Records,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let packages = crate::package::PackageStore::open(&folder.path().join("packages")).unwrap();
        let home = Self { folder, packages, records: Records::default() };
        let mut store = Store::open(&home.path()).unwrap().0;
        let records = fill(&mut store);
        let worker = WorkerRecord { worker: WorkerId { slot: 3, generation: 7 }, occupant: None };
        store.commit(&[Change::PutWorker(worker.clone())]).unwrap();
        Self { records: Records { workers: vec![worker], ..records }, ..home }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("mortise.redb")
    }

    fn copy(&self) -> std::path::PathBuf {
        self.folder.path().join("mortise.copy")
    }

    fn open(&self) -> Result<(Store, Records, Option<Rebuilt>), StoreError> {
        crate::store::open(&self.path(), &self.packages)
    }

    /// Opens it and expects that it had to be made anew, with all that was in it.
    fn opens_rebuilt(&self) -> Rebuilt {
        let (store, found, rebuilt) = self.open().unwrap();
        assert_eq!((&found.modules, &found.versions), (&self.records.modules, &self.records.versions));
        assert!(found.meta.incarnation > 1 << 10, "epochs would not grow: {:?}", found.meta);
        assert_eq!(found.workers[0].worker.slot, 3);
        assert!(found.workers[0].worker.generation > 7, "a generation may be given twice");
        drop(store);
        let (_, again, whole) = self.open().unwrap();
        assert_eq!((again, whole), (found, None), "it is whole from then on");
        rebuilt.expect("it was damaged")
    }
}

#[test]
fn a_store_that_was_cut_is_kept_aside_and_made_anew() {
    let length = std::fs::metadata(Home::new().path()).unwrap().len();
    for cut in [0, 1, 9, 300, length / 2, length - 1] {
        let home = Home::new();
        let bytes = std::fs::read(home.path()).unwrap()[..usize::try_from(cut).unwrap()].to_vec();
        std::fs::write(home.path(), &bytes).unwrap();
        let rebuilt = home.opens_rebuilt();
        assert_eq!(rebuilt.from, Source::Copy(None));
        let kept = rebuilt.kept.expect("it was there");
        assert_eq!(std::fs::read(&kept).unwrap(), bytes, "what is kept is as it was found");
        assert_eq!(kept_aside(&home.path()), [kept]);
    }
}

#[test]
fn no_altered_byte_ends_the_process_or_is_taken_for_the_truth() {
    let home = Home::new();
    let whole = std::fs::read(home.path()).unwrap();
    let mut seen = 0;
    for at in (0..320).step_by(7).chain((320..whole.len()).step_by(whole.len() / 120 + 1)) {
        let mut altered = whole.clone();
        altered[at] ^= 0x55;
        std::fs::write(home.path(), &altered).unwrap();
        let (_, found, rebuilt) = home.open().unwrap_or_else(|error| panic!("byte {at}: {error}"));
        assert_eq!(found.modules, home.records.modules, "byte {at}, {rebuilt:?}");
        if let Some(kept) = rebuilt.and_then(|it| it.kept) {
            assert_eq!(std::fs::read(&kept).unwrap(), altered, "byte {at}");
            std::fs::remove_file(kept).unwrap();
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} of the damages were seen");
}

#[test]
fn what_is_no_store_is_kept_aside_too_and_a_lost_one_is_made_anew() {
    let home = Home::new();
    std::fs::remove_file(home.path()).unwrap();
    assert_eq!(home.opens_rebuilt().kept, None);

    std::fs::remove_file(home.path()).unwrap();
    std::fs::create_dir(home.path()).unwrap();
    std::fs::write(home.path().join("inside"), b"kept").unwrap();
    let kept = home.opens_rebuilt().kept.expect("it was there");
    assert_eq!(std::fs::read(kept.join("inside")).unwrap(), b"kept");
}

#[test]
fn a_newer_store_or_copy_is_refused_and_not_made_anew() {
    let home = Home::new();
    let database = redb::Database::create(home.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
    let newer = rmp_serde::to_vec(&99u32).unwrap();
    transaction.open_table(table).unwrap().insert("format", newer.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let bytes = std::fs::read(home.path()).unwrap();
    assert!(matches!(home.open().unwrap_err(), StoreError::Newer { found: 99, .. }));
    assert_eq!(std::fs::read(home.path()).unwrap(), bytes, "it is as it was");

    let home = Home::new();
    let mut bytes = std::fs::read(home.path()).unwrap();
    assert_eq!((bytes[64], bytes[192]), (3, 3), "the versions are where they are looked for");
    (bytes[64], bytes[192]) = (4, 4);
    std::fs::write(home.path(), &bytes).unwrap();
    assert!(matches!(home.open().unwrap_err(), StoreError::NewerDatabase { found: 4, known: 3, .. }));
    assert_eq!(std::fs::read(home.path()).unwrap(), bytes, "it is as it was");

    // The store is damaged, and a newer mortised wrote the copy.
    let home = Home::new();
    std::fs::write(home.path(), b"").unwrap();
    let mut copy = std::fs::read(home.copy()).unwrap();
    copy[16] = 9;
    std::fs::write(home.copy(), &copy).unwrap();
    assert!(matches!(home.open().unwrap_err(), StoreError::Newer { found: 9, .. }));
    assert_eq!(kept_aside(&home.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_copy_that_is_damaged_too_is_used_as_far_as_it_can_be_read_and_kept() {
    let home = Home::new();
    let mut copy = std::fs::read(home.copy()).unwrap();
    let half = copy.len() / 2;
    copy[half] ^= 1;
    std::fs::write(home.copy(), &copy).unwrap();
    std::fs::write(home.path(), b"").unwrap();
    let (_, found, rebuilt) = home.open().unwrap();
    // As they were when it was half as long.
    let keys = |records: &Records| records.modules.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&found), keys(&home.records));
    assert_ne!(found.modules, home.records.modules);
    let Some(Rebuilt { from: Source::Copy(Some((kept, _))), .. }) = rebuilt else { panic!("{rebuilt:?}") };
    assert_eq!(std::fs::read(kept).unwrap(), copy);
}

#[test]
fn without_a_copy_every_package_is_installed_and_nothing_runs() {
    let home = Home::new();
    let module = home.folder.path().join("module");
    std::fs::create_dir(&module).unwrap();
    let toml = "name = \"x\"\nversion = \"1.0.0\"\nruntime = \"sdk\"\nexec = \"worker\"\n";
    std::fs::write(module.join("module.toml"), toml).unwrap();
    let worker = module.join("worker");
    std::fs::write(&worker, b"#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&worker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let packed = home.folder.path().join("packed");
    crate::package::pack(&module, &packed).unwrap();
    let installed = home.packages.install(std::fs::File::open(&packed).unwrap()).unwrap();
    std::fs::remove_file(home.copy()).unwrap();
    std::fs::write(home.path(), b"").unwrap();
    let (_, found, rebuilt) = home.open().unwrap();
    assert_eq!(rebuilt.unwrap().from, Source::Packages);
    assert_eq!(found.versions.len(), 1);
    assert_eq!(found.versions[0].digest, installed.digest.to_string());
    assert_eq!(found.modules, []);
}

#[test]
fn the_copy_follows_every_change_and_is_caught_up_at_the_next_start() {
    let home = Home::new();
    let copied = || crate::store::copy::read(&home.copy()).unwrap().expect("there is one");
    assert_eq!((copied().records, copied().torn), (home.records.clone(), None));
    // One change did not get there, as when the supervisor dies between the two.
    let before = std::fs::read(home.copy()).unwrap();
    let mut store = Store::open(&home.path()).unwrap().0;
    store.commit(&[Change::RemoveModule(key(1))]).unwrap();
    let records = copied().records;
    assert_ne!(records, home.records);
    // It is synced when nobody waits for it.
    assert!(store.copy_is_behind());
    store.sync_copy();
    assert!(!store.copy_is_behind());
    drop(store);
    std::fs::write(home.copy(), &before[..before.len() - 3]).unwrap();
    drop(home.open().unwrap());
    assert_eq!((copied().records, copied().torn), (records, None));
}

#[test]
fn a_crash_while_it_is_made_anew_loses_nothing() {
    let home = Home::new();
    let damaged = std::fs::read(home.path()).unwrap()[..1000].to_vec();
    // The two have changed places, and the damaged one has not got its name yet.
    let between = home.folder.path().join("mortise.redb.rebuilding");
    std::fs::write(&between, &damaged).unwrap();
    assert_eq!(home.open().unwrap().1, home.records);
    let kept = kept_aside(&home.path());
    assert_eq!(kept.iter().map(|it| std::fs::read(it).unwrap()).collect::<Vec<_>>(), [damaged]);
}
