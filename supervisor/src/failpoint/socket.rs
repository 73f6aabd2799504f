//! Where a test says which point is to do what: a line a connection, a line back.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::armed::Times;
use super::{Point, armed};

/// The socket in the run folder.
const NAME: &str = "failpoints.sock";

/// Faults that are there from the beginning: `NAME=kill` or `NAME=ERRNO`, with `;` between them. An error is there until all are cleared.
const VARIABLE: &str = "MORTISE_FAILPOINTS";

/// Sets what the environment asks for, and listens for more.
pub(crate) fn serve(run: &Path) -> io::Result<()> {
    for fault in std::env::var(VARIABLE).unwrap_or_default().split(';').filter(|it| !it.is_empty()) {
        let (name, fault) = fault.split_once('=').unwrap_or((fault, "kill"));
        set(name, fault, Times::Always).map_err(io::Error::other)?;
    }
    let path = run.join(NAME);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::thread::Builder::new().name("failpoints".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(&stream) {
                tracing::warn!(%error, "whoever sets failpoints does not listen");
            }
        }
    })?;
    Ok(())
}

fn answer(mut stream: &UnixStream) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let list = |names: std::collections::BTreeSet<String>| Ok(names.into_iter().collect::<Vec<_>>().join(" "));
    let said = match words[..] {
        ["set", name, fault] => set(name, fault, Times::Once).map(|()| String::new()),
        ["hold", name, fault] => set(name, fault, Times::Always).map(|()| String::new()),
        ["clear"] => {
            armed::clear();
            Ok(String::new())
        }
        ["names"] => Ok(Point::NAMES.join(" ")),
        ["reached"] => list(armed::reached()),
        ["failed"] => list(armed::failed()),
        _ => Err("set NAME kill|ERRNO, hold NAME ERRNO, clear, names, reached or failed".to_owned()),
    };
    match said {
        Ok(text) => writeln!(stream, "ok {text}"),
        Err(why) => writeln!(stream, "error {why}"),
    }
}

fn set(name: &str, fault: &str, times: Times) -> Result<(), String> {
    let point = name.split_once(':').map_or(name, |(point, _)| point);
    if !Point::NAMES.contains(&point) {
        return Err(format!("there is no point {point:?}"));
    }
    match fault {
        "kill" => armed::set_kill(name),
        errno => {
            let errno = errno.parse().map_err(|_| format!("{errno:?} is no number of an error"))?;
            armed::set_error(name, errno, times)
        }
    }
}
