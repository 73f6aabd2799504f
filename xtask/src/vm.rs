//! A virtual machine with a real systemd and cgroup v2, and the whole-system tests in it.
//!
//! ```text
//!   recipe ──mmdebstrap, mkfs.ext4──▶ image (cached by the recipe's hash, never written to again)
//!   programs, packages, tests ──mkfs.ext4──▶ payload disk ──qemu──▶ the unit `mortise-suite` runs it ──serial line──▶ results
//! ```
//!
//! The processor is emulated: slow, but right. So the machine tells functions, not timings.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xtask::Failure;
use xtask::artifacts::{Artifacts, Profile};
use xtask::command::{cargo, debian, output, run};

/// The Debian that is put into the machine.
const SUITE: &str = "bookworm";

/// What is put into it.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,udev,linux-image-cloud-amd64,python3-minimal,libpython3-stdlib,curl,procps,iproute2";

/// Runs what the payload disk brings, once, when the machine is up, in a group of its own that systemd leaves alone.
const UNIT: &str = "[Unit]
Description=Whole-system tests of Mortise
After=multi-user.target
RequiresMountsFor=/payload

[Service]
Type=oneshot
Delegate=yes
TasksMax=infinity
LimitNOFILE=65536
ExecStart=/bin/bash /payload/suite.sh
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0

[Install]
WantedBy=multi-user.target
";

/// The tests and the supervisors that they start are in groups beside each other: a group with children has no processes.
const SCRIPT: &str = r#"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp
export MORTISE_ARTIFACTS=/payload/programs MORTISE_SKIPPED=/tmp/skipped
: > $MORTISE_SKIPPED
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir "$own/tests" && echo $$ > "$own/tests/cgroup.procs"
echo '+memory +cpu +pids +io' > "$own/cgroup.subtree_control" || echo '+memory +cpu +pids' > "$own/cgroup.subtree_control"
export MORTISE_CGROUP=$own
mount -t tmpfs -o size=1G tmpfs /tmp && : > $MORTISE_SKIPPED
echo "vm: $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p'), controllers: $(cat $own/cgroup.controllers)"
cd /tmp
for test in /payload/tests/*; do
  echo "vm: running $(basename $test)"
  $test --test-threads=1 --color=never FILTER 2>&1
done
sed 's/^/vm-skipped: /' $MORTISE_SKIPPED
echo "vm: end"
"#;

/// How long the machine may run before it is taken to hang.
const PATIENCE: Duration = Duration::from_secs(40 * 60);

/// A machine that is built and not started.
#[derive(Debug)]
struct Image {
    folder: PathBuf,
}

/// Runs the whole-system tests in the machine and hands over each line that it prints.
///
/// # Errors
/// The machine could not be built or started, or did not come to its end.
pub fn run_suite(filter: Option<&str>, line: impl FnMut(&str)) -> Result<(), Failure> {
    let image = Image::ready()?;
    let scratch = tempfile::tempdir()?;
    let payload = payload(scratch.path(), filter.unwrap_or(""))?;
    image.boot(&payload, line)
}

/// Why the machine cannot be had here, if it cannot.
pub fn unavailable() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("building the machine's disk needs root");
    }
    (!cfg!(target_arch = "x86_64")).then_some("the machine is an x86_64 one")
}

impl Image {
    fn ready() -> Result<Self, Failure> {
        debian("mmdebstrap", "mmdebstrap")?;
        debian("qemu-system-x86_64", "qemu-system-x86")?;
        debian("mkfs.ext4", "e2fsprogs")?;
        let mut hash = DefaultHasher::new();
        (SUITE, PACKAGES, UNIT, 1).hash(&mut hash);
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let folder = cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("mortise-vm");
        let image = Self { folder: folder.join(format!("{:016x}", hash.finish())) };
        if !image.folder.join("disk.img").exists() {
            fs::create_dir_all(&folder)?;
            image.build(&folder)?;
        }
        Ok(image)
    }

    fn build(&self, cache: &Path) -> Result<(), Failure> {
        println!("vm: building a Debian {SUITE} into {}", self.folder.display());
        let scratch = tempfile::Builder::new().prefix("building-").tempdir_in(cache)?;
        let root = scratch.path().join("root");
        let mut debootstrap = Command::new("mmdebstrap");
        debootstrap.args(["--quiet", "--variant=minbase", "--include", PACKAGES, SUITE]).arg(&root);
        run(&mut debootstrap)?;
        fs::create_dir_all(root.join("payload"))?;
        fs::write(root.join("etc/fstab"), "/dev/vda / ext4 rw 0 0\n/dev/vdb /payload ext4 ro 0 0\n")?;
        fs::write(root.join("etc/hostname"), "mortise-vm\n")?;
        fs::write(root.join("etc/systemd/system/mortise-suite.service"), UNIT)?;
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        std::os::unix::fs::symlink("../mortise-suite.service", wants.join("mortise-suite.service"))?;
        let finished = scratch.path().join("finished");
        fs::create_dir(&finished)?;
        for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
            let boot = fs::read_dir(root.join("boot"))?.flatten().map(|it| it.path());
            let found = boot.filter(|it| it.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix))).max();
            fs::copy(found.ok_or_else(|| format!("there is no {prefix}* in the image"))?, finished.join(name))?;
        }
        disk(&root, &finished.join("disk.img"), 2048)?;
        fs::rename(&finished, &self.folder)?;
        Ok(())
    }

    fn boot(&self, payload: &Path, mut line: impl FnMut(&str)) -> Result<(), Failure> {
        let drive = |path: &Path, more: &str| format!("file={},if=virtio,format=raw{more}", path.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3G", "-no-reboot"]);
        qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none"]);
        qemu.arg("-kernel").arg(self.folder.join("vmlinuz")).arg("-initrd").arg(self.folder.join("initrd"));
        qemu.args(["-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 panic=-1"]);
        qemu.arg("-drive").arg(drive(&self.folder.join("disk.img"), ",snapshot=on"));
        qemu.arg("-drive").arg(drive(payload, ",readonly=on"));
        let mut machine = Machine(qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let serial = machine.0.stdout.take().ok_or("the machine has no serial line")?;
        let ended = read(serial, &mut line)?;
        machine.0.kill()?;
        if ended { Ok(()) } else { Err("the machine stopped before the tests had come to their end".into()) }
    }
}

/// An emulator that does not outlive us.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the serial line until the script's last word, the machine's end or the end of our patience.
fn read(serial: impl Read + Send + 'static, line: &mut impl FnMut(&str)) -> Result<bool, Failure> {
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(serial).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&text).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while let Ok(text) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        line(&text);
        if text == "vm: end" {
            return Ok(true);
        }
    }
    if Instant::now() >= deadline {
        Err(format!("the machine was still running after {PATIENCE:?}").into())
    } else {
        Ok(false)
    }
}

/// The second disk: programs, module folders, tests and the script.
fn payload(scratch: &Path, filter: &str) -> Result<PathBuf, Failure> {
    let artifacts = Artifacts::build(Profile::Release)?;
    let mut build = cargo();
    build.args(["test", "-p", "mortise-tests", "--release", "--no-run", "--message-format=json"]);
    let messages = output(&mut build)?;
    let content = scratch.join("payload");
    fs::create_dir_all(content.join("tests"))?;
    fs::create_dir_all(content.join("programs"))?;
    for message in messages.lines().filter_map(|it| serde_json::from_str::<serde_json::Value>(it).ok()) {
        let is_test = message["target"]["kind"][0] == "test" && message["profile"]["test"] == true;
        if let (true, Some(program)) = (is_test, message["executable"].as_str()) {
            let name = message["target"]["name"].as_str().unwrap_or("test");
            fs::copy(program, content.join("tests").join(name))?;
        }
    }
    for name in ["mortise", "mortised", "mortise-init", "mortise-base"] {
        fs::copy(artifacts.programs.join(name), content.join("programs").join(name))?;
    }
    run(Command::new("cp").arg("-r").arg(&artifacts.packages).arg(content.join("programs/packages")))?;
    fs::write(content.join("suite.sh"), SCRIPT.replace("FILTER", filter))?;
    let size = output(Command::new("du").arg("-sm").arg(&content))?;
    let megabytes: u64 = size.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(1024);
    let disk_file = scratch.join("payload.img");
    disk(&content, &disk_file, megabytes + megabytes / 4 + 64)?;
    Ok(disk_file)
}

/// An ext4 disk with that content.
fn disk(content: &Path, file: &Path, megabytes: u64) -> Result<(), Failure> {
    fs::File::create(file)?.set_len(megabytes << 20)?;
    output(Command::new("mkfs.ext4").args(["-q", "-F", "-d"]).arg(content).arg(file))?;
    Ok(())
}
