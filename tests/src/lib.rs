//! What whole-system tests stand on: a supervisor of their own with its base, and a picture of the machine before and after.
//!
//! Every file under `tests/tests` is one promise. A test that cannot run where it stands says so by [`skip`].

mod baseline;
mod dying;
mod world;

pub use baseline::Baseline;
pub use dying::dying_groups;
pub use world::{World, artifacts, eventually, request_until};

use std::io::Write as _;

/// Says that a test is skipped, and why: to people, and to `cargo xtask test`, which counts it.
pub fn skip(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    let Some(path) = std::env::var_os("MORTISE_SKIPPED") else { return };
    let said = std::fs::File::options().append(true).open(path).and_then(|mut it| writeln!(it, "{test}: {why}"));
    if let Err(e) = said {
        eprintln!("MORTISE_SKIPPED: {e}");
    }
}

/// Ends the test as skipped unless it runs as root: without it the limits that it is about are not enforced.
#[macro_export]
macro_rules! as_root {
    () => {
        if !$crate::is_root() {
            $crate::skip(std::thread::current().name().unwrap_or(module_path!()), "it needs root");
            return;
        }
    };
}

/// Whether we run as root.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
