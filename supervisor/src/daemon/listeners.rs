//! The sockets that a base listens on. The supervisor binds them and never accepts: their connections wait in the kernel for
//! whichever base has them, so they outlive both the supervisor and any one base. Those of socket units are bound by the service manager.
//!
//! A successor takes them back from the living base (see `fetched.rs`), which goes on listening meanwhile; the sockets are known
//! by what was noted in `STATE/listeners.json` when they were bound. `docs/adr/0006-the-successor-fetches-the-listeners.md` says why.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use super::handover::Handover;
use super::{StartError, fetched};
use crate::spawn::Inherited;

/// The file in the state folder.
const NOTES: &str = "listeners.json";

/// The boot during which a note was made: cookies begin anew with each.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// All of them, as a base inherits them.
#[derive(Debug)]
pub(super) struct Listeners {
    /// `ingress-0`, `ingress-1`, …, `invoke`.
    pub inherited: Vec<Inherited>,
    /// Where the ingress listens.
    pub ingress: Vec<SocketAddr>,
    /// Where calls by name are taken.
    pub invoke: PathBuf,
    /// Addresses that a living base does not have yet.
    pub fresh: Vec<SocketAddr>,
}

/// What is noted of a socket, to know it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// What was asked for: an address of `--listen`, or the path of the invoke socket.
    asked: String,
    /// What was bound, where that is an address.
    bound: Option<SocketAddr>,
    boot: String,
    inode: u64,
    cookie: u64,
}

/// Binds or finds again the sockets that a base listens on. `passed` are those that the service manager holds: they come first where
/// their address is asked for, and are there also where it is not. `bases` are the processes of bases that an earlier supervisor had
/// started, `handed` is what it gave us when it became us.
pub(super) fn open(
    state: &Path,
    run: &Path,
    listen: &[SocketAddr],
    mut passed: Vec<(SocketAddr, TcpListener)>,
    bases: &[u32],
    handed: Option<&Handover>,
) -> Result<Listeners, StartError> {
    let before = Before { notes: read(state), boot: fs::read_to_string(BOOT_ID).unwrap_or_default(), bases, handed };
    let (mut notes, mut inherited, mut ingress, mut fresh) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let unasked: Vec<SocketAddr> = passed.iter().map(|it| it.0).filter(|it| !listen.contains(it)).collect();
    for (index, asked) in listen.iter().chain(&unasked).enumerate() {
        let note = before.note(&asked.to_string());
        let held = passed.iter().position(|it| it.0 == *asked).map(|at| passed.swap_remove(at).1);
        let fetched = || note.and_then(|note| before.fetch(note)).map(TcpListener::from);
        let socket = match held {
            Some(held) => {
                if !note.is_some_and(|it| before.is(it, &held)) {
                    fresh.push(*asked);
                }
                Some(held)
            }
            None => fetched(),
        };
        let socket = match socket {
            Some(socket) => socket,
            None => {
                fresh.push(*asked);
                bind(*asked, note).map_err(|source| StartError::Listen { address: *asked, source })?
            }
        };
        let bound = socket.local_addr().map_err(|source| StartError::Listen { address: *asked, source })?;
        ingress.push(bound);
        notes.push(before.describe(asked.to_string(), Some(bound), &socket)?);
        inherited.push(Inherited { name: format!("ingress-{index}"), fd: Arc::new(socket.into()) });
    }
    let invoke = run.join("invoke.sock");
    let asked = invoke.display().to_string();
    let socket = match before.note(&asked).and_then(|note| before.fetch(note)) {
        // Whoever has the path has reached this very socket so far.
        Some(socket) if invoke.exists() => socket,
        Some(_) | None => bind_unix(&invoke, 0o600)?.into(),
    };
    notes.push(before.describe(asked, None, &socket)?);
    inherited.push(Inherited { name: "invoke".into(), fd: Arc::new(socket) });
    write(state, &notes)?;
    if bases.is_empty() {
        fresh.clear();
    }
    Ok(Listeners { inherited, ingress, invoke, fresh })
}

/// A Unix listener that takes the place of whatever is at its path. Its folder is this process's alone.
pub(super) fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, StartError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(StartError::file("remove", path)(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(StartError::file("bind the socket", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(StartError::file("change the mode of", path))?;
    listener.set_nonblocking(true).map_err(StartError::file("set up the socket", path))?;
    Ok(listener)
}

/// The port of the earlier life first, where any will do: whoever knew it goes on.
fn bind(asked: SocketAddr, note: Option<&Note>) -> io::Result<TcpListener> {
    let earlier = note.and_then(|it| it.bound).filter(|_| asked.port() == 0);
    let socket = match earlier.map(TcpListener::bind) {
        Some(Ok(socket)) => socket,
        Some(Err(_)) | None => TcpListener::bind(asked)?,
    };
    // The description is shared with every base: none may make the others wait.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What an earlier supervisor left.
struct Before<'a> {
    notes: Vec<Note>,
    boot: String,
    bases: &'a [u32],
    handed: Option<&'a Handover>,
}

impl Before<'_> {
    fn note(&self, asked: &str) -> Option<&Note> {
        self.notes.iter().find(|it| it.asked == asked)
    }

    /// Whether it is the very socket that was noted.
    fn is(&self, note: &Note, socket: &TcpListener) -> bool {
        note.boot == self.boot && fetched::cookie(socket).is_ok_and(|it| it == note.cookie)
    }

    fn fetch(&self, note: &Note) -> Option<OwnedFd> {
        if note.boot != self.boot {
            return None;
        }
        let handed = self.handed.and_then(|it| it.with_cookie(note.cookie));
        handed.or_else(|| self.bases.iter().find_map(|pid| fetched::from_process(*pid, note.inode, note.cookie)))
    }

    fn describe(&self, asked: String, bound: Option<SocketAddr>, socket: impl AsFd) -> Result<Note, StartError> {
        let inode = fstat(&socket).map_err(|e| StartError::kernel("look at a listening socket")(e.into()))?.st_ino;
        let cookie = fetched::cookie(socket).map_err(StartError::kernel("look at a listening socket"))?;
        Ok(Note { asked, bound, boot: self.boot.clone(), inode, cookie })
    }
}

/// Notes that cannot be read are no notes: the sockets are bound anew, if they can be.
fn read(state: &Path) -> Vec<Note> {
    let path = state.join(NOTES);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the notes about listening sockets cannot be read");
            return Vec::new();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the notes about listening sockets are damaged");
        Vec::new()
    })
}

fn write(state: &Path, notes: &[Note]) -> Result<(), StartError> {
    let path = state.join(NOTES);
    let failed = || StartError::file("write", &path);
    let mut file = tempfile::NamedTempFile::new_in(state).map_err(failed())?;
    let text = serde_json::to_vec_pretty(notes).map_err(|e| failed()(e.into()))?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed())?;
    file.persist(&path).map_err(|e| failed()(e.error))?;
    File::open(state).and_then(|it| it.sync_all()).map_err(failed())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// A process that has the sockets and does nothing until its input ends.
    fn holder(listeners: &Listeners) -> std::process::Child {
        let mut command = Command::new("sleep");
        command.arg("600").stdout(Stdio::null());
        // Inherited by the fork, closed by the exec, unless it is one of the three.
        command.stdin(Stdio::from(listeners.inherited[0].fd.try_clone().unwrap()));
        command.stderr(Stdio::from(listeners.inherited[1].fd.try_clone().unwrap()));
        command.spawn().unwrap()
    }

    #[test]
    fn a_successor_gets_the_very_sockets_from_who_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let first = open(path, path, &[ANY], vec![], &[], None).unwrap();
        let address = first.ingress[0];
        let cookies: Vec<_> = first.inherited.iter().map(|it| fetched::cookie(&*it.fd).unwrap()).collect();
        let mut holder = holder(&first);
        drop(first);

        let second = open(path, path, &[ANY], vec![], &[holder.id()], None).unwrap();
        let again: Vec<_> = second.inherited.iter().map(|it| fetched::cookie(&*it.fd).unwrap()).collect();
        assert_eq!((second.ingress[0], again), (address, cookies));
        assert!(second.fresh.is_empty());
        drop(second);
        holder.kill().unwrap();
        holder.wait().unwrap();

        // Nobody has them: another socket, at the same address.
        let third = open(path, path, &[ANY], vec![], &[holder.id()], None).unwrap();
        assert_eq!(third.ingress[0], address);
    }

    #[test]
    fn a_socket_that_the_service_manager_holds_is_taken_and_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let held = TcpListener::bind(ANY).unwrap();
        let address = held.local_addr().unwrap();
        let pass = || vec![(address, held.try_clone().unwrap())];
        let cookie = |listeners: &Listeners| fetched::cookie(&*listeners.inherited[0].fd).unwrap();
        // A base that lives does not have it yet; from then on it has.
        let me = [std::process::id()];
        let first = open(path, path, &[], pass(), &me, None).unwrap();
        assert_eq!((first.ingress.as_slice(), first.fresh.as_slice()), ([address].as_slice(), [address].as_slice()));
        assert_eq!(first.inherited.len(), 2, "the ingress and invoke");
        drop(first);
        let second = open(path, path, &[address], pass(), &me, None).unwrap();
        assert_eq!(
            (second.ingress.as_slice(), cookie(&second)),
            ([address].as_slice(), fetched::cookie(&held).unwrap())
        );
        assert!(second.fresh.is_empty());
    }

    #[test]
    fn another_socket_is_not_taken_for_the_one_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), folder.path(), &[ANY], vec![], &[], None).unwrap();
        let socket = &first.inherited[0].fd;
        let inode = fstat(&**socket).unwrap().st_ino;
        let cookie = fetched::cookie(&**socket).unwrap();
        let pid = std::process::id();
        assert!(fetched::from_process(pid, inode, cookie).is_some());
        assert!(fetched::from_process(pid, inode, cookie + 1).is_none(), "the inode alone proves nothing");
    }

    #[test]
    fn damaged_notes_are_no_notes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NOTES), b"{").unwrap();
        assert_eq!(read(folder.path()), vec![]);
        open(folder.path(), folder.path(), &[ANY], vec![], &[], None).unwrap();
        assert_eq!(read(folder.path()).len(), 2);
    }
}
