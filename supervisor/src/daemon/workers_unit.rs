//! The systemd unit in whose group the workers live.
//!
//! systemd ends every process of a unit that it stops, and version 252 does not restart a delegated unit that still has groups below its
//! own. So the supervisor's unit is not the workers': theirs is kept by `mortised hold`, a process that waits in a leaf of its own, and
//! the supervisor makes its groups beside that leaf.

use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, Signal};

use super::{StartError, notify};
use crate::cgroup;

/// The v2 group of the unit, as systemd names it.
pub(super) fn group(unit: &str) -> Result<String, StartError> {
    let refused = |problem: String| StartError::Unit { unit: unit.to_owned(), problem };
    let mut systemctl = Command::new("systemctl");
    if !nix::unistd::geteuid().is_root() {
        systemctl.arg("--user");
    }
    systemctl.args(["show", "--property=ActiveState,ControlGroup,Delegate", "--", unit]).stdin(Stdio::null());
    let output = systemctl.output().map_err(|error| refused(format!("systemctl cannot be asked about it: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(refused(format!("systemctl knows nothing about it: {said}")));
    }
    read(&String::from_utf8_lossy(&output.stdout)).map_err(refused)
}

/// Out of what `systemctl show` prints.
fn read(shown: &str) -> Result<String, String> {
    let property = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    let (state, group) = (property("ActiveState"), property("ControlGroup"));
    if state != "active" {
        return Err(format!("the unit is {}; start it first", if state.is_empty() { "unknown" } else { state }));
    }
    if property("Delegate") != "yes" {
        return Err("the unit is not delegated; give it Delegate=yes".into());
    }
    if group.is_empty() {
        return Err("the unit has no group, so it has no process; its ExecStart= is to be `mortised hold`".into());
    }
    Ok(group.to_owned())
}

/// `mortised hold`: leaves the unit's own group free for the supervisor's, and waits for SIGTERM.
pub(super) fn hold() -> ExitCode {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    // Before READY: from then on the signal may come.
    let blocked = ends.thread_block().map_err(|errno| format!("signals cannot be blocked: {}", errno.desc()));
    let ready = blocked.and_then(|()| cgroup::step_aside().map_err(|error| error.to_string()));
    if let Err(problem) = ready {
        eprintln!("mortised hold: {problem}; its unit is to have Delegate=yes");
        return ExitCode::FAILURE;
    }
    notify::ready("keeping the group of the workers");
    match ends.wait() {
        Ok(_) => ExitCode::SUCCESS,
        Err(errno) => {
            eprintln!("mortised hold: signals cannot be waited for: {}", errno.desc());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_that_of_an_active_delegated_unit() {
        let shown = "ControlGroup=/system.slice/w.service\nDelegate=yes\nActiveState=active\n";
        assert_eq!(read(shown).unwrap(), "/system.slice/w.service");
    }

    #[test]
    fn what_is_wrong_with_the_unit_is_said_with_a_remedy() {
        let told = |shown: &str| read(shown).unwrap_err();
        assert!(told("ControlGroup=\nDelegate=no\nActiveState=inactive\n").contains("inactive; start it first"));
        assert!(told("ControlGroup=/w\nDelegate=no\nActiveState=active\n").contains("Delegate=yes"));
        assert!(told("ControlGroup=\nDelegate=yes\nActiveState=active\n").contains("mortised hold"));
        assert!(told("").contains("unknown"));
    }
}
