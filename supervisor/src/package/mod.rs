//! Packages: from a module's folder to one file, and from that file to a verified, read-only tree.
//!
//! ```text
//!   folder ──collect──▶ list of files ──pack──▶ NAME-VERSION.mortise ──upload──▶ PackageStore::install
//!                                                                                  │ seal, then read, unpack into
//!                                                                                  │ incoming/, sync, rename
//!                                                                                  ▼
//!                         STATE/packages/HEX.mortise + STATE/packages/sha256/HEX/   (a worker's /module)
//! ```
//!
//! A package file is one zstd frame that holds a tar archive, and a seal (see `seal.rs`). `tar --zstd -tvf` shows what is in it.
//! The archive is canonical: one tree has one archive, and what `pack` would not have written is not taken in.

mod bounds;
mod collect;
mod digest;
mod error;
mod fingerprint;
mod header;
mod pack;
mod read;
mod seal;
mod store;
mod tree;
mod unpack;

pub use digest::{Digest, InvalidDigest};
pub use error::PackageError;
pub use fingerprint::fingerprint;
pub use pack::{Packed, pack};
pub use store::{Installed, PackageStore};
pub(crate) use tree::open_inside;

#[cfg(test)]
mod tests;
