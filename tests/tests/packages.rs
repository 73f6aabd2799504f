//! What is wrong with a package is said, with its place, and nothing of it stays.

use std::fs;
use std::path::Path;

use mortise_tests::{World, as_root};

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        }
        found.push(entry.path().display().to_string());
    }
    found.sort();
    found
}

#[test]
fn a_torn_or_altered_package_is_refused_and_leaves_no_trace() {
    as_root!();
    let world = World::start();
    let scratch = tempfile::tempdir().expect("a folder");
    let file = scratch.path().join("legacy.mortise");
    let (package, out) = (world.package("legacy").display().to_string(), file.display().to_string());
    world.mortise(&["pack", &package, "-o", &out]);
    let whole = fs::read(&file).expect("the package");
    let packages = world.daemon.folder().join("state/packages");
    let before = files_below(&packages);
    for (name, bytes) in [
        ("torn", whole[..whole.len() / 2].to_vec()),
        ("altered", {
            let mut it = whole.clone();
            let at = it.len() / 2;
            it[at] ^= 0x20;
            it
        }),
        ("empty", Vec::new()),
        ("noise", (0..20_000_u32).map(|it| it.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()),
    ] {
        let bad = scratch.path().join(name);
        fs::write(&bad, bytes).expect("written");
        let error = world.mortise_fails(&["install", &bad.display().to_string()]);
        assert!(error.starts_with("error"), "{name}: {error}");
        assert_eq!(files_below(&packages), before, "{name} left a trace");
    }
    world.mortise(&["install", &out]);
    let installed = files_below(&packages);
    assert!(installed.len() > before.len());
    world.mortise(&["install", &out]);
    assert_eq!(files_below(&packages), installed, "the same package twice changes nothing");
    // Packed again it is the same package, to the byte.
    let again = scratch.path().join("again.mortise");
    world.mortise(&["pack", &package, "-o", &again.display().to_string()]);
    assert!(fs::read(&again).expect("the package") == whole);
    world.mortise(&["uninstall", "legacy"]);
    assert_eq!(files_below(&packages), before, "uninstalled without a trace");
    world.end();
}

#[test]
fn a_mistake_in_module_toml_is_shown_at_its_place() {
    as_root!();
    let world = World::start();
    let folder = tempfile::tempdir().expect("a folder");
    let text = "name = \"x\"\nversion = \"1\"\nruntime = \"http\"\nexec = \"../x\"\nlimit = 3\n";
    fs::write(folder.path().join("module.toml"), text).expect("written");
    let error = world.mortise_fails(&["install", &folder.path().display().to_string()]);
    for part in ["module.toml:2", "version", "module.toml:4", "..", "module.toml:5", "limits"] {
        assert!(error.contains(part), "{part:?} is missing in\n{error}");
    }
    world.end();
}
