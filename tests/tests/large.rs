//! A platform may be large: what does not fit into one message of the control protocol arrives all the same.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mortise_tests::{World, as_root};

/// The folder of a module that the test makes up: its module.toml and its files.
fn lay_out(folder: &Path, name: &str, manifest: &str, files: &[(&str, &[u8])]) -> String {
    let folder = folder.join(name);
    for (file, content) in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
    fs::write(folder.join("module.toml"), manifest).expect("module.toml");
    folder.display().to_string()
}

#[test]
fn a_worker_maps_forty_resources() {
    as_root!();
    const RESOURCES: usize = 40;
    let world = World::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mut manifest = "name = \"atlas\"\nversion = \"1.0.0\"\nruntime = \"resource\"\n".to_owned();
    let names: Vec<String> = (0..RESOURCES).map(|n| format!("map-{n}")).collect();
    for name in &names {
        let _ = write!(manifest, "[[resources]]\nname = \"{name}\"\nfile = \"{name}\"\n");
    }
    let files: Vec<(&str, &[u8])> = names.iter().map(|it| (it.as_str(), it.as_bytes())).collect();
    let atlas = lay_out(folder.path(), "atlas", &manifest, &files);
    let unruly = world.package("unruly");
    let manifest = fs::read_to_string(unruly.join("module.toml")).expect("its module.toml");
    let manifest = format!("{manifest}\n[requires]\nresources = {names:?}\n");
    let program = fs::read(unruly.join("bin/unruly")).expect("its program");
    let reader = lay_out(folder.path(), "unruly", &manifest, &[("bin/unruly", &program)]);
    fs::set_permissions(Path::new(&reader).join("bin/unruly"), fs::Permissions::from_mode(0o755)).expect("a mode");

    for package in [&atlas, &reader] {
        world.mortise(&["install", package]);
    }
    world.mortise(&["start", "atlas"]);
    world.mortise(&["start", "unruly"]);
    let worker = world.worker("unruly")["worker"].clone();
    let all = world.daemon.ask_json(["status"]).expect("mortise status");
    let resources = all["resources"].as_array().expect("resources");
    assert_eq!(resources.len(), RESOURCES);
    for resource in resources {
        assert_eq!(resource["mapped_by"][0], worker, "{resource}");
    }
    world.end();
}

#[test]
fn the_ingress_has_twelve_hundred_routes() {
    as_root!();
    const MODULES: usize = 5;
    const SERVICES: usize = 240;
    let world = World::start();
    let folder = tempfile::tempdir().expect("a folder");
    let program = fs::read(world.package("legacy").join("guestbook.py")).expect("its program");
    for module in 0..MODULES {
        let mut manifest = format!(
            "name = \"book-{module}\"\nversion = \"1.0.0\"\nruntime = \"http\"\nexec = \"/usr/bin/python3\"\n\
             args = [\"/module/guestbook.py\"]\nlisten = \"inherit\"\nfiles = [\"guestbook.py\"]\n"
        );
        for n in 0..SERVICES {
            let _ = write!(
                manifest,
                "[[provides]]\nservice = \"book-{module}-{n}\"\nhttp = {{ prefix = \"/a-rather-long-prefix/{module}/{n}\" }}\n"
            );
        }
        let name = format!("book-{module}");
        let package = lay_out(folder.path(), &name, &manifest, &[("guestbook.py", &program)]);
        world.mortise(&["install", &package]);
        world.mortise(&["start", &name]);
        world.mortise(&["publish", &name]);
    }
    for (module, n) in [(0, 0), (2, 100), (4, 239)] {
        let path = format!("/a-rather-long-prefix/{module}/{n}");
        assert_eq!(world.get(&path).expect("an answer").0, 200, "{path}");
    }
    assert_eq!(world.get("/a-rather-long-prefix/4/240").expect("an answer").0, 404);
    world.mortise(&["unpublish", "book-4", "book-4-239"]);
    assert_eq!(world.get("/a-rather-long-prefix/4/239").expect("an answer").0, 404);
    assert_eq!(world.get("/a-rather-long-prefix/4/238").expect("an answer").0, 200);
    world.end();
}
