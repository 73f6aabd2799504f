//! From root, or root in a user namespace, to a user without any right beyond its own files.
#![allow(unsafe_code, reason = "prctl, capset and ioctl, which nix does not have in this form")]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};

const SECBIT_NOROOT: u64 = 1;
const SECBIT_NOROOT_LOCKED: u64 = 1 << 1;
const SECBIT_NO_SETUID_FIXUP: u64 = 1 << 2;
const SECBIT_NO_SETUID_FIXUP_LOCKED: u64 = 1 << 3;
const SECBIT_KEEP_CAPS_LOCKED: u64 = 1 << 5;
const SECBIT_NO_CAP_AMBIENT_RAISE: u64 = 1 << 6;
const SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED: u64 = 1 << 7;

fn prctl(option: i32, a: u64, b: u64) -> io::Result<()> {
    // SAFETY: the options used here take numbers only, and unused arguments must be 0.
    Errno::result(unsafe { libc::prctl(option, a, b, 0_u64, 0_u64) })?;
    Ok(())
}

/// Changes uid and gid and keeps the capabilities: the user namespace and the capability sets are still to be made.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0)?;
    let groups: Vec<_> = groups.iter().map(|it| Gid::from_raw(*it)).collect();
    setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // A change of user makes /proc/self root's, and our own uid_map is in it.
    prctl(libc::PR_SET_DUMPABLE, 1, 0)
}

/// A map of one id, the present one, is what a process may write for itself.
pub(crate) fn user_namespace(uid: u32, gid: u32) -> io::Result<()> {
    let (own_uid, own_gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{gid} {own_gid} 1"))?;
    fs::write("/proc/self/uid_map", format!("{uid} {own_uid} 1"))
}

pub(crate) fn drop_capabilities() -> io::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break, // the kernel has no more
            other => other?,
        }
    }
    let locked = SECBIT_NOROOT
        | SECBIT_NOROOT_LOCKED
        | SECBIT_NO_SETUID_FIXUP
        | SECBIT_NO_SETUID_FIXUP_LOCKED
        | SECBIT_KEEP_CAPS_LOCKED
        | SECBIT_NO_CAP_AMBIENT_RAISE
        | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    prctl(libc::PR_SET_SECUREBITS, locked, 0)?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    // _LINUX_CAPABILITY_VERSION_3: two sets of three words.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0_u32; 6];
    // SAFETY: version 3 reads a header of two words (this process) and six words of sets, which is what the two arrays are.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })?;
    Ok(())
}

/// What is not listed is denied, as far as this kernel's landlock knows the kind of access. Signals and abstract sockets reach nobody
/// outside.
pub(crate) fn landlock(read: &[PathBuf], write: &[PathBuf]) -> io::Result<()> {
    let abi = ABI::V6;
    let all = AccessFs::from_all(abi);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let ruleset = ruleset.handle_access(all).and_then(|it| it.scope(Scope::from_all(abi))).map_err(io::Error::other)?;
    let mut ruleset = ruleset.create().map_err(io::Error::other)?;
    let readable = read.iter().map(|it| (it, AccessFs::from_read(abi)));
    let writable = write.iter().map(|it| (it, all & !AccessFs::Execute));
    for (path, access) in readable.chain(writable) {
        // A host need not have every one of the folders for libraries.
        let Ok(beneath) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
        ruleset = ruleset.add_rule(PathBeneath::new(beneath, access)).map_err(io::Error::other)?;
    }
    let restricted = ruleset.restrict_self().map_err(io::Error::other)?;
    if restricted.ruleset == RulesetStatus::NotEnforced {
        return Err(io::Error::other("this kernel does not enforce landlock"));
    }
    Ok(())
}

/// Loads a filter: 8 bytes per instruction.
pub(crate) fn seccomp(filter: &[u8]) -> io::Result<()> {
    let instruction = |it: &[u8; 8]| libc::sock_filter {
        code: u16::from_ne_bytes([it[0], it[1]]),
        jt: it[2],
        jf: it[3],
        k: u32::from_ne_bytes([it[4], it[5], it[6], it[7]]),
    };
    let (instructions, rest) = filter.as_chunks::<8>();
    let mut program: Vec<_> = instructions.iter().map(instruction).collect();
    let len = u16::try_from(program.len()).ok().filter(|_| rest.is_empty() && !program.is_empty());
    let len = len.ok_or(Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `program` names `len` instructions that outlive the call; the kernel copies and verifies them.
    let loaded = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    Errno::result(loaded)?;
    Ok(())
}

pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zero is an interface request with an empty name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&b"lo".map(|it| it as libc::c_char));
    // SAFETY: both requests read and write one `ifreq`; after the first its union holds the flags.
    unsafe {
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as libc::Ioctl, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request))?;
    }
    Ok(())
}
