//! The programs that the supervisor starts.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::doctor::{Area, Check, Verdict};

/// The first program of every worker.
const INIT: &str = "mortise-init";

pub(super) fn checks(libexec: Option<&Path>) -> Vec<Check> {
    let folder = libexec.map(Path::to_owned).or_else(own_folder);
    vec![folder.map_or_else(nowhere, |it| init(&it.join(INIT)))]
}

fn own_folder() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent().map(Path::to_owned)
}

const MATTERS: &str = "every worker starts as it";

fn nowhere() -> Check {
    Check::good(Area::Supervisor, INIT, "the folder of this program is not known", MATTERS)
        .but(Verdict::Unknown, "Mount /proc, or name the folder with --libexec.")
}

fn init(file: &Path) -> Check {
    let check = Check::good(Area::Supervisor, INIT, file.display().to_string(), MATTERS);
    match access(file, AccessFlags::X_OK) {
        Ok(()) => check,
        Err(error) => {
            let check = Check { found: format!("{}: {error}", file.display()), ..check };
            check.but(Verdict::Bad, "Put it beside mortised, or name its folder with --libexec.")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_init_that_is_missing_or_no_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let verdict = || checks(Some(folder.path())).remove(0).verdict;
        assert_eq!(verdict(), Verdict::Bad);
        let file = folder.path().join(INIT);
        std::fs::write(&file, "").unwrap();
        assert_eq!(verdict(), Verdict::Bad, "root may not run it either");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(verdict(), Verdict::Good);
    }
}
