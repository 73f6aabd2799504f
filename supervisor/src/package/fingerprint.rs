//! Whether a module's folder is the one that was packed before, without reading it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::stat::FileStat;
use sha2::{Digest as _, Sha256};

use super::collect::collect;
use super::pack::{module_toml, path};
use super::tree::Tree;
use super::{Digest, PackageError, bounds};
use crate::manifest::{FILE_NAME, Manifest};

/// A file that has changed so lately may change again and have the same times: the kernel's clock for them ticks this slowly at most.
const TICK: Duration = Duration::from_millis(100);

/// The same where a file system notes whole seconds.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// What the folder's manifest says, and a sum over place, size, mode and times of everything that goes into its package. As long as that stays
/// the same, so does the package. None: something in it has changed too lately to tell.
///
/// # Errors
/// As [`super::pack`] has it.
pub fn fingerprint(folder: &Path) -> Result<(Manifest, Option<String>), PackageError> {
    // Before anything is looked at: what changes from here on has a later time, or is too young.
    let now = SystemTime::now();
    let tree = Tree::open(folder).map_err(PackageError::disk("open the folder", folder))?;
    let manifest = Manifest::parse_bytes(&module_toml(&tree, folder)?, FILE_NAME)?;
    let listing = collect(&tree, &manifest)?;
    let mut sum = Sha256::new();
    // Another version of this program may pack the same files in another way.
    sum.update(format!("{} {}\n", env!("CARGO_PKG_VERSION"), bounds::WINDOW_LOG));
    for path in [&path(FILE_NAME)?].into_iter().chain(listing.keys()) {
        let stat = tree.stat(path).map_err(PackageError::disk("read", path))?.1;
        if !is_old(&stat, now) {
            return Ok((manifest, None));
        }
        sum.update(format!(
            "{path}\n{} {} {} {:o} {}.{} {}.{}\n",
            stat.st_dev,
            stat.st_ino,
            stat.st_size,
            stat.st_mode,
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_ctime,
            stat.st_ctime_nsec
        ));
    }
    Ok((manifest, Some(Digest::of(sum).to_string())))
}

fn is_old(stat: &FileStat, now: SystemTime) -> bool {
    let nanos = u32::try_from(stat.st_ctime_nsec).unwrap_or(0);
    let tick = if nanos == 0 { COARSE_TICK } else { TICK };
    let changed = u64::try_from(stat.st_ctime).ok().map(|it| SystemTime::UNIX_EPOCH + Duration::new(it, nanos));
    // One of the future tells of a clock that was set back.
    changed.and_then(|it| now.duration_since(it).ok()).is_some_and(|age| age > tick)
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;

    #[test]
    fn whatever_changes_the_package_changes_the_sum() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let toml = "name = \"data\"\nversion = \"1.0.0\"\nruntime = \"resource\"\nfiles = [\"more\"]\n\
                    [[resources]]\nname = \"words\"\nfile = \"words\"\n";
        fs::write(file("module.toml"), toml).unwrap();
        fs::write(file("words"), "a").unwrap();
        fs::create_dir(file("more")).unwrap();
        let (manifest, sum) = fingerprint(folder.path()).unwrap();
        assert_eq!((manifest.name.as_str(), sum), ("data", None), "all of it is too young");

        // What has become old enough is waited for: there is no other way to make a file's ctime older.
        let old = || loop {
            if let (_, Some(sum)) = fingerprint(folder.path()).unwrap() {
                return sum;
            }
        };
        let mut before = old();
        assert_eq!(old(), before);
        let changes: [&dyn Fn() -> io::Result<()>; 4] = [
            &|| fs::write(file("words"), "b"),
            &|| fs::write(file("more/x"), ""),
            &|| fs::rename(file("more/x"), file("more/y")),
            &|| fs::write(file("module.toml"), toml.replace("1.0.0", "1.0.1")),
        ];
        for change in changes {
            change().unwrap();
            let after = old();
            assert_ne!(after, before);
            before = after;
        }
        fs::write(file("not-in-it"), "").unwrap();
        assert_eq!(old(), before);
    }
}
