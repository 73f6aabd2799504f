//! Packages: from a module's folder to one file, and from that file to a verified, read-only tree.
//!
//! ```text
//!   folder ──pack()──▶ NAME-VERSION.mortise ──upload──▶ PackageStore::install()
//!                                                          │ verify, unpack into incoming/, sync, rename
//!                                                          ▼
//!                      STATE/packages/HEX.mortise + STATE/packages/sha256/HEX/   (a worker's /module)
//! ```

mod digest;
mod error;
mod pack;
mod store;

pub use digest::{Digest, InvalidDigest};
pub use error::PackageError;
pub use pack::{Packed, pack};
pub use store::{Installed, PackageStore};
