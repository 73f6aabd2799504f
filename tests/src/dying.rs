//! Groups that are removed and not gone: something is still charged to them.

use std::fs;
use std::path::PathBuf;

/// How many removed groups the kernel still keeps below the one that supervisors are started in, after it was asked to take back
/// what it can. None: it does not tell, as on cgroup v1, where a page of a file that others read, too, keeps the group of who read it first.
#[must_use]
pub fn dying_groups() -> Option<u64> {
    let group = std::env::var_os("MORTISE_CGROUP").map(PathBuf::from)?;
    // An error says that there was less than was asked for.
    let _ = fs::write(group.join("memory.reclaim"), "1G");
    let stat = fs::read_to_string(group.join("cgroup.stat")).ok()?;
    stat.lines().find_map(|it| it.strip_prefix("nr_dying_descendants "))?.parse().ok()
}
