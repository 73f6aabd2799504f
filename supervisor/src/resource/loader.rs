//! The loader itself: what `mortised loader CHANNEL JOIN…` does. Its standard input is the file, its standard output the memfd.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;

use ipc_channel::ipc::IpcSender;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The first argument of `mortised` that makes it a loader.
pub const WORD: &str = "loader";

/// After these a memfd is what it is: nobody writes it, by a descriptor or a mapping, or changes its length.
pub(super) const SEALS: SealFlag =
    SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_WRITE).union(SealFlag::F_SEAL_SEAL);

/// What was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub len: u64,
    pub sha256: [u8; 32],
}

/// Runs the loader; `args` are those after [`WORD`].
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let channel = args.next().and_then(|it| it.into_string().ok());
    let Some(channel) = channel else {
        eprintln!("this is a part of mortised that it starts itself");
        return ExitCode::FAILURE;
    };
    let report = load(args);
    let sent = IpcSender::connect(channel).and_then(|sender| sender.send(report).map_err(io::Error::other));
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the supervisor does not take the report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(join: impl Iterator<Item = OsString>) -> Result<Report, String> {
    // Before the first page is touched: what is charged stays with the group in which it was.
    for file in join {
        // `0` is the writer itself; on v1 any other number takes a lock of the whole kernel.
        fs::write(&file, "0").map_err(|error| format!("the group cannot be joined by {}: {error}", file.display()))?;
    }
    let mut from = descriptor(io::stdin()).map_err(|error| format!("there is no file: {error}"))?;
    let mut to = descriptor(io::stdout()).map_err(|error| format!("there is no memory file: {error}"))?;
    let mut hash = Sha256::new();
    let mut len = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("it cannot be read: {error}")),
        };
        hash.update(&buffer[..got]);
        to.write_all(&buffer[..got]).map_err(|error| format!("it does not fit into memory: {error}"))?;
        len += got as u64;
    }
    fcntl(&to, FcntlArg::F_ADD_SEALS(SEALS)).map_err(|errno| format!("it cannot be sealed: {errno}"))?;
    Ok(Report { len, sha256: hash.finalize().into() })
}

/// The bare descriptor, without the buffer and the lock of the standard streams.
fn descriptor(stream: impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}
