//! A disk without space: changes are refused, calls go on, and the same change is made once there is space again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mortise_tests::{World, as_root, eventually};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

/// Room for the packages of a debug build and not much more.
const SPACE: &str = "size=600m,mode=0700";

/// A small file system of the test's own. Unmounted however the test ends.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir_all(&at).expect("a folder");
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(SPACE)).expect("a tmpfs");
        Self(at)
    }

    /// Takes the last byte of it.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        for length in [1 << 20, 4096, 1] {
            let block = vec![1; length];
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(errno) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("{} stays mounted: {errno}", self.0.display());
        }
    }
}

fn report(world: &World) -> Value {
    world.call("load.report", &json!({})).expect("the load reports")
}

/// Publishes and withdraws in turn until one of the two is refused: that one, and the refusal. Space that the store had already
/// taken may serve for some.
fn until_refused(world: &World) -> ([&'static str; 2], Value) {
    for turn in 0..400 {
        let words = [["unpublish", "legacy"], ["publish", "legacy"]][turn % 2];
        let output = world.daemon.mortise(["--json"]).args(words).output().expect("mortise runs");
        if !output.status.success() {
            return (words, serde_json::from_slice(&output.stderr).expect("an error as JSON"));
        }
    }
    panic!("400 changes were made on a full disk");
}

#[test]
fn a_full_disk_refuses_changes_and_nothing_else() {
    as_root!();
    let folder = tempfile::Builder::new().prefix("mortise-test-").tempdir().expect("a temporary folder");
    let root: PathBuf = Path::new(folder.path()).into();
    let disk = SmallDisk::mount(root.join("state"));
    let world = World::start_in(folder, "base", &[]);
    for module in ["unruly", "load", "legacy"] {
        world.deploy(module);
    }
    assert!(eventually(|| report(&world)["answered"].as_u64() > Some(100)), "{}", report(&world));

    let filler = disk.fill();
    let (refused, error) = until_refused(&world);
    assert_eq!(error["code"], "storage", "{error}");
    let before = report(&world)["answered"].as_u64().expect("a number");
    for _ in 0..20 {
        let output = world.daemon.mortise(["--json"]).args(refused).output().expect("mortise runs");
        assert!(!output.status.success(), "{refused:?} on a full disk");
        let error: Value = serde_json::from_slice(&output.stderr).expect("an error as JSON");
        assert_eq!(error["code"], "storage", "{error}");
    }
    let after = report(&world);
    assert!(after["answered"].as_u64().expect("a number") > before, "{after}");
    assert_eq!(after["failed"], 0, "{after}");

    fs::remove_file(filler).expect("there is space again");
    world.mortise(&refused);
    world.mortise(&["publish", "legacy"]);
    assert_eq!(world.get("/guestbook").expect("an answer").0, 200);
    assert_eq!(report(&world)["failed"], 0);
    world.end();
    drop(disk);
    // The mount kept it from going with the world.
    let _ = fs::remove_dir_all(root);
}
