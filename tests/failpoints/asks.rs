//! The two sockets of a supervisor that a case speaks to: the admin API, one request a connection, and that of the failpoints.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

/// Status and body. An error: it died.
pub fn http(socket: &Path, line: &str, body: &[u8]) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    let length = body.len();
    let kind = if body.first() == Some(&b'{') { "json" } else { "octet-stream" };
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/{kind}\r\n\
         Content-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.get(9..12).and_then(|it| it.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let body = serde_json::from_str(body).map_err(|error| io::Error::other(format!("{error}: {text}")))?;
    Ok((status, body))
}

/// What the supervisor says to a line about failpoints.
pub fn failpoints(run: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(run.join("failpoints.sock")).expect("mortised has failpoints");
    writeln!(stream, "{line}").expect("it listens");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it answers");
    said.strip_prefix("ok ").unwrap_or_else(|| panic!("{line}: {said}")).trim().to_owned()
}
