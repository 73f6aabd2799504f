//! What a machine has too little of.

use std::fs::{self, File};
use std::io::Write as _;

use nix::unistd::pause;

use crate::lives::{child, fork_forever};
use crate::raw::{Raw, found};

/// Processes that make processes.
pub fn forks() {
    let raw = Raw::ready();
    child(fork_forever);
    raw.go_on();
}

/// Threads that wait for nothing.
pub fn threads() {
    let raw = Raw::ready();
    let mut made = 0;
    while std::thread::Builder::new().stack_size(64 << 10).spawn(pause).is_ok() {
        made += 1;
    }
    found("threads", made);
    raw.go_on();
}

/// Children that take memory until one is killed, and others after them.
pub fn memory() {
    let raw = Raw::ready();
    child(|| {
        loop {
            let taker = child(|| {
                let mut taken = Vec::new();
                loop {
                    taken.push(vec![1_u8; 1 << 20]);
                }
            });
            let _ = nix::sys::wait::waitpid(taker, None);
        }
    });
    raw.go_on();
}

/// All bytes and then all names of its /tmp.
pub fn fills_its_tmp() {
    let raw = Raw::ready();
    let mut bytes = 0_u64;
    if let Ok(mut file) = File::create("/tmp/bytes") {
        let block = vec![1; 64 << 10];
        while let Ok(written) = file.write(&block) {
            bytes += written as u64;
        }
    }
    found("bytes", bytes);
    let _ = fs::remove_file("/tmp/bytes");
    let mut names = 0_u64;
    while names < 1_000_000 && File::create(format!("/tmp/{names}")).is_ok() {
        names += 1;
    }
    found("names", names);
    raw.go_on();
}

/// A folder in a folder in a folder.
pub fn digs_folders() {
    let raw = Raw::ready();
    let mut depth = 0_u64;
    let _ = std::env::set_current_dir("/tmp").and_then(|()| fs::create_dir("deep"));
    // From below: going down, the kernel would look at all the folders above for each new one, and quadratically is slow.
    let put_into_another =
        || fs::create_dir("top").and_then(|()| fs::rename("deep", "top/deep")).and_then(|()| fs::rename("top", "deep"));
    while depth < 100_000 && put_into_another().is_ok() {
        depth += 1;
    }
    found("depth", depth);
    raw.go_on();
}
