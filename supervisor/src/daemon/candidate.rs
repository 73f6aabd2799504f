//! Another `mortised` that is to take over: a file that nobody but root and the supervisor's user can change, which has checked itself.
//!
//! It is opened once. What is checked and what is executed is that file, whatever its name comes to mean in between.

use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

use super::self_check;
use crate::api::{ApiError, Blame, ErrorCode};

/// What the link says of a program whose file has another name or none any more.
const DELETED: &[u8] = b" (deleted)";

/// A program that could take over.
#[derive(Debug)]
pub(crate) struct Candidate {
    file: File,
    path: PathBuf,
    version: String,
}

/// A file and its content, as far as the kernel tells one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    file: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(it: &Metadata) -> Self {
        Self { file: (it.dev(), it.ino()), bytes: it.size(), changed: (it.ctime(), it.ctime_nsec()) }
    }
}

impl Candidate {
    /// Looks at the program and lets it check itself against the store in `state` and the settings in force.
    ///
    /// # Errors
    /// What is wrong with it, for whoever asked. Nothing has happened then.
    pub async fn examine(path: &Path, state: &Path) -> Result<Self, ApiError> {
        let asked = path.to_owned();
        let (real, file, found) = off_loop(move || opened(&asked)).await.map_err(|refused| refused.of(path))?;
        let version = self_check::ask(&file, path, state).await?;
        let (file, now) = off_loop(move || file.metadata().map(|it| (file, Identity::from(&it))))
            .await
            .map_err(|error| Refused(error.to_string(), None).of(path))?;
        if now != found {
            let problem = "was changed while it was checked".to_owned();
            return Err(Refused(problem, Some("Ask again when it is complete.")).of(path));
        }
        Ok(Self { file, path: real, version })
    }

    /// The file.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, by its own word.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Why a file is none that the supervisor becomes, and what to do about it.
struct Refused(String, Option<&'static str>);

impl Refused {
    fn of(self, path: &Path) -> ApiError {
        let Self(problem, remedy) = self;
        let error = ApiError::new(ErrorCode::Invalid, Blame::Caller, format!("binary {}: {problem}", path.display()));
        match remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        }
    }
}

/// The file at `path`, without links.
fn opened(path: &Path) -> Result<(PathBuf, File, Identity), Refused> {
    if !path.is_absolute() {
        return Err(Refused("is not an absolute path".into(), Some("Give the whole path.")));
    }
    let unreadable = |error: std::io::Error| Refused(error.to_string(), None);
    let real = fs::canonicalize(path).map_err(unreadable)?;
    trusted(&real).map_err(|problem| {
        Refused(problem, Some("Only root or the supervisor's user may be able to change it: chown, chmod go-w."))
    })?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&real).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() || found.mode() & 0o111 == 0 {
        return Err(Refused("is no program".into(), Some("Give the path of a mortised.")));
    }
    Ok((real, file, Identity::from(&found)))
}

/// A file system that hangs is not to stop the loop.
async fn off_loop<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The file that has taken the place of the one that this program was started from. None: it lies where it did.
pub(super) fn replaced() -> Option<PathBuf> {
    let running = Path::new("/proc/self/exe");
    let place = place_of(fs::read_link(running).ok()?);
    let (found, own) = (fs::metadata(&place).ok()?, fs::metadata(running).ok()?);
    ((found.dev(), found.ino()) != (own.dev(), own.ino())).then_some(place)
}

fn place_of(link: PathBuf) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let place = link.as_os_str().as_bytes().strip_suffix(DELETED).map(<[u8]>::to_vec);
    place.map_or(link, |it| std::ffi::OsString::from_vec(it).into())
}

/// Whether nobody but root and this user can change the file or put another in its place.
///
/// # Errors
/// What gives somebody else the means, for people.
pub(super) fn trusted(path: &Path) -> Result<(), String> {
    let own = nix::unistd::geteuid().as_raw();
    for part in path.ancestors() {
        let found = fs::symlink_metadata(part).map_err(|error| format!("{}: {error}", part.display()))?;
        // In a sticky folder others make files, and rename and remove only their own.
        let is_shared = found.is_dir() && found.mode() & libc::S_ISVTX != 0;
        let is_open = found.mode() & 0o022 != 0 && !is_shared;
        if is_open || ![0, own].contains(&found.uid()) {
            let (uid, mode) = (found.uid(), found.mode() & 0o7777);
            return Err(format!("the owner of {} is uid {uid} and its mode {mode:o}", part.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn whoever_could_change_a_folder_on_the_way_could_change_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let within = root.join("a");
        fs::create_dir(&within).unwrap();
        let program = within.join("mortised");
        fs::write(&program, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(&within, 0o755);
        mode(&program, 0o755);
        trusted(&program).unwrap();
        mode(&program, 0o775);
        assert!(trusted(&program).unwrap_err().contains("mode 775"));
        mode(&program, 0o755);
        mode(&within, 0o777);
        assert!(trusted(&program).unwrap_err().contains("/a is uid"));
        mode(&within, 0o1777);
        trusted(&program).unwrap();
    }

    #[test]
    fn the_place_of_a_program_is_known_when_its_file_is_gone() {
        assert_eq!(place_of("/usr/bin/mortised (deleted)".into()), Path::new("/usr/bin/mortised"));
        assert_eq!(place_of("/usr/bin/mortised".into()), Path::new("/usr/bin/mortised"));
        assert_eq!(replaced(), None, "this test is where it was");
    }
}
