//! What `mortise new` makes builds, passes its own test, and answers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

fn new(parent: &Path, words: &[&str]) {
    let made = Command::new(env!("CARGO_BIN_EXE_mortise"))
        .arg("new")
        .args(words)
        .arg("--parent")
        .arg(parent)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The SDK of this checkout.
fn sdk() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../module-runtime")
}

#[test]
fn a_module_with_the_sdk_builds_and_passes_its_test() {
    let parent = tempfile::tempdir().unwrap();
    new(parent.path(), &["greeter", "--sdk-path", sdk().to_str().unwrap()]);
    let folder = parent.path().join("greeter");
    // The versions that are here already, built the way they are built here: nothing is downloaded, and little is built anew.
    std::fs::copy(sdk().join("../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let tested = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--quiet", "--target-dir"])
        .arg(target)
        .current_dir(&folder)
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_DEV_SPLIT_DEBUGINFO", "unpacked")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{out}{}", String::from_utf8_lossy(&tested.stderr));
    assert!(out.contains("1 passed"), "{out}");
}

#[test]
fn an_http_module_answers_on_the_socket_that_it_inherits() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no python3");
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    new(parent.path(), &["hello", "--kind", "http"]);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // The shell gives the listener the number 3 that systemd's protocol says.
    let script = format!("exec 3<&{}; exec python3 server.py", listener.as_raw_fd());
    let flags = nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()));
    flags.unwrap();
    let mut server = Command::new("sh")
        .args(["-c", &script])
        .current_dir(parent.path().join("hello"))
        .env("LISTEN_FDS", "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ask = |path: &str| {
        // The listener is bound already: connections wait until the program accepts.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    let answers = [ask("/hello/healthz"), ask("/hello/")];
    server.kill().unwrap();
    server.wait().unwrap();
    let [health, hello] = answers.map(Result::unwrap);
    assert!(health.starts_with("HTTP/1.1 200 OK") && health.ends_with("well\n"), "{health}");
    assert!(hello.ends_with("hello from hello\n"), "{hello}");
}
