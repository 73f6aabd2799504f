//! Packages that were not made by `mortise pack`, and folders that change while they are packed.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::scene::Scene;

const MODULE: &str =
    "name = \"attacker\"\nversion = \"1.0.0\"\nruntime = \"sdk\"\nexec = \"bin/attacker\"\nfiles = [\"data\"]\n";

fn module(at: &Path) {
    for folder in ["bin", "data"] {
        fs::create_dir_all(at.join(folder)).expect("a folder");
    }
    fs::write(at.join("module.toml"), MODULE).expect("written");
    fs::write(at.join("bin/attacker"), "#!/bin/sh\n").expect("written");
    fs::set_permissions(at.join("bin/attacker"), Permissions::from_mode(0o755)).expect("its mode");
    fs::write(at.join("data/file"), "harmless").expect("written");
}

/// What is installed.
fn packages(store: &Path) -> HashSet<PathBuf> {
    fs::read_dir(store).expect("the packages").flatten().map(|it| it.path()).collect()
}

/// Ends who waits for it, also when the test fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Every file below a package: no link, no bit, nothing of the host's.
fn installed(folder: &Path, secret: &str) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let metadata = fs::symlink_metadata(entry.path()).expect("an entry");
        assert!(!metadata.is_symlink(), "{} is a link", entry.path().display());
        if metadata.is_dir() {
            installed(&entry.path(), secret);
            continue;
        }
        assert_eq!(metadata.permissions().mode() & 0o7022, 0, "{}", entry.path().display());
        let content = fs::read(entry.path()).expect("its content");
        let leaked = content.windows(secret.len()).any(|it| it == secret.as_bytes());
        assert!(!leaked, "{} has what only root may read", entry.path().display());
    }
}

pub fn setuid_files_and_links_are_not_packed() {
    let scene = Scene::set();
    let folder = tempfile::tempdir().expect("a folder");
    let install = || scene.world.mortise_fails(&["install", &folder.path().display().to_string()]);
    module(folder.path());
    fs::set_permissions(folder.path().join("bin/attacker"), Permissions::from_mode(0o4755)).expect("its mode");
    assert!(install().contains("setuid"));
    module(folder.path());
    symlink("/etc/shadow", folder.path().join("data/link")).expect("a link");
    assert!(install().contains("symbolic link"));
    scene.end();
}

pub fn a_link_that_takes_a_file_s_place_while_it_is_packed_leads_nowhere() {
    let scene = Scene::set();
    let folder = tempfile::tempdir().expect("a folder");
    let secret = "what only root may read";
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("file"), secret).expect("written");
    let at = folder.path().join("module");
    module(&at);
    let store = scene.world.daemon.folder().join("state/packages/sha256");
    let mut seen = packages(&store);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The folder, then the file in it: a link, and itself again.
            while !stop.load(Ordering::Relaxed) {
                let (data, away) = (at.join("data"), at.join("away"));
                let _ = fs::rename(&data, &away);
                let _ = symlink(&outside, &data);
                let _ = fs::remove_file(&data);
                let _ = fs::rename(&away, &data);
                let (file, kept) = (at.join("data/file"), at.join("data/kept"));
                let _ = fs::rename(&file, &kept);
                let _ = symlink(outside.join("file"), &file);
                let _ = fs::remove_file(&file);
                let _ = fs::rename(&kept, &file);
            }
        });
        let _end = AtTheEnd(&stop);
        for _ in 0..40 {
            let output =
                scene.world.daemon.mortise(["install".as_ref(), at.as_os_str()]).output().expect("mortise runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("panicked"), "{said}");
            for package in packages(&store) {
                if !seen.contains(&package) {
                    installed(&package, secret);
                    seen.insert(package);
                }
            }
        }
    });
    scene.end();
}
