//! A virtual machine with a real systemd and cgroup v2, and the whole-system tests in it.
//!
//! ```text
//!   image.rs    recipe ──mmdebstrap, mkfs.ext4──▶ disk, kernel (cached by the recipe's hash)
//!   payload.rs  programs, packages, tests, run.sh ──mkfs.ext4──▶ payload disk
//!   machine.rs  both ──qemu──▶ run.service runs run.sh ──second serial line──▶ results
//! ```
//!
//! The processor is emulated: slow, but right. So the machine tells functions, not timings.

mod image;
mod machine;
mod payload;

use xtask::Failure;

pub use image::Debian;
use image::Image;

/// Why the machine cannot be had here, if it cannot.
pub fn unavailable() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("building the machine's disk needs root");
    }
    (!cfg!(target_arch = "x86_64")).then_some("the machine is an x86_64 one")
}

/// Runs the whole-system tests in the machine and hands over each line that they print.
///
/// # Errors
/// The machine could not be built or started, or did not come to its end.
pub fn run_suite(debian: Debian, filter: Option<&str>, line: impl FnMut(&str)) -> Result<(), Failure> {
    let image = Image::ready(debian)?;
    let scratch = tempfile::tempdir()?;
    let payload = payload::payload(scratch.path(), filter.unwrap_or(""))?;
    machine::boot(&image, &payload, line)
}
