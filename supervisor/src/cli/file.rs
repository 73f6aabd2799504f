//! Files that the admin API takes: read whole, within what it takes.

use std::io::Read as _;
use std::path::Path;

use super::fault::Fault;
use crate::api::{ApiError, Blame, ErrorCode};

/// The longest file: what the admin API takes, too.
const LONGEST: u64 = 32 * 1024;

/// What is in the file; `-` is standard input.
pub fn read(path: &Path) -> Result<String, Fault> {
    let shown = path.display();
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(LONGEST + 1).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|it| it.take(LONGEST + 1).read_to_string(&mut text)),
    };
    read.map_err(|error| wrong(format!("{shown} cannot be read: {error}")))?;
    if text.len() as u64 > LONGEST {
        return Err(wrong(format!(
            "{shown} is longer than {LONGEST} bytes, which is all that the admin API takes of it"
        )));
    }
    Ok(text)
}

/// The file is not what it should be.
pub fn wrong(message: String) -> Fault {
    Fault::from(ApiError::new(ErrorCode::Invalid, Blame::Caller, message))
}
