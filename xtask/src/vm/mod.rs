//! A virtual machine with a real systemd and cgroup v2, and the whole-system tests in it.
//!
//! ```text
//!   image.rs    recipe ──mmdebstrap, mkfs.ext4──▶ disk, kernel (cached by the recipe's hash)
//!   payload.rs  programs, packages, tests, run.sh ──mkfs.ext4──▶ payload disk
//!   machine.rs  both ──qemu──▶ run.service runs run.sh ──second serial line──▶ results
//!   cuts        the same on a disk that lasts, and its power is cut
//! ```
//!
//! The processor is emulated: slow, but right. So the machine tells functions, not timings.

mod cuts;
mod image;
mod machine;
mod payload;

use xtask::Failure;

pub use image::Debian;
use image::Image;
use machine::{Disk, Machine, Next};

/// The filter that asks for power cuts alone.
pub const CUTS: &str = "cuts";

/// Why the machine cannot be had here, if it cannot.
pub fn unavailable() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("building the machine's disk needs root");
    }
    (!cfg!(target_arch = "x86_64")).then_some("the machine is an x86_64 one")
}

/// What is done in the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    pub debian: Debian,
    pub filter: Option<&'a str>,
    /// How often its power is cut.
    pub cuts: u32,
    /// Whether the supervisor syncs nothing, so that the check of what the cuts leave is to find something wrong.
    pub without_sync: bool,
}

/// Runs the whole-system tests in the machine, cuts its power so many times, and hands over each line that is printed.
///
/// # Errors
/// The machine could not be built or started, or did not come to its end.
pub fn run_suite(wanted: Wanted<'_>, mut line: impl FnMut(&str)) -> Result<(), Failure> {
    let Wanted { debian, filter, cuts, without_sync } = wanted;
    let image = Image::ready(debian)?;
    let scratch = tempfile::tempdir()?;
    if without_sync {
        let payload = payload::payload_without_sync(scratch.path())?;
        return cuts::are_noticed(&image, &payload, cuts, line);
    }
    if filter != Some(CUTS) {
        let payload = payload::payload(scratch.path(), filter.unwrap_or(""))?;
        let machine = Machine::start(&image, Disk::Passing, &payload)?;
        while let Next::Line(text) = machine.next()? {
            line(&text);
        }
    }
    if matches!(filter, None | Some(CUTS)) {
        let payload = payload::payload(scratch.path(), CUTS)?;
        cuts::run(&image, &payload, cuts, line)?;
    }
    Ok(())
}
