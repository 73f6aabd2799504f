//! What an attacker sees and reaches beyond itself: nothing.

use crate::scene::{Attack, Scene};

/// What each attempt may come to. One of several where kernels differ.
const EXPECTED: &[(&str, &[&str])] = &[
    ("the state directory", &["ENOENT"]),
    ("the run directory", &["ENOENT"]),
    ("the admin socket's file", &["ENOENT"]),
    ("the supervisor's executable", &["ENOENT"]),
    ("its own executable", &["ETXTBSY", "EROFS", "EACCES"]),
    ("its own executable by name", &["ETXTBSY", "EROFS", "EACCES"]),
    ("its own executable's name", &["EROFS", "EACCES"]),
    ("its own module.toml", &["EROFS", "EACCES"]),
    ("a file beside its executable", &["EROFS", "EACCES"]),
    ("its control socket's name", &["EROFS", "EACCES"]),
    ("its first process's root", &["its own root", "EACCES"]),
    ("its working folder's root", &["its own root", "EACCES"]),
    ("a link out of /tmp", &["ENOENT"]),
    ("a hard link to a program of the host", &["EXDEV", "EACCES", "EPERM"]),
    ("/sys", &["ENOENT"]),
    ("/dev/mem", &["ENOENT"]),
    ("/dev/kmsg", &["ENOENT"]),
    ("a device of its own", &["EPERM", "EACCES"]),
    ("the core pattern", &["EACCES", "EROFS", "EPERM"]),
    ("sysrq", &["EACCES", "EROFS", "EPERM", "ENOENT"]),
    ("the kernel's memory", &["EACCES", "EPERM", "ENOENT"]),
    ("its boot record", &["EPERM", "EACCES"]),
    ("its groups", &["its own root"]),
    ("other processes", &["0"]),
    ("the supervisor's folder in /proc", &["ENOENT"]),
    ("the supervisor's memory", &["ENOENT"]),
    ("a signal to the supervisor", &["ESRCH"]),
    ("a pidfd of the supervisor", &["ESRCH"]),
    ("a limit of the supervisor", &["ESRCH"]),
    ("the victim's folder in /proc", &["ENOENT"]),
    ("the victim's memory", &["ENOENT"]),
    ("a signal to the victim", &["ESRCH"]),
    ("a pidfd of the victim", &["ESRCH"]),
    ("a limit of the victim", &["ESRCH"]),
    ("a signal to everybody", &["ESRCH", "EPERM"]),
    ("ptrace", &["EPERM"]),
    ("another's memory", &["EPERM"]),
    ("another's descriptor", &["EPERM"]),
    ("the admin socket", &["ENOENT"]),
    ("the admin socket beside its own", &["ENOENT"]),
    ("an abstract socket", &["ECONNREFUSED", "EPERM"]),
    ("the ingress", &["ECONNREFUSED"]),
    ("the outer network", &["ENETUNREACH"]),
    ("a packet socket", &["EAFNOSUPPORT"]),
    ("a raw socket", &["EPERM"]),
    ("a vsock socket", &["EAFNOSUPPORT"]),
    ("a socket of the kernel's cryptography", &["EAFNOSUPPORT"]),
    ("a namespace of its own", &["EPERM"]),
    ("a mount", &["EPERM"]),
    ("the other root", &["EPERM"]),
    ("a key", &["EPERM"]),
    ("bpf", &["EPERM"]),
    ("io_uring", &["EPERM"]),
    ("userfaultfd", &["EPERM"]),
    ("a kernel module", &["EPERM"]),
    ("a file by its number", &["EPERM"]),
    ("the clock", &["EPERM"]),
    ("the host's name", &["EPERM"]),
    ("the user 0", &["EPERM", "EINVAL"]),
    ("a real-time priority", &["EPERM"]),
    ("a better nice value", &["EACCES", "EPERM"]),
    ("input for a terminal", &["EPERM"]),
    ("a queue of the host's asynchronous I/O", &["ENOSYS"]),
    ("more descriptors", &["EPERM"]),
    ("a better place before the memory killer", &["EACCES", "EPERM"]),
    ("its executable's descriptor, opened again", &["ETXTBSY", "EROFS", "EACCES"]),
];

pub fn an_attacker_reaches_nothing_but_its_own() {
    let scene = Scene::set();
    let daemon = &scene.world.daemon;
    let path = |below: &str| daemon.folder().join(below).display().to_string();
    let program = std::fs::read_link(format!("/proc/{}/exe", daemon.pid())).expect("the supervisor's executable");
    let victim = scene.world.worker("unruly")["pid"].to_string();
    let arguments = [
        daemon.socket().display().to_string(),
        path("state"),
        path("run"),
        program.display().to_string(),
        scene.world.ingress.port().to_string(),
        daemon.pid().to_string(),
        victim,
    ];
    scene.attack(&Attack { arguments: &arguments, ..Attack::new("looks-around") });
    let log = scene.log_with("found everything: tried");
    let wrong: Vec<String> = EXPECTED
        .iter()
        .filter_map(|(what, expected)| {
            let found = Scene::found(&log, what);
            (!expected.contains(&found.as_str())).then(|| format!("{what}: {found}, expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let tried = log.lines().filter(|it| it.contains("found ")).count();
    assert_eq!(tried, EXPECTED.len() + 1, "every attempt has its expectation:\n{log}");
    scene.end();
}
