//! The leaf of the supervisor itself. On v2 only a group without processes of its own may control its children (the root excepted), and
//! under systemd our own group is the unit's: so its processes go into a leaf below it, and back when the supervisor stops in order.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::groups::{make_folder, subfolders};
use super::layout::{HOLD_LEAF, OWN_LEAF};
use super::{CgroupError, Layout};

/// One that forks while it is moved may leave a child behind: it is there in the next listing.
const ROUNDS: usize = 16;

/// Moves this process into a leaf below its v2 group, so that the group itself is free for those that somebody else makes below it. Without a
/// v2 tree there is nothing to do.
///
/// # Errors
/// [`CgroupError`] when the group is not delegated to this process.
pub fn step_aside() -> Result<(), CgroupError> {
    let Some(v2) = Layout::detect()?.v2 else { return Ok(()) };
    if v2.own.ends_with(HOLD_LEAF) {
        return Ok(());
    }
    let leaf = v2.own.join(HOLD_LEAF);
    make_folder(&leaf)?;
    let members = leaf.join("cgroup.procs");
    fs::write(&members, "0").map_err(CgroupError::file("write", &members))
}

/// Moves every process of the group into the leaf.
pub(super) fn enter(own: &Path) -> Result<(), CgroupError> {
    let leaf = own.join(OWN_LEAF);
    make_folder(&leaf)?;
    move_all(own, &leaf)
}

/// Moves them back and removes the leaf; nothing where there is none. As long as there are other groups beside it, which may live by
/// what is passed on to them, it stays.
pub(super) fn leave(own: &Path) -> Result<(), CgroupError> {
    let leaf = own.join(OWN_LEAF);
    if !leaf.is_dir() || subfolders(own).iter().any(|it| *it != leaf) {
        return Ok(());
    }
    let control = own.join("cgroup.subtree_control");
    let passed_on = fs::read_to_string(&control).map_err(CgroupError::file("read", &control))?;
    let withdrawn: Vec<_> = passed_on.split_whitespace().map(|it| format!("-{it}")).collect();
    if !withdrawn.is_empty() {
        fs::write(&control, withdrawn.join(" ")).map_err(CgroupError::file("write", &control))?;
    }
    move_all(&leaf, own)?;
    match fs::remove_dir(&leaf) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(CgroupError::file("remove", &leaf)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn move_all(from: &Path, to: &Path) -> Result<(), CgroupError> {
    let (from, to) = (from.join("cgroup.procs"), to.join("cgroup.procs"));
    for _ in 0..ROUNDS {
        let members = fs::read_to_string(&from).map_err(CgroupError::file("read", &from))?;
        if members.is_empty() {
            return Ok(());
        }
        for pid in members.lines() {
            match fs::write(&to, pid) {
                Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => return Err(CgroupError::file("write", &to)(e)),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A group of the v2 tree with one process. Removed with it, also when a test panics.
    struct Scratch(std::path::PathBuf, Child);

    impl Scratch {
        fn new(name: &str) -> Option<Self> {
            let Some(v2) = Layout::detect().unwrap().v2.filter(|_| nix::unistd::geteuid().is_root()) else {
                println!("skipped: needs root and a v2 tree, to make cgroups");
                return None;
            };
            let own = v2.own.join(format!("mortise-test-{name}-{}", std::process::id()));
            fs::create_dir(&own).unwrap();
            let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
            fs::write(own.join("cgroup.procs"), child.id().to_string()).unwrap();
            Some(Self(own, child))
        }

        fn member_of(&self) -> String {
            let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.1.id())).unwrap();
            groups.lines().find_map(|it| it.strip_prefix("0::")).unwrap().to_owned()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = self.1.kill();
            let _ = self.1.wait();
            subfolders(&self.0).iter().chain([&self.0]).for_each(|it| drop(fs::remove_dir(it)));
        }
    }

    #[test]
    fn who_was_moved_into_the_leaf_is_moved_back_and_the_leaf_is_gone() {
        let Some(it) = Scratch::new("leaf") else { return };
        let before = it.member_of();
        enter(&it.0).unwrap();
        assert_eq!(it.member_of(), format!("{before}/{OWN_LEAF}"));
        leave(&it.0).unwrap();
        assert_eq!(it.member_of(), before);
        assert_eq!(subfolders(&it.0), Vec::<std::path::PathBuf>::new());
        leave(&it.0).unwrap();
    }

    #[test]
    fn the_leaf_stays_beside_another_group() {
        let Some(it) = Scratch::new("beside") else { return };
        enter(&it.0).unwrap();
        fs::create_dir(it.0.join("other")).unwrap();
        leave(&it.0).unwrap();
        assert!(it.member_of().ends_with(OWN_LEAF));
    }
}
