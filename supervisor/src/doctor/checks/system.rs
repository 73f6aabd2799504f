//! The kernel, and who we are to it.

use std::path::Path;

use crate::doctor::{Area, Check, Verdict};

/// pidfd, clone3, CLONE_INTO_CGROUP, F_SEAL_FUTURE_WRITE and close_range are all there from here on.
const KERNEL_MIN: (u32, u32) = (5, 9);

/// cgroup.kill and landlock from here on.
const KERNEL_FULL: (u32, u32) = (5, 14);

/// Clock sources that are read without a system call.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

/// No clock of a host that runs this is earlier: 2025-01-01.
const EPOCH_OF_MORTISE: i64 = 1_735_689_600;

pub(super) fn checks() -> Vec<Check> {
    vec![kernel(), user(), systemd(Path::new("/run/systemd/system").is_dir()), clock_source(), clock()]
}

fn kernel() -> Check {
    match nix::sys::utsname::uname() {
        Ok(name) => kernel_release(&name.release().to_string_lossy()),
        Err(error) => Check::good(Area::System, "kernel", format!("uname: {error}"), "everything")
            .but(Verdict::Unknown, "Run on Linux."),
    }
}

fn kernel_release(release: &str) -> Check {
    let check =
        Check::good(Area::System, "kernel", format!("Linux {release}"), "pidfds, sealed memory, cgroup.kill, landlock");
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return check.but(Verdict::Unknown, "The release does not start with two numbers.");
    };
    if (major, minor) < KERNEL_MIN {
        check.but(Verdict::Bad, format!("Use Linux {}.{} or newer.", KERNEL_MIN.0, KERNEL_MIN.1))
    } else if (major, minor) < KERNEL_FULL {
        check.but(Verdict::Weak, format!("Linux {}.{} has cgroup.kill and landlock.", KERNEL_FULL.0, KERNEL_FULL.1))
    } else {
        check
    }
}

fn user() -> Check {
    let uid = nix::unistd::geteuid();
    let check = Check::good(Area::System, "user", format!("uid {uid}"), "a uid for every worker, namespaces, cgroups");
    if uid.is_root() { check } else { check.but(Verdict::Weak, "Run mortised as root for all promises.") }
}

fn systemd(is_init: bool) -> Check {
    let matters = "restart of the supervisor itself, the journal";
    if is_init {
        Check::good(Area::System, "systemd", "systemd is the init of this host", matters)
    } else {
        Check::good(Area::System, "systemd", "systemd is not the init of this host", matters)
            .but(Verdict::Weak, "Let something else start mortised again when it ends.")
    }
}

fn clock_source() -> Check {
    let file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let matters = "the price of every deadline and latency figure";
    match std::fs::read_to_string(file) {
        Ok(found) => named_clock_source(found.trim()),
        Err(error) => Check::good(Area::System, "clock-source", format!("{file}: {error}"), matters)
            .but(Verdict::Unknown, "Nothing, if the figures of `cargo xtask bench` are well."),
    }
}

fn named_clock_source(name: &str) -> Check {
    let matters = "the price of every deadline and latency figure";
    let check = Check::good(Area::System, "clock-source", name, matters);
    if FAST_CLOCKS.contains(&name) {
        check
    } else {
        check.but(
            Verdict::Weak,
            "Boot with clocksource=tsc if the processor's counter is stable: others cost a system call.",
        )
    }
}

fn clock() -> Check {
    let now = jiff::Timestamp::now();
    let check = Check::good(Area::System, "clock", now.strftime("%FT%TZ").to_string(), "times in events and logs");
    if now.as_second() < EPOCH_OF_MORTISE {
        check.but(Verdict::Weak, "Set the clock, for example with chrony.")
    } else {
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        let verdict = |it: &str| kernel_release(it).verdict;
        assert_eq!(verdict("6.1.0-13-cloud-amd64"), Verdict::Good);
        assert_eq!(verdict("5.14.0"), Verdict::Good);
        assert_eq!(verdict("5.10.0-23-amd64"), Verdict::Weak);
        assert_eq!(verdict("4.19.0"), Verdict::Bad);
        assert_eq!(verdict("strange"), Verdict::Unknown);
    }

    #[test]
    fn slow_clocks_are_named() {
        assert_eq!(named_clock_source("tsc").verdict, Verdict::Good);
        let slow = named_clock_source("hpet");
        assert_eq!(slow.verdict, Verdict::Weak);
        assert!(slow.remedy.is_some());
    }

    #[test]
    fn without_systemd_something_else_must_restart_the_supervisor() {
        assert_eq!(systemd(true).verdict, Verdict::Good);
        assert!(systemd(false).remedy.is_some());
    }
}
