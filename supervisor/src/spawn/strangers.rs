//! Children of an earlier life of this process, in another program, of which no record tells.
//!
//! A successor of its own is given them by the kernel's init, which collects them. Who becomes another program keeps them: a loader that was at
//! work, a worker that was being started.

use std::fs;

use mortise_control::Role;

use super::{Process, pidfd, stat};

/// Collects every child of this process but those `recorded`, each when it ends. To be called before any child is made.
pub(crate) fn collect(recorded: &[u32]) {
    let me = std::process::id();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children =
        all.filter_map(|it| it.file_name().to_str()?.parse().ok()).filter(|it| stat::parent(*it) == Some(me));
    for pid in children.filter(|it| !recorded.contains(it)) {
        // A child that nobody has collected keeps its number.
        let Ok(pidfd) = pidfd::open(pid) else { continue };
        tracing::debug!(pid, "a child of an earlier life");
        let process = Process::new(pid, pidfd, Role::Sdk);
        let waiting = std::thread::Builder::new().name("stranger".into()).spawn(move || process.wait());
        if let Err(error) = waiting {
            tracing::warn!(pid, %error, "a child of an earlier life is not collected");
        }
    }
}
