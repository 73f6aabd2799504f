//! Finding out what the kernel keeps, from a process that is not the supervisor.

use std::path::PathBuf;

use crate::cgroup::{Groups, Layout};
use crate::host;

/// What this host would keep for a supervisor that is started like this process: same user, same cgroup. The cgroups that are
/// needed to try it are this process's own, and are removed.
#[must_use]
pub fn probe() -> host::Report {
    // Groups are named after a state directory; this one is nobody's.
    let nobodys = PathBuf::from(format!("/nonexistent/mortise-doctor-{}", std::process::id()));
    let groups = Layout::detect().and_then(|layout| Groups::open(layout, &nobodys));
    match groups {
        Ok(groups) => {
            let report = host::probe(Ok(&groups));
            if let Err(error) = groups.close() {
                tracing::warn!(%error, "a cgroup of the examination is left");
            }
            report
        }
        Err(error) => host::probe(Err(&error.to_string())),
    }
}
