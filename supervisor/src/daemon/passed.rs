//! Listening sockets that the service manager holds for us, by the names that its socket units give them: `ingress` and `admin`.
//! Connections wait in them while there is no supervisor, and its successor is given the very same ones.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt};

use super::{StartError, fetched};

/// `FileDescriptorName=` of the addresses of HTTP requests.
const INGRESS: &str = "ingress";

/// `FileDescriptorName=` of the socket of the admin API.
const ADMIN: &str = "admin";

/// What we were given.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Each with its address.
    pub ingress: Vec<(SocketAddr, TcpListener)>,
    pub admin: Option<UnixListener>,
}

impl Passed {
    /// Takes them.
    ///
    /// # Errors
    /// [`StartError::Passed`] for one that we do not know what to do with: connections would wait in it for ever.
    pub fn take() -> Result<Self, StartError> {
        let given = sd_notify::listen_fds_with_names().map_err(StartError::kernel("take the sockets of LISTEN_FDS"))?;
        let mut passed = Self::default();
        for (number, name) in given {
            let socket = fetched::own_descriptor(number).map_err(StartError::kernel("take a socket of LISTEN_FDS"))?;
            passed.add(&name, socket)?;
        }
        Ok(passed)
    }

    fn add(&mut self, name: &str, socket: OwnedFd) -> Result<(), StartError> {
        let refused = |problem: &str| StartError::Passed { name: name.to_owned(), problem: problem.to_owned() };
        let listens = getsockopt(&socket, sockopt::AcceptConn);
        if listens != Ok(true) {
            return Err(refused("it does not listen; the unit is to have ListenStream= and no Accept="));
        }
        let family = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(|it| it.family());
        let failed = |error: std::io::Error| refused(&error.to_string());
        match (name, family) {
            (INGRESS, Some(AddressFamily::Inet | AddressFamily::Inet6)) => {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                self.ingress.push((listener.local_addr().map_err(failed)?, listener));
            }
            (INGRESS, _) => return Err(refused("it is no TCP socket; ListenStream= is to be an address with a port")),
            (ADMIN, Some(AddressFamily::Unix)) if self.admin.is_none() => {
                let listener = UnixListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                self.admin = Some(listener);
            }
            (ADMIN, _) => return Err(refused("it is to be one Unix socket; ListenStream= is to be a path, once")),
            _ => return Err(refused("FileDescriptorName= is to be ingress or admin")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn each_socket_goes_where_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut passed = Passed::default();
        passed.add(INGRESS, tcp()).unwrap();
        passed.add(INGRESS, tcp()).unwrap();
        passed.add(ADMIN, UnixListener::bind(folder.path().join("a")).unwrap().into()).unwrap();
        assert_eq!(passed.ingress.len(), 2);
        assert_ne!(passed.ingress[0].0, passed.ingress[1].0);
        assert!(passed.admin.is_some());
    }

    #[test]
    fn a_socket_that_nobody_would_accept_from_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let unix = |name| OwnedFd::from(UnixListener::bind(folder.path().join(name)).unwrap());
        let mut passed = Passed::default();
        passed.add(ADMIN, unix("first")).unwrap();
        let connection = std::os::unix::net::UnixStream::pair().unwrap().0;
        for (name, socket, told) in [
            (ADMIN, unix("second"), "once"),
            (ADMIN, tcp(), "a path"),
            (INGRESS, unix("third"), "no TCP socket"),
            ("mortised.socket", tcp(), "FileDescriptorName="),
            (ADMIN, connection.into(), "does not listen"),
        ] {
            let refused = passed.add(name, socket).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains(told), "{refused}");
        }
    }
}
