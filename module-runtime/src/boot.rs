//! The boot record and the descriptors that come with it.
#![allow(unsafe_code, reason = "inherited descriptors get their owner here")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use mortise_control::{BOOT_FD_VARIABLE, Boot, PROTOCOL};
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};

/// A record is small; this bounds what is read before it is checked.
const RECORD_MOST: u64 = 1 << 20;

/// Why there is no boot record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// Not started by a supervisor at all.
    #[error("it was not started by Mortise ({BOOT_FD_VARIABLE} is not set)")]
    NotAWorker,
    /// Something is set, and it is no record.
    #[error("descriptor {fd} ({BOOT_FD_VARIABLE}) holds no boot record: {reason}")]
    Record {
        /// Which descriptor.
        fd: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Who the worker is, and the descriptors that were meant for it.
pub(crate) type Inherited = (Boot, BTreeMap<String, OwnedFd>);

/// Reads the record that the environment names. Called once, before anything else in the process opens a descriptor.
pub(crate) fn take() -> Result<Inherited, BootError> {
    let Some(variable) = std::env::var_os(BOOT_FD_VARIABLE) else { return Err(BootError::NotAWorker) };
    let fd = variable.to_string_lossy().into_owned();
    let refuse = |reason: String| BootError::Record { fd: fd.clone(), reason };
    let number: i32 = fd.parse().map_err(|_| refuse("it is no number".into()))?;
    if number < 3 {
        return Err(refuse("0, 1 and 2 are input and output".into()));
    }
    let record = own(number).map_err(&refuse)?;
    let boot = read(&record).map_err(&refuse)?;
    let mut inherited = BTreeMap::new();
    let mut numbers = BTreeSet::from([number]);
    for it in &boot.inherited {
        let owned = if numbers.insert(it.fd) { own(it.fd) } else { Err("another one has that number".into()) };
        let owned =
            owned.map_err(|reason| refuse(format!("inherited descriptor {} ({}): {reason}", it.name, it.fd)))?;
        if inherited.insert(it.name.clone(), owned).is_some() {
            return Err(refuse(format!("inherited descriptor {} is there twice", it.name)));
        }
    }
    Ok((boot, inherited))
}

/// Takes a descriptor that the process was started with, and keeps it from being handed on.
fn own(number: i32) -> Result<OwnedFd, String> {
    if number < 3 {
        return Err("0, 1 and 2 are input and output".into());
    }
    // SAFETY: only borrowed for the fcntl, which answers EBADF for a number that is not open.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|e| e.to_string())?;
    // SAFETY: it is open (the fcntl worked), and the process was started with it: this runs first in `main`, once, when nobody
    // else in the process has opened or been given a descriptor beyond input and output; and `take` refuses a number that
    // the record names twice.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Reads and checks a record.
fn read(record: &OwnedFd) -> Result<Boot, String> {
    let seals = fcntl(record.as_fd(), FcntlArg::F_GET_SEALS).map_err(|e| format!("it is no memfd: {e}"))?;
    if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE) {
        return Err("it is not write-sealed".into());
    }
    let file = std::fs::File::from(record.try_clone().map_err(|e| e.to_string())?);
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut &file).map_err(|e| e.to_string())?;
    file.take(RECORD_MOST).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let boot: Boot = rmp_serde::from_slice(&bytes).map_err(|e| e.to_string())?;
    if boot.protocol.abs_diff(PROTOCOL) > 1 {
        return Err(format!(
            "it is of protocol {}, and this module's SDK speaks {PROTOCOL}: build the module with a matching SDK",
            boot.protocol
        ));
    }
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::sealed;
    use crate::testing::boot_record;

    #[test]
    fn a_sealed_record_is_read_and_nothing_else() {
        let boot = boot_record("spell");
        let bytes = rmp_serde::to_vec_named(&boot).unwrap();
        assert_eq!(read(&sealed(&bytes).unwrap()).unwrap().module, boot.module);
        assert!(read(&sealed(&bytes[1..]).unwrap()).is_err());
        assert!(read(&sealed(b"").unwrap()).is_err());
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(read(&file.into()).unwrap_err().contains("no memfd"));
        let future = Boot { protocol: PROTOCOL + 2, ..boot };
        let bytes = rmp_serde::to_vec_named(&future).unwrap();
        assert!(read(&sealed(&bytes).unwrap()).unwrap_err().contains("matching SDK"));
    }

    #[test]
    fn input_and_output_are_never_taken() {
        for number in [-1, 0, 1, 2] {
            assert!(own(number).is_err());
        }
        assert!(own(1_000_000).is_err());
    }
}
