//! `mortise new`, `check`, `pack` and `install`: from a folder to a registered package.

use std::path::Path;

use super::arguments::New;
use super::fault::{Done, Fault};
use super::session::Session;
use crate::api::{ApiError, Blame, ErrorCode};
use crate::manifest::{self, Manifest};

/// `mortise check`.
pub fn check(session: &Session, path: &Path) -> Done {
    let file = if path.is_dir() { path.join(manifest::FILE_NAME) } else { path.to_owned() };
    let text = std::fs::read(&file).map_err(|error| Fault::file(&file, &error))?;
    match Manifest::parse_bytes(&text, &file.display().to_string()) {
        Ok(manifest) => session.screen.line(&format!("{} {}: nothing is wrong", manifest.name, manifest.version)),
        Err(report) => {
            let count = report.to_string();
            Err(ApiError::new(ErrorCode::PackageRefused, Blame::Module, count).into())
        }
    }
}

/// `mortise new`.
pub fn new(_: &Session, _: &New) -> Done {
    Err(Fault::command_line("pending").into())
}

/// `mortise pack`.
pub async fn pack(_: &Session, _: &Path, _: Option<&Path>) -> Done {
    Err(Fault::command_line("pending").into())
}

/// `mortise install`.
pub async fn install(_: &Session, _: &Path) -> Done {
    Err(Fault::command_line("pending").into())
}
