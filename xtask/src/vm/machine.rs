//! The machine itself: an emulator, its two serial lines and its end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use xtask::Failure;
use xtask::command::debian;

use super::image::Image;

/// How long the machine may run before it is taken to hang.
const PATIENCE: Duration = Duration::from_secs(40 * 60);

/// The last word of every script.
const END: &str = "vm: end";

/// So many lines of the first serial line are shown when the machine ends too early.
const CONSOLE_LINES: usize = 60;

const KERNEL: &str = "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=error systemd.log_color=0 \
     systemd.mask=serial-getty@ttyS0.service systemd.mask=apt-daily.timer systemd.mask=apt-daily-upgrade.timer";

/// An emulator that does not outlive us.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the machine on a copy of the image that is thrown away, with the payload as its second disk, and hands over each line that
/// the payload's script prints, until its last word. A reboot is a reboot: what was written to the copy is still there.
///
/// # Errors
/// The emulator is not to be had, or the machine stopped before the last word: with the end of what its kernel said.
pub(super) fn boot(image: &Image, payload: &Path, mut line: impl FnMut(&str)) -> Result<(), Failure> {
    debian("qemu-system-x86_64", "qemu-system-x86")?;
    let console = tempfile::NamedTempFile::new()?;
    let drive = |path: &Path, more: &str| format!("file={},if=virtio,format=raw{more}", path.display());
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3G"]);
    qemu.args(["-display", "none", "-monitor", "none", "-nic", "none"]);
    qemu.arg("-serial").arg(format!("file:{}", console.path().display())).args(["-serial", "stdio"]);
    qemu.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd).args(["-append", KERNEL]);
    qemu.arg("-drive").arg(drive(&image.disk, ",snapshot=on")).arg("-drive").arg(drive(payload, ",readonly=on"));
    let mut emulator = Emulator(qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let serial = emulator.0.stdout.take().ok_or("the machine has no serial line")?;
    if read(serial, &mut line)? {
        return Ok(());
    }
    let said = fs::read(console.path())?;
    let said = String::from_utf8_lossy(&said);
    let said: Vec<&str> = said.lines().map(str::trim_end).collect();
    let end = said[said.len().saturating_sub(CONSOLE_LINES)..].join("\n  ");
    Err(format!("the machine stopped before the end of its script; its kernel's last lines:\n  {end}").into())
}

/// Reads until the script's last word, the machine's end (then it is false) or the end of our patience.
fn read(serial: impl Read + Send + 'static, line: &mut impl FnMut(&str)) -> Result<bool, Failure> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(serial).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&text).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while let Ok(text) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if text == END {
            return Ok(true);
        }
        line(&text);
    }
    if Instant::now() < deadline {
        return Ok(false);
    }
    Err(format!("the machine was still running after {PATIENCE:?}").into())
}
