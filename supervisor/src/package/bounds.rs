//! How large a package may be. A package is hostile until it is in the store.

/// Bytes of a package file.
pub(super) const PACKAGE_BYTES: u64 = 1 << 30;
/// Bytes of all its files.
pub(super) const CONTENT_BYTES: u64 = 4 << 30;
/// Files and folders.
pub(super) const ENTRIES: u64 = 20_000;
/// Bytes that any package may unpack to, however small it is.
pub(super) const FREE_BYTES: u64 = 64 << 20;
/// Bytes beyond those for each byte of the package file: executables compress to a third, text to a tenth.
pub(super) const RATIO: u64 = 200;
/// zstd's window: what unpacking needs of memory, as a power of two.
pub(super) const WINDOW_LOG: u32 = 23;

/// The most bytes that a package file of `package_bytes` may unpack to.
pub(super) fn content(package_bytes: u64) -> u64 {
    FREE_BYTES.saturating_add(package_bytes.saturating_mul(RATIO)).min(CONTENT_BYTES)
}
