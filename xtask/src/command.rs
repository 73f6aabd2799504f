//! Running other programs: said before, checked after.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// The top folder of the checkout.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map_or_else(|| xtask.to_path_buf(), Path::to_path_buf)
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // What cargo has set for us is about this crate, and would be wrong for what we build.
    for (name, _) in std::env::vars_os() {
        let inherited = name.to_string_lossy().starts_with("CARGO_PKG_") || name == OsStr::new("CARGO_MANIFEST_DIR");
        if inherited {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| {
            let word = word.to_string_lossy();
            let name = Path::new(&*word).file_name().filter(|_| word.ends_with("/cargo"));
            name.map_or_else(|| word.clone().into_owned(), |name| name.to_string_lossy().into_owned())
        })
        .collect();
    words.join(" ")
}

/// Runs it to its end, output as it comes.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = shown(command);
    let status = command.status().map_err(|e| format!("{shown}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` ended with {status}").into()) }
}

/// Runs it to its end and returns what it printed; on failure the error has both streams.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{shown}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("`{shown}` ended with {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// Whether a program of that name is on the path.
pub fn is_there(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Makes sure that `program` is there: installs the Debian package that has it as root, else says which one it is.
pub fn debian(program: &str, package: &str) -> Result<(), Failure> {
    if is_there(program) {
        return Ok(());
    }
    let by_hand = format!("`{program}` is missing: install the package {package} (apt-get install {package})");
    if !nix::unistd::geteuid().is_root() || !is_there("apt-get") {
        return Err(by_hand.into());
    }
    println!("installing {package} for `{program}`");
    let apt = |words: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        output(&mut apt)
    };
    // A package list that is there may do; a fresh machine has none.
    if apt(&["install", "-y", "--no-install-recommends", package]).is_err() {
        apt(&["update"])?;
        apt(&["install", "-y", "--no-install-recommends", package]).map_err(|e| format!("{by_hand}\n{e}"))?;
    }
    Ok(())
}
