//! Is the program there, and is it well?

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::dial;
use crate::start::waiting_connections;

/// A program that does not answer within this time is not well.
const WITHIN: Duration = Duration::from_secs(10);
/// The kernel tells nobody when a connection is accepted, so it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The status line must come within this many bytes.
const MOST_READ: usize = 1024;

/// One look at the program.
pub(super) struct Probe {
    state: State,
    request: Option<Vec<u8>>,
    deadline: Instant,
}

enum State {
    Connecting(OwnedFd),
    /// Connected to a listener that the program inherited: anybody can connect to that, so it must also be accepted.
    Waiting {
        connection: OwnedFd,
        look: Instant,
    },
    Asking {
        connection: File,
        sent: usize,
        answer: Vec<u8>,
    },
    /// It could not even begin.
    Failed,
}

pub(super) enum Outcome {
    Pending,
    Well,
    Unwell,
}

impl Probe {
    pub fn start(address: SocketAddrV4, health: Option<&str>, now: Instant) -> Self {
        let request = health.map(|path| {
            let lines = ["Host: localhost", "User-Agent: mortise-init", "Accept: */*", "Connection: close", "", ""];
            format!("GET {path} HTTP/1.1\r\n{}", lines.join("\r\n")).into_bytes()
        });
        let state = dial::begin(address).map_or(State::Failed, State::Connecting);
        Self { state, request, deadline: now + WITHIN }
    }

    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        match &self.state {
            State::Connecting(connection) => Some(PollFd::new(connection.as_fd(), PollFlags::POLLOUT)),
            State::Waiting { connection, .. } => Some(PollFd::new(connection.as_fd(), PollFlags::POLLIN)),
            State::Asking { connection, sent, .. } => {
                let unsent = self.request.as_ref().is_some_and(|it| *sent < it.len());
                let flags = if unsent { PollFlags::POLLOUT } else { PollFlags::POLLIN };
                Some(PollFd::new(connection.as_fd(), flags))
            }
            State::Failed => None,
        }
    }

    pub fn deadline(&self) -> Instant {
        match &self.state {
            State::Waiting { look, .. } => self.deadline.min(*look),
            State::Connecting(_) | State::Asking { .. } | State::Failed => self.deadline,
        }
    }

    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline() <= now
    }

    /// Goes on as far as it can. `listener`: the one that the program inherited.
    pub fn advance(&mut self, listener: Option<&TcpListener>) -> Outcome {
        loop {
            if self.deadline <= Instant::now() {
                return Outcome::Unwell;
            }
            match &mut self.state {
                State::Failed => return Outcome::Unwell,
                State::Connecting(connection) => match dial::state(connection) {
                    None => return Outcome::Pending,
                    Some(Err(_)) => return Outcome::Unwell,
                    Some(Ok(())) => self.connected(listener.is_some()),
                },
                State::Waiting { look, .. } => match listener.map(waiting_connections) {
                    None | Some(Some(0)) => return Outcome::Well,
                    Some(None) => return Outcome::Unwell,
                    Some(Some(_)) => {
                        *look = Instant::now() + LOOK_EVERY;
                        return Outcome::Pending;
                    }
                },
                State::Asking { connection, sent, answer } => {
                    let request = self.request.as_deref().unwrap_or_default();
                    return ask(connection, &request[(*sent).min(request.len())..], sent, answer);
                }
            }
        }
    }

    fn connected(&mut self, inherited: bool) {
        let State::Connecting(connection) = std::mem::replace(&mut self.state, State::Failed) else { return };
        self.state = match (&self.request, inherited) {
            (Some(_), _) => State::Asking { connection: connection.into(), sent: 0, answer: Vec::new() },
            // The program's own listener: that it is there says that the program listens.
            (None, false | true) => State::Waiting { connection, look: Instant::now() },
        };
    }
}

/// Sends what is left of the request and reads the status line.
fn ask(connection: &mut File, unsent: &[u8], sent: &mut usize, answer: &mut Vec<u8>) -> Outcome {
    if !unsent.is_empty() {
        match connection.write(unsent) {
            Ok(written) => *sent += written,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Outcome::Unwell,
        }
        return Outcome::Pending;
    }
    let mut chunk = [0; 256];
    match connection.read(&mut chunk) {
        Ok(0) => return Outcome::Unwell,
        Ok(read) => answer.extend_from_slice(&chunk[..read]),
        Err(e) if e.kind() == ErrorKind::WouldBlock => return Outcome::Pending,
        Err(_) => return Outcome::Unwell,
    }
    match status(answer) {
        Some(200..300) => Outcome::Well,
        Some(_) => Outcome::Unwell,
        None if answer.contains(&b'\n') || answer.len() > MOST_READ => Outcome::Unwell,
        None => Outcome::Pending,
    }
}

/// The status of an HTTP/1 answer, once its status line is there.
fn status(answer: &[u8]) -> Option<u16> {
    let line = &answer[..answer.iter().position(|it| *it == b'\n')?];
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (version, rest) = line.split_once(' ')?;
    let code = rest.get(..3).filter(|_| version.starts_with("HTTP/1."))?;
    code.bytes().all(|it| it.is_ascii_digit()).then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_when_it_is_whole() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\nX: y"), Some(204));
        assert_eq!(status(b"HTTP/1.0 500\n"), Some(500));
        assert_eq!(status(b"HTTP/1.1 200 OK"), None);
        assert_eq!(status(b"SSH-2.0 200\n"), None);
        assert_eq!(status(b"HTTP/1.1 +20\r\n"), None);
        assert_eq!(status(b"HTTP/1.1 2\xff0\r\n"), None);
    }

    #[test]
    fn a_listener_tells_how_many_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(waiting_connections(&listener), Some(0));
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(waiting_connections(&listener), Some(1));
        let _server = listener.accept().unwrap();
        assert_eq!(waiting_connections(&listener), Some(0));
    }
}
