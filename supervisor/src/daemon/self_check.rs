//! `mortised --self-check HANDOVER SNAPSHOT ARGUMENTS`: whether this program could take over from the one that asks.
//!
//! It reads the settings that it would go by, looks for its init, and reads and writes (a copy in memory of) a snapshot of the store. What is
//! wrong is said on stderr, and the one that asks goes on as it is; what is right is said as JSON, so that no other program passes for a
//! `mortised` by ending with 0.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Parser as _;
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::run::{STORE, libexec};
use super::settings::Loaded;
use super::{Arguments, candidate, handover};
use crate::api::{ApiError, Blame, ErrorCode};
use crate::store;

/// The word that asks for it.
pub(super) const SELF_CHECK: &str = "--self-check";

/// How long a program may look at itself, the snapshot and the settings.
const WITHIN: Duration = Duration::from_secs(10);

/// What is read of what it says, on either way.
const SAID_BYTES: u64 = 8 << 10;

/// What a program says that could take over. Later versions may say more.
#[derive(Debug, Serialize, Deserialize)]
struct Fit {
    /// Its version.
    mortised: String,
}

/// Asks the program in `file`; returns its version.
pub(super) async fn ask(file: &File, path: &Path, state: &Path) -> Result<String, ApiError> {
    let failed = |problem: String| {
        let message = format!("{} fails its self-check: {problem}", path.display());
        ApiError::new(ErrorCode::Failed, Blame::Caller, message)
            .remedy("The supervisor that runs goes on. Mend what it says, or give another program.")
    };
    let store = state.join(STORE);
    let snapshot = tokio::task::spawn_blocking(move || store::snapshot(&store)).await;
    let snapshot = snapshot.map_err(|error| failed(error.to_string()))?.map_err(|error| {
        ApiError::new(ErrorCode::Storage, Blame::Host, format!("no snapshot of the store can be made: {error}"))
            .remedy("The supervisor that runs goes on. Make room in --state, then ask again.")
    })?;
    let stdin = file.try_clone().map_err(|error| failed(error.to_string()))?;
    // By the descriptor, so that it is this very file; as its input, so that a script finds itself there, too.
    let mut command = tokio::process::Command::new("/proc/self/fd/0");
    command.args([SELF_CHECK, &handover::VERSION.to_string()]).arg(snapshot.path().join(STORE));
    command.args(std::env::args_os().skip(1)).env_remove("NOTIFY_SOCKET");
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = async { tokio::join!(said(stdout), said(stderr), child.wait()) };
    let (stdout, stderr, status) = tokio::time::timeout(WITHIN, ended)
        .await
        .map_err(|_| failed(format!("it did not end within {} s", WITHIN.as_secs())))?;
    let status = status.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(format!("{} ({status})", stderr.trim())));
    }
    match serde_json::from_str::<Fit>(&stdout) {
        Ok(it) => Ok(it.mortised),
        Err(_) => Err(failed("it does not answer as a mortised does".into())),
    }
}

/// The beginning of what it says; the rest is read and dropped, so that it can end.
async fn said(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut beginning = Vec::new();
    let read = (&mut from).take(SAID_BYTES).read_to_end(&mut beginning).await;
    if read.is_ok() {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&beginning).into_owned()
}

/// The words behind `--self-check`: the version of the hand-over, the snapshot, then the arguments of the supervisor that runs.
pub(super) fn main(words: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut words = words.peekable();
    let asked = words.next().and_then(|it| it.to_str()?.parse().ok());
    let Some((version, snapshot)) = asked.zip(words.next().map(PathBuf::from)) else {
        eprintln!("{SELF_CHECK} needs the version of a hand-over and a snapshot of the store");
        return ExitCode::from(super::WRONG);
    };
    let arguments = match Arguments::try_parse_from(std::iter::once("mortised".into()).chain(words)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprint!("{error}");
            return ExitCode::from(super::WRONG);
        }
    };
    match check(version, &snapshot, &arguments) {
        Ok(fit) => {
            println!("{fit}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn check(version: u32, snapshot: &Path, arguments: &Arguments) -> Result<String, String> {
    if version != handover::VERSION {
        let known = handover::VERSION;
        return Err(format!(
            "the supervisor that runs hands over in version {version}, and this one takes version {known}: restart it instead"
        ));
    }
    let loaded = Loaded::new(arguments).map_err(|refused| refused.to_string())?;
    let init = libexec(&loaded.settings).map_err(|error| error.to_string())?.join("mortise-init");
    access(&init, AccessFlags::X_OK).map_err(|errno| {
        format!("{} cannot be executed ({}); --libexec names its folder", init.display(), errno.desc())
    })?;
    candidate::trusted(&init.canonicalize().map_err(|error| format!("{}: {error}", init.display()))?)?;
    store::check(snapshot).map_err(|error| error.to_string())?;
    let fit = Fit { mortised: env!("CARGO_PKG_VERSION").to_owned() };
    serde_json::to_string(&fit).map_err(|error| error.to_string())
}
