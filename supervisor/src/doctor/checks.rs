//! The checks, an area a file.

mod disk;
mod limit;
mod network;
mod programs;
mod system;

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Check, Report};
use crate::host;

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// The state directory.
    pub state: PathBuf,
    /// The directory of sockets and worker folders.
    pub run: PathBuf,
    /// The folder of `mortise-init`; none: that of this program.
    pub libexec: Option<PathBuf>,
    /// Addresses that the ingress shall listen on, and that nobody should have taken yet.
    pub listen: Vec<SocketAddr>,
}

impl Default for Places {
    fn default() -> Self {
        Self { state: "/var/lib/mortise".into(), run: "/run/mortise".into(), libexec: None, listen: Vec::new() }
    }
}

/// Examines this host, as seen by this process. Reads files and asks the kernel; changes nothing. What the kernel keeps has
/// been found out before: by `mortised` when it started, or by [`probe`](super::probe).
#[must_use]
pub fn examine(places: &Places, promises: &host::Report) -> Report {
    let mut checks: Vec<Check> = system::checks();
    checks.extend(programs::checks(places.libexec.as_deref()));
    checks.extend(disk::checks(places));
    checks.extend(limit::checks());
    checks.extend(network::checks(&places.listen));
    Report::new(promises, checks)
}
