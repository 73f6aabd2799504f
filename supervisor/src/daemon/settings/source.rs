//! Where mortise.toml and its drop-ins are, and what is in them.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

use super::Complaint;

/// The file of the host, unless `--config` says otherwise.
const OF_THE_HOST: &str = "/etc/mortise/mortise.toml";

/// That of a supervisor without privileges, in the folder of its user's settings.
const OF_A_USER: &str = "mortise/mortise.toml";

/// The most bytes of one file.
const BYTES_MAX: u64 = 256 * 1024;

/// The most drop-ins.
const DROP_INS_MAX: usize = 256;

/// The device number of /dev/null.
const NULL: libc::dev_t = libc::makedev(1, 3);

/// The files in the order in which later ones win. One that was named must be there, the default one need not.
pub(super) fn files(named: Option<&Path>) -> (Vec<PathBuf>, Vec<Complaint>) {
    let main = named.map_or_else(usual, Path::to_owned);
    let (mut files, mut complaints) = (Vec::new(), Vec::new());
    match main.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {}
        Ok(_) | Err(_) => files.push(main.clone()),
    }
    let mut folder = main.into_os_string();
    folder.push(".d");
    match drop_ins(Path::new(&folder)) {
        Ok(more) if more.len() <= DROP_INS_MAX => files.extend(more),
        Ok(more) => complaints.push(Complaint::file(
            &folder,
            format!("there are {} drop-ins", more.len()),
            format!("at most {DROP_INS_MAX} files *.toml; put them together"),
        )),
        Err(error) => complaints.push(Complaint::file(
            &folder,
            format!("the folder of drop-ins cannot be read: {error}"),
            "a folder that mortised may read, or none",
        )),
    }
    (files, complaints)
}

/// The file that nobody has named. Whose it is decides who runs, not who can read it: the host's names sockets, folders and units that
/// a user cannot have.
fn usual() -> PathBuf {
    let own = if nix::unistd::geteuid().is_root() { None } else { of_a_user(|name| std::env::var_os(name)) };
    own.unwrap_or_else(|| OF_THE_HOST.into())
}

/// By the XDG base directory specification, which has relative paths ignored.
pub(super) fn of_a_user(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| variable(name).map(PathBuf::from).filter(|it| it.is_absolute());
    let settings = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(settings.join(OF_A_USER))
}

fn drop_ins(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<OsString> = entries.map(|it| it.map(|it| it.file_name())).collect::<Result<_, _>>()?;
    // An editor's files and a package manager's leftovers are none.
    names.retain(|it| !it.as_encoded_bytes().starts_with(b".") && it.as_encoded_bytes().ends_with(b".toml"));
    names.sort();
    Ok(names.into_iter().map(|it| folder.join(it)).collect())
}

/// What is in the file. /dev/null, also behind a link, is an empty one: so a drop-in of a package is masked, and `--config /dev/null`
/// is the defaults.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Complaint> {
    let refused = |problem: String, remedy: &str| Complaint::file(path, problem, remedy);
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound if path.is_symlink() => refused(
            "the link leads nowhere".into(),
            "what it leads to, or remove it; a link to /dev/null is an empty file",
        ),
        ErrorKind::NotFound => refused("there is no such file".into(), "a file of `key = value` lines"),
        _ => refused(format!("it cannot be read: {error}"), "a file that mortised may read"),
    };
    // Opening a FIFO or a terminal must not make us wait, nor make it ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if is_null(&metadata) {
        return Ok(Vec::new());
    }
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "no regular file" };
        return Err(refused(format!("it is {kind}"), "a file of `key = value` lines"));
    }
    let bytes = bounded(&file).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        let problem = format!("it has more than {BYTES_MAX} bytes");
        return Err(refused(problem, "is this the right file? The longest sensible one is far shorter"));
    }
    Ok(bytes)
}

/// One byte more than there may be, to know whether there are more.
fn bounded(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_null(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == NULL
}
