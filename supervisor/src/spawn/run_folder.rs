//! A worker's folder under `RUN/workers`: its FIFOs and sockets.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use mortise_control::WorkerId;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::SpawnError;

/// The backlog of a control socket: its only client is one worker.
const CONTROL_BACKLOG: i32 = 4;
/// The backlog of an HTTP socket: its only client is the base.
const HTTP_BACKLOG: i32 = 1024;

/// `RUN`, and who may do what in it.
#[derive(Clone, Debug)]
pub(super) struct RunFolder {
    run: PathBuf,
    /// The gid that may enter `RUN/http`; none: everything runs as the supervisor's own user.
    http_gid: Option<u32>,
}

/// The two ends of a FIFO that holds a worker's output.
pub(super) struct Fifo {
    /// The supervisor's end: non-blocking.
    pub read: OwnedFd,
    /// The worker's: opened for reading too, so that a missing reader is no error.
    pub write: OwnedFd,
}

impl RunFolder {
    pub fn open(run: &Path, http_gid: Option<u32>) -> Result<Self, SpawnError> {
        let folder = Self { run: run.into(), http_gid };
        for (path, mode) in [("workers", 0o711), ("http", 0o750), ("root", 0o700)] {
            let path = folder.run.join(path);
            make_folder(&path, mode, (path.ends_with("http")).then_some(http_gid).flatten())?;
        }
        Ok(folder)
    }

    /// An empty folder: a new root is mounted over it, each in a mount namespace of its own.
    pub fn root(&self) -> PathBuf {
        self.run.join("root")
    }

    pub fn http(&self) -> PathBuf {
        self.run.join("http")
    }

    pub fn worker(&self, worker: WorkerId) -> PathBuf {
        self.run.join("workers").join(worker.to_string())
    }

    /// Makes the folder and its FIFOs. What an earlier try left is replaced.
    pub fn create(&self, worker: WorkerId, gid: Option<u32>) -> Result<[Fifo; 2], SpawnError> {
        let path = self.worker(worker);
        self.remove(worker)?;
        make_folder(&path, 0o750, gid)?;
        // A base finds `RUN/http` below its run folder.
        make_folder(&path.join("http"), 0o750, gid)?;
        let fifo = |name| -> Result<Fifo, SpawnError> {
            let path = path.join(name);
            mkfifo(&path, Mode::from_bits_truncate(0o600)).map_err(|e| failed("make the FIFO", &path)(e.into()))?;
            // Its own group may write, so that a program can open /dev/stdout; whoever reads it gets nothing but its own lines.
            give(&path, 0o620, gid)?;
            let write = open(&path, OFlag::O_RDWR)?;
            Ok(Fifo { read: open(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?, write })
        };
        Ok([fifo("stdout")?, fifo("stderr")?])
    }

    /// The reading ends of the FIFOs of a worker that runs.
    pub fn reopen(&self, worker: WorkerId) -> Result<[OwnedFd; 2], SpawnError> {
        let read = |name| open(&self.worker(worker).join(name), OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        Ok([read("stdout")?, read("stderr")?])
    }

    /// A listener on the worker's `control.sock`, in place of any that was there: made beside it and renamed over it, so that the
    /// path always leads to a socket with the right owner.
    pub fn listen_control(&self, worker: WorkerId, gid: Option<u32>) -> Result<OwnedFd, SpawnError> {
        let path = self.worker(worker).join("control.sock");
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        bind_at(&path, SockType::SeqPacket, flags, CONTROL_BACKLOG, gid)
    }

    /// A listener on the worker's HTTP socket, in place of any that was there.
    pub fn listen_http(&self, worker: WorkerId) -> Result<OwnedFd, SpawnError> {
        bind_at(&self.http_socket(worker), SockType::Stream, SockFlag::SOCK_CLOEXEC, HTTP_BACKLOG, self.http_gid)
    }

    /// Removes whatever is there of the worker.
    pub fn remove(&self, worker: WorkerId) -> Result<(), SpawnError> {
        let (folder, socket) = (self.worker(worker), self.http_socket(worker));
        gone(fs::remove_file(&socket)).map_err(failed("remove", &socket))?;
        gone(fs::remove_dir_all(&folder)).map_err(failed("remove", &folder))
    }

    /// The workers that have a folder or a socket.
    pub fn workers(&self) -> Vec<WorkerId> {
        let names =
            |folder| fs::read_dir(self.run.join(folder)).into_iter().flatten().flatten().map(|it| it.file_name());
        let mut workers: Vec<_> = names("workers").chain(names("http")).filter_map(|it| parse(&it)).collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    fn http_socket(&self, worker: WorkerId) -> PathBuf {
        self.http().join(format!("{worker}.sock"))
    }
}

/// `SLOT.GEN`, also with what follows it.
fn parse(name: &OsString) -> Option<WorkerId> {
    let mut parts = name.to_str()?.split('.');
    Some(WorkerId { slot: parts.next()?.parse().ok()?, generation: parts.next()?.parse().ok()? })
}

fn make_folder(path: &Path, mode: u32, gid: Option<u32>) -> Result<(), SpawnError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))?;
    give(path, mode, gid)
}

/// The owner stays ours. The group first: a mode would hold for the old one for a moment.
fn give(path: &Path, mode: u32, gid: Option<u32>) -> Result<(), SpawnError> {
    if let Some(gid) = gid {
        chown(path, None, Some(gid)).map_err(failed("change the group of", path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("change the mode of", path))
}

fn open(path: &Path, flags: OFlag) -> Result<OwnedFd, SpawnError> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| failed("open", path)(e.into()))
}

/// The address of a socket has room for 107 bytes. Through the folder's descriptor every path fits.
fn bind_at(
    path: &Path,
    kind: SockType,
    flags: SockFlag,
    backlog: i32,
    gid: Option<u32>,
) -> Result<OwnedFd, SpawnError> {
    let failed = |what, errno: nix::Error| failed(what, path)(errno.into());
    let folder = open(path.parent().unwrap_or(Path::new("/")), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let fresh = path.with_extension("new");
    gone(fs::remove_file(&fresh)).map_err(self::failed("remove", &fresh))?;
    let name = fresh.file_name().unwrap_or_default();
    let address = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let address = UnixAddr::new(&address).map_err(|e| failed("make the socket", e))?;
    let socket = socket(AddressFamily::Unix, kind, flags, None).map_err(|e| failed("make the socket", e))?;
    bind(socket.as_raw_fd(), &address).map_err(|e| failed("bind the socket", e))?;
    give(&fresh, 0o660, gid)?;
    let backlog = Backlog::new(backlog).map_err(|e| failed("listen on the socket", e))?;
    listen(&socket.as_fd(), backlog).map_err(|e| failed("listen on the socket", e))?;
    fs::rename(&fresh, path).map_err(self::failed("rename the socket", path))?;
    Ok(socket)
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpawnError {
    move |source| SpawnError::RunFolder { what, path: path.into(), source }
}
