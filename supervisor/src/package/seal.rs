//! The end of a package file, which says that it is whole.
//!
//! ```text
//!   zstd frame with the archive │ 5d 2a 4d 18 │ 48 as u32 LE │ "mortise-package1" │ sha256 of all before the seal
//!                               └──────────────── a skippable frame: zstd and tar pass over it ────────────────┘
//! ```
//! The package's digest is the sha256 of all this, what `sha256sum` says. A signature of that digest will stand behind the seal in
//! a frame of its own (`5e 2a 4d 18`); a file that has anything there is refused today.

use sha2::{Digest as _, Sha256};

use super::{Digest, PackageError};

/// Bytes of a seal.
pub(super) const BYTES: usize = 56;

const HEAD: &[u8; 24] = b"\x5d\x2a\x4d\x18\x30\0\0\0mortise-package1";

/// Takes the bytes of a package file one after the other and keeps the last [`BYTES`] apart.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    body: Sha256,
    body_bytes: u64,
    tail: Vec<u8>,
}

/// A file whose seal holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub digest: Digest,
    /// Bytes of the zstd frame: everything before the seal.
    pub body_bytes: u64,
}

impl Sealing {
    pub fn update(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let out = self.tail.len().saturating_sub(BYTES);
        self.body.update(&self.tail[..out]);
        self.body_bytes += out as u64;
        self.tail.drain(..out);
    }

    /// The file has ended.
    ///
    /// # Errors
    /// [`PackageError::Broken`]
    pub fn check(self) -> Result<Sealed, PackageError> {
        let broken = |problem: &str| Err(PackageError::Broken(problem.into()));
        let Some((head, sum)) = self.tail.split_at_checked(HEAD.len()) else {
            return broken("it is too short to be one");
        };
        if head != HEAD {
            return broken("its end is missing, or it is another kind of file");
        }
        if self.body.clone().finalize().as_slice() != sum {
            return broken("it was altered after it was made");
        }
        let digest = Digest::of(self.body.chain_update(&self.tail));
        Ok(Sealed { digest, body_bytes: self.body_bytes })
    }
}

/// The seal of a file whose body has this sha256.
pub(super) fn seal(body: Sha256) -> [u8; BYTES] {
    let mut seal = [0; BYTES];
    seal[..HEAD.len()].copy_from_slice(HEAD);
    seal[HEAD.len()..].copy_from_slice(&body.finalize());
    seal
}
