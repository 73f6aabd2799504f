//! What is not its own: files, processes, sockets, devices, the kernel.
#![allow(unsafe_code, reason = "system calls that no library makes for whoever has no use for them")]

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use crate::raw::{Raw, found};

/// Says how each attempt ended: `done`, or the kernel's word for no.
///
/// The arguments: the admin socket, the state directory, the run directory, the supervisor's executable, a port of the ingress,
/// the pid of the supervisor and that of another worker, as the host knows them.
pub fn looks_around(arguments: &[String]) {
    let [admin, state, run, program, port, supervisor, victim] = arguments else {
        eprintln!("7 arguments are expected, and there are {}", arguments.len());
        return;
    };
    let raw = Raw::ready();
    files(admin, state, run, program);
    processes(supervisor, victim);
    sockets(admin, port);
    kernel();
    found("everything", "tried");
    raw.go_on();
}

fn tried<T>(what: &str, result: io::Result<T>) {
    match result {
        Ok(_) => found(what, "done"),
        Err(error) => found(
            what,
            error.raw_os_error().map_or_else(|| error.to_string(), |it| format!("{:?}", Errno::from_raw(it))),
        ),
    }
}

fn files(admin: &str, state: &str, run: &str, program: &str) {
    let write = |path: &str| OpenOptions::new().write(true).open(path);
    tried("the state directory", fs::read_dir(state));
    tried("the run directory", fs::read_dir(run));
    tried("the admin socket's file", fs::metadata(admin));
    tried("the supervisor's executable", write(program));
    tried("its own executable", write("/proc/self/exe"));
    tried("its own executable by name", write("/module/bin/attacker"));
    tried("its own executable's name", fs::remove_file("/module/bin/attacker"));
    tried("its own module.toml", write("/module/module.toml"));
    tried("a file beside its executable", File::create("/module/bin/other"));
    tried("its control socket's name", fs::remove_file("/run/mortise/control.sock"));
    tried("its first process's root", above("/proc/1/root/../../.."));
    tried("its working folder's root", above("/proc/self/cwd/../../../.."));
    tried("a link out of /tmp", std::os::unix::fs::symlink(state, "/tmp/out").and_then(|()| fs::read_dir("/tmp/out")));
    tried("a hard link to a program of the host", fs::hard_link("/usr/bin/env", "/tmp/env"));
    tried("/sys", fs::read_dir("/sys"));
    tried("/dev/mem", File::open("/dev/mem"));
    tried("/dev/kmsg", File::open("/dev/kmsg"));
    tried("a device of its own", made_device());
    tried("the core pattern", write("/proc/sys/kernel/core_pattern").and_then(|mut it| it.write_all(b"|/tmp/x")));
    tried("sysrq", write("/proc/sysrq-trigger").and_then(|mut it| it.write_all(b"h")));
    tried("the kernel's memory", File::open("/proc/kcore").map(drop));
    tried("its boot record", write("/proc/self/fd/3").and_then(|mut it| it.write_all(b"x")));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own_root = groups.lines().all(|it| it.ends_with(":/"));
    found("its groups", if own_root { "its own root" } else { groups.trim() });
}

/// Whether a path that leads above the root leads anywhere else.
fn above(path: &str) -> io::Result<()> {
    let names = |path: &str| -> io::Result<Vec<_>> {
        let mut names: Vec<_> = fs::read_dir(path)?.flatten().map(|it| it.file_name()).collect();
        names.sort();
        Ok(names)
    };
    if names(path)? == names("/")? { Err(io::Error::other("its own root")) } else { Ok(()) }
}

fn made_device() -> io::Result<()> {
    let device = nix::sys::stat::makedev(1, 1);
    let mode = nix::sys::stat::Mode::S_IRWXU;
    Ok(nix::sys::stat::mknod("/tmp/mem", nix::sys::stat::SFlag::S_IFCHR, mode, device)?)
}

fn processes(supervisor: &str, victim: &str) {
    let own = std::process::id().to_string();
    let numbers = |it: &str| it.bytes().all(|b| b.is_ascii_digit());
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|it| it.file_name());
    let others = names.filter_map(|it| it.into_string().ok()).filter(|it| numbers(it) && *it != own).count();
    found("other processes", others);
    for (who, pid) in [("the supervisor", supervisor), ("the victim", victim)] {
        let number: i64 = pid.parse().unwrap_or(0);
        tried(&format!("{who}'s folder in /proc"), fs::read_dir(Path::new("/proc").join(pid)));
        tried(&format!("{who}'s memory"), File::open(format!("/proc/{pid}/mem")));
        tried(&format!("a signal to {who}"), call(libc::SYS_kill, [number, 0, 0, 0]));
        tried(&format!("a pidfd of {who}"), call(libc::SYS_pidfd_open, [number, 0, 0, 0]));
        tried(&format!("a limit of {who}"), call(libc::SYS_prlimit64, [number, libc::RLIMIT_NOFILE.into(), 0, 0]));
    }
    tried("a signal to everybody", call(libc::SYS_kill, [-1, libc::SIGCONT.into(), 0, 0]));
    tried("ptrace", call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), 1, 0, 0]));
    tried("another's memory", call(libc::SYS_process_vm_readv, [1, 0, 0, 0]));
    tried("another's descriptor", call(libc::SYS_pidfd_getfd, [0, 0, 0, 0]));
}

fn sockets(admin: &str, port: &str) {
    tried("the admin socket", UnixStream::connect(admin));
    tried("the admin socket beside its own", UnixStream::connect("/run/mortise/../admin.sock"));
    let abstracts = SocketAddr::from_abstract_name(b"/tmp/.X11-unix/X0").and_then(|it| UnixStream::connect_addr(&it));
    tried("an abstract socket", abstracts);
    tried("the ingress", TcpStream::connect(format!("127.0.0.1:{port}")));
    tried("the outer network", TcpStream::connect("192.0.2.1:80"));
    for (what, family, kind) in [
        ("a packet socket", libc::AF_PACKET, libc::SOCK_RAW),
        ("a raw socket", libc::AF_INET, libc::SOCK_RAW),
        ("a vsock socket", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("a socket of the kernel's cryptography", libc::AF_ALG, libc::SOCK_SEQPACKET),
    ] {
        tried(what, call(libc::SYS_socket, [family.into(), kind.into(), libc::IPPROTO_ICMP.into(), 0]));
    }
}

fn kernel() {
    let name = CString::new("x").unwrap_or_default();
    let name = name.as_ptr() as i64;
    let namespaces = i64::from(libc::CLONE_NEWUSER);
    for (what, number, arguments) in [
        ("a namespace of its own", libc::SYS_unshare, [namespaces, 0, 0, 0]),
        ("a mount", libc::SYS_mount, [name, name, name, 0]),
        ("the other root", libc::SYS_chroot, [name, 0, 0, 0]),
        ("a key", libc::SYS_keyctl, [0, -3, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0]),
        ("io_uring", libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0]),
        ("a kernel module", libc::SYS_finit_module, [0, 0, 0, 0]),
        ("a file by its number", libc::SYS_open_by_handle_at, [0, 0, 0, 0]),
        ("the clock", libc::SYS_clock_settime, [0, 0, 0, 0]),
        ("the host's name", libc::SYS_sethostname, [name, 1, 0, 0]),
        ("the user 0", libc::SYS_setresuid, [0, 0, 0, 0]),
        (
            "a real-time priority",
            libc::SYS_sched_setscheduler,
            [0, libc::SCHED_FIFO.into(), PRIORITY.as_ptr() as i64, 0],
        ),
        ("a better nice value", libc::SYS_setpriority, [libc::PRIO_PROCESS.into(), 0, -20, 0]),
        ("input for a terminal", libc::SYS_ioctl, [0, libc::TIOCSTI as i64, name, 0]),
        ("a queue of the host's asynchronous I/O", libc::SYS_io_setup, [64, QUEUE.as_ptr() as i64, 0, 0]),
    ] {
        tried(what, call(number, arguments));
    }
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    tried("more descriptors", call(libc::SYS_setrlimit, [libc::RLIMIT_NOFILE.into(), &raw const limit as i64, 0, 0]));
    let score = OpenOptions::new().write(true).open("/proc/self/oom_score_adj");
    tried("a better place before the memory killer", score.and_then(|mut it| it.write_all(b"-1000")));
    let exe = File::open("/proc/self/exe").and_then(|it| {
        let flags = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{}", it.as_raw_fd()));
        flags.map(drop)
    });
    tried("its executable's descriptor, opened again", exe);
}

static PRIORITY: [i32; 1] = [1];
static QUEUE: [std::sync::atomic::AtomicU64; 1] = [std::sync::atomic::AtomicU64::new(0)];

fn call(number: i64, [a, b, c, d]: [i64; 4]) -> io::Result<()> {
    // SAFETY: what is a pointer here is one to a constant, a static or a local that outlives the call, of the size that the call reads
    // or writes; every other argument is a number, and a null pointer is refused by the kernel.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, 0, 0) })?;
    Ok(())
}
