//! The steps of a plan, one by one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use mortise_control::plan::{ResourceLimit, Step};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::sethostname;

use crate::{Broken, mounts, rights};

/// Performs them in order.
pub(crate) fn perform(steps: &[Step]) -> Result<(), Broken> {
    let mut root = PathBuf::from("/");
    for step in steps {
        one(step, &mut root).map_err(|error| {
            let about = step.path().map(|it| it.display().to_string()).unwrap_or_default();
            Broken::new(step.name(), about, &error)
        })?;
    }
    Ok(())
}

fn one(step: &Step, root: &mut PathBuf) -> io::Result<()> {
    let at = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    match step {
        Step::CgroupNamespace => Ok(unshare(CloneFlags::CLONE_NEWCGROUP)?),
        Step::PrivateMounts => mounts::make_private(),
        Step::NewRoot { over, bytes } => {
            mounts::root(over, *bytes)?;
            root.clone_from(over);
            Ok(())
        }
        Step::Folder { path, mode } => folder(&at(path), *mode),
        Step::Link { path, to } => symlink(to, at(path)),
        Step::File { path, content } => file(&at(path), content),
        Step::Bind { from, path, access } => {
            let target = at(path);
            mount_point(&target, fs::metadata(from)?.is_dir())?;
            mounts::bind(from, &target, *access)
        }
        Step::Tmpfs { path, bytes, inodes } => {
            let target = at(path);
            mount_point(&target, true)?;
            mounts::tmpfs(&target, *bytes, *inodes)
        }
        Step::Proc { path } => {
            let target = at(path);
            mount_point(&target, true)?;
            mounts::proc(&target)
        }
        Step::EnterRoot => {
            mounts::enter(root)?;
            *root = PathBuf::from("/");
            Ok(())
        }
        Step::Loopback => rights::loopback_up(),
        Step::HostName(name) => Ok(sethostname(name)?),
        Step::ResourceLimit { resource, value } => {
            let resource = match resource {
                ResourceLimit::OpenFiles => Resource::RLIMIT_NOFILE,
                ResourceLimit::Core => Resource::RLIMIT_CORE,
            };
            Ok(setrlimit(resource, *value, *value)?)
        }
        Step::Identity { uid, gid, groups } => rights::become_user(*uid, *gid, groups),
        Step::UserNamespace { uid, gid } => rights::user_namespace(*uid, *gid),
        Step::DropCapabilities => rights::drop_capabilities(),
        Step::NoNewPrivileges => Ok(nix::sys::prctl::set_no_new_privs()?),
        Step::Landlock { read, write } => rights::landlock(read, write),
        Step::Seccomp { filter } => rights::seccomp(filter),
    }
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

fn file(path: &Path, content: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?.write_all(content.as_bytes())
}

/// Something to mount over. A folder that is there, also one that is read-only, will do.
fn mount_point(path: &Path, is_folder: bool) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    if is_folder {
        return folder(path, 0o755);
    }
    path.parent().map_or(Ok(()), |it| folder(it, 0o755))?;
    File::create_new(path).map(drop)
}
