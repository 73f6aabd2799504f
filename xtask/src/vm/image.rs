//! The disk that the machine starts from: a Debian with systemd, made once, kept outside the checkout, never written to again.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::Failure;
use xtask::command::{self, output, run};

/// The Debian that is put into the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Debian {
    /// Debian 12, with systemd 252
    #[default]
    Bookworm,
    /// Debian 13, with systemd 257
    Trixie,
}

impl Debian {
    const fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// What is put into it.
const PACKAGES: &str = "systemd,systemd-sysv,libpam-systemd,dbus,udev,linux-image-cloud-amd64,python3-minimal,libpython3-stdlib,curl,procps,iproute2";

/// The unit that runs what the payload disk brings.
const UNIT: &str = include_str!("run.service");

const MOUNTS: &str = "/dev/vda / ext4 rw 0 0\n/dev/vdb /payload ext4 ro 0 0\n";

const MEGABYTES: u64 = 2048;

/// A system that is built and not started.
#[derive(Debug)]
pub(super) struct Image {
    pub disk: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

impl Image {
    /// The image of this recipe: from the cache, or built and put there.
    pub fn ready(debian: Debian) -> Result<Self, Failure> {
        command::debian("mmdebstrap", "mmdebstrap")?;
        command::debian("mkfs.ext4", "e2fsprogs")?;
        let suite = debian.suite();
        let mut hash = DefaultHasher::new();
        (suite, PACKAGES, UNIT, MOUNTS, MEGABYTES).hash(&mut hash);
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let cache = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("mortise-vm");
        let folder = cache.join(format!("{:016x}", hash.finish()));
        if !folder.exists() {
            fs::create_dir_all(&cache)?;
            build(suite, &cache, &folder)?;
        }
        let file = |name| folder.join(name);
        Ok(Self { disk: file("disk.img"), kernel: file("vmlinuz"), initrd: file("initrd") })
    }
}

fn build(suite: &str, cache: &Path, folder: &Path) -> Result<(), Failure> {
    println!("vm: building a Debian {suite} into {}", folder.display());
    let scratch = tempfile::Builder::new().prefix("building-").tempdir_in(cache)?;
    let root = scratch.path().join("root");
    run(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", "--include", PACKAGES, suite]).arg(&root))?;
    fs::create_dir_all(root.join("payload"))?;
    fs::write(root.join("etc/fstab"), MOUNTS)?;
    fs::write(root.join("etc/hostname"), "mortise-vm\n")?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("run-payload.service"), UNIT)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    symlink("../run-payload.service", wants.join("run-payload.service"))?;
    let finished = scratch.path().join("finished");
    fs::create_dir(&finished)?;
    for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        let boot = fs::read_dir(root.join("boot"))?.flatten().map(|it| it.path());
        let found = boot.filter(|it| it.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix))).max();
        fs::copy(found.ok_or_else(|| format!("there is no {prefix}* in the image"))?, finished.join(name))?;
    }
    disk(&root, &finished.join("disk.img"), MEGABYTES)?;
    fs::rename(&finished, folder)?;
    Ok(())
}

/// An ext4 disk with that content.
pub(super) fn disk(content: &Path, file: &Path, megabytes: u64) -> Result<(), Failure> {
    fs::File::create(file)?.set_len(megabytes << 20)?;
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(content).arg(file))?;
    Ok(())
}
