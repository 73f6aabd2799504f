//! A figures page: any bytes give entries with names of their own, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mortise_control::stats::{CAPACITY, PAGE_BYTES, decode};

fuzz_target!(|bytes: &[u8]| {
    let mut page = vec![0; PAGE_BYTES];
    let len = bytes.len().min(PAGE_BYTES);
    page[..len].copy_from_slice(&bytes[..len]);
    if let Ok(entries) = decode(&page) {
        assert!(entries.len() <= CAPACITY);
    }
    let _ = decode(bytes);
});
