//! The machine itself: an emulator, its two serial lines and its end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
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

/// The disk that the machine writes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disk<'a> {
    /// A copy of the image that is thrown away with the machine.
    Passing,
    /// This one, which outlives it. What the machine has handed over is in it, whether or not it was flushed; what it still had in its memory is not.
    Lasting(&'a Path),
}

/// An emulator that does not outlive us.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine that runs. Dropped, its power is cut.
pub(super) struct Machine {
    emulator: Emulator,
    console: NamedTempFile,
    lines: Receiver<String>,
    deadline: Instant,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The payload's script has printed this.
    Line(String),
    /// That was its last word.
    End,
    /// Nothing until the time was over.
    Nothing,
}

impl Machine {
    /// Starts one, with the payload as its second disk. A reboot is a reboot: what was written to its disk is still there.
    ///
    /// # Errors
    /// The emulator is not to be had.
    pub fn start(image: &Image, disk: Disk<'_>, payload: &Path) -> Result<Self, Failure> {
        debian("qemu-system-x86_64", "qemu-system-x86")?;
        let console = NamedTempFile::new()?;
        let drive = |path: &Path, more: &str| format!("file={},if=virtio,format=raw{more}", path.display());
        let root = match disk {
            Disk::Passing => drive(&image.disk, ",snapshot=on"),
            Disk::Lasting(path) => drive(path, ",cache=writeback"),
        };
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3G"]);
        qemu.args(["-display", "none", "-monitor", "none", "-nic", "none"]);
        qemu.arg("-serial").arg(format!("file:{}", console.path().display())).args(["-serial", "stdio"]);
        qemu.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd).args(["-append", KERNEL]);
        qemu.arg("-drive").arg(root).arg("-drive").arg(drive(payload, ",readonly=on"));
        let mut emulator = Emulator(qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
        let serial = emulator.0.stdout.take().ok_or("the machine has no serial line")?;
        Ok(Self { emulator, console, lines: read(serial), deadline: Instant::now() + PATIENCE })
    }

    /// The next line, for as long as there is patience.
    ///
    /// # Errors
    /// The machine stopped before the last word, with the end of what its kernel said; or it hangs.
    pub fn next(&self) -> Result<Next, Failure> {
        match self.next_until(self.deadline)? {
            Next::Nothing => Err(format!("the machine was still running after {PATIENCE:?}").into()),
            next => Ok(next),
        }
    }

    /// The same, not beyond that moment.
    ///
    /// # Errors
    /// As for [`Self::next`].
    pub fn next_until(&self, moment: Instant) -> Result<Next, Failure> {
        match self.lines.recv_timeout(moment.saturating_duration_since(Instant::now())) {
            Ok(line) if line == END => Ok(Next::End),
            Ok(line) => Ok(Next::Line(line)),
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => {
                let said = fs::read(self.console.path())?;
                let said = String::from_utf8_lossy(&said);
                let said: Vec<&str> = said.lines().map(str::trim_end).collect();
                let end = said[said.len().saturating_sub(CONSOLE_LINES)..].join("\n  ");
                let told = "the machine stopped before the end of its script; its kernel's last lines";
                Err(format!("{told}:\n  {end}").into())
            }
        }
    }

    /// Cuts its power; the lines that it had still printed, the last of which may be half a line.
    pub fn cut(self) -> Vec<String> {
        let Self { emulator, lines, .. } = self;
        drop(emulator);
        lines.iter().collect()
    }
}

/// The lines, from a thread that ends with them.
fn read(serial: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(serial).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&text).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    lines
}
